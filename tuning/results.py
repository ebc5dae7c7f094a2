"""The ranking and the files it is written to."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import yaml

from . import statistics
from .cell import CellResult
from .files import write_atomically
from .seeds import stream_seed
from .statistics import Estimate, Scores
from .track import Track, Trial

RANKING_SCHEMA = 1
REFERENCES = ("trpo", "ppo")


@dataclass(frozen=True)
class Ranked:
    """One line of the ranking. Scores are normalised unless called raw.

    :param algorithm: algorithm id
    :param rank: from 1; equal IQM and mean share a rank
    :param iqm: interquartile mean of the test runs, with its interval
    :param mean: mean of the test runs
    :param probability_of_improvement: over trpo and over ppo; None where that is the algorithm itself
        or was not ranked
    :param difference_from_trpo: IQM minus TRPO's
    :param separable_from_trpo: whether the interval of that difference excludes 0
    :param seconds: mean training time of a test run
    :param steps_per_second: training steps of all test runs over their training time
    :param trials: run, pruned and failed, over all environments
    :param failed_test_runs: they count with the floor
    :param scores: environment -> test runs: seed, status, raw and normalised score, cell key
    :param best: environment -> the chosen trial: number, tuning value, entry
    """

    algorithm: str
    rank: int
    iqm: Estimate
    mean: float
    probability_of_improvement: dict[str, Estimate | None]
    difference_from_trpo: Estimate | None
    separable_from_trpo: bool | None
    seconds: float | None
    steps_per_second: float | None
    trials: dict[str, int]
    failed_test_runs: int
    scores: dict[str, list[dict[str, Any]]]
    best: dict[str, dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """The fields of ``ranking.json``."""
        content = asdict(self)
        iqm = content.pop("iqm")
        head = {"algorithm": self.algorithm, "rank": self.rank, "iqm": iqm["value"]}
        return {**head, "ci_low": iqm["ci_low"], "ci_high": iqm["ci_high"], **content}


@dataclass(frozen=True)
class Ranking:
    """A finished study.

    :param protocol: everything that decided the numbers
    :param lines: best first
    :param warnings: what a reader must know before quoting a number
    """

    protocol: dict[str, Any]
    lines: list[Ranked]
    warnings: list[str]


def make_ranking(tracks: Sequence[Track], protocol: dict[str, Any], seed: int) -> Ranking:
    """Rank the algorithms by the IQM of their test runs.

    :param tracks: all finished
    :param protocol: of the study
    :param seed: of the study; each bootstrap has its own stream
    """
    by_algorithm: dict[str, list[Track]] = {}
    for track in tracks:
        by_algorithm.setdefault(track.algorithm, []).append(track)
    scores = {algorithm: _scores(own) for algorithm, own in by_algorithm.items()}
    lines = [_line(algorithm, own, scores, seed) for algorithm, own in by_algorithm.items()]
    lines.sort(key=lambda line: (line.iqm.value, line.mean), reverse=True)
    return Ranking(protocol, _with_ranks(lines), _warnings(protocol, lines))


def _scores(tracks: Sequence[Track]) -> Scores:
    return [np.array([track.normalised(result) for result in _tested(track)]) for track in tracks]


def _tested(track: Track) -> list[CellResult]:
    return [result for result in track.test_results if result is not None]


def _line(algorithm: str, tracks: list[Track], scores: Mapping[str, Scores], seed: int) -> Ranked:
    own = scores[algorithm]

    def stream(*labels: str) -> int:
        return stream_seed(seed, "bootstrap", algorithm, *labels)

    others = {name: scores[name] for name in REFERENCES if name in scores and name != algorithm}
    improvement = {
        name: statistics.probability_of_improvement(own, others[name], stream("improvement", name))
        if name in others
        else None
        for name in REFERENCES
    }
    difference = None
    if "trpo" in others:
        difference = statistics.iqm_difference(own, others["trpo"], stream("difference"))
    results = [result for track in tracks for result in _tested(track)]
    finished = [result for result in results if result.status == "ok"]
    seconds = sum(result.seconds for result in finished)
    return Ranked(
        algorithm=algorithm,
        rank=0,
        iqm=statistics.iqm(own, stream("iqm")),
        mean=fmean(float(value) for sample in own for value in sample),
        probability_of_improvement=improvement,
        difference_from_trpo=difference,
        separable_from_trpo=None if difference is None else difference.excludes(0.0),
        seconds=seconds / len(finished) if finished else None,
        steps_per_second=sum(result.steps for result in finished) / seconds if seconds else None,
        trials=_trial_counts(tracks),
        failed_test_runs=len(results) - len(finished),
        scores={track.env_id: _runs(track) for track in tracks},
        best={track.env_id: _best(track) for track in tracks},
    )


def _trial_counts(tracks: Sequence[Track]) -> dict[str, int]:
    trials = [trial for track in tracks for trial in track.trials]
    return {"run": len(trials), "pruned": 0, "failed": sum(trial.failed for trial in trials)}


def _runs(track: Track) -> list[dict[str, Any]]:
    return [
        {
            "seed": cell.seed,
            "status": result.status,
            "reason": result.reason,
            "raw": result.score,
            "normalised": track.normalised(result),
            "cell": cell.key,
        }
        for cell, result in zip(track.test_cells(), _tested(track), strict=True)
    ]


def _best(track: Track) -> dict[str, Any]:
    trial = _chosen(track)
    return {"trial": trial.number, "tuning_value": trial.value, "entry": trial.entry}


def _chosen(track: Track) -> Trial:
    if track.best is None:
        raise ValueError(f"{track.algorithm} on {track.env_id} has no finished trial")
    return track.best


def _with_ranks(lines: Sequence[Ranked]) -> list[Ranked]:
    values = [(line.iqm.value, line.mean) for line in lines]
    return [
        Ranked(**{**vars(line), "rank": values.index(value) + 1}) for line, value in zip(lines, values, strict=True)
    ]


def _warnings(protocol: Mapping[str, Any], lines: Sequence[Ranked]) -> list[str]:
    warnings = []
    seeds = protocol["budget"]["test_seeds"]
    if seeds < statistics.FEW_SEEDS:
        warnings.append(
            f"Only {seeds} test seeds: the intervals are too narrow "
            "(nominal 95 % covers 87-89 % at 3 seeds, 90 % at 5, 93-95 % at 10)."
        )
    failed = {line.algorithm: line.failed_test_runs for line in lines if line.failed_test_runs}
    for algorithm, number in failed.items():
        warnings.append(f"{number} test runs of {algorithm} failed and count with the floor.")
    return warnings


def write_results(folder: Path, ranking: Ranking, tracks: Sequence[Track]) -> None:
    """Write ``ranking.json``, ``ranking.csv``, ``ranking.md`` and ``best.yml``.

    :param folder: of the study
    :param ranking: the finished ranking
    :param tracks: what it was made from
    :raises OSError: the file system refused; each file is then the old or the new one
    """
    content = {
        "schema_version": RANKING_SCHEMA,
        "ranking": [line.as_json() for line in ranking.lines],
        "warnings": ranking.warnings,
        "protocol": ranking.protocol,
    }
    write_atomically(folder / "best.yml", best_yml(ranking.protocol, tracks))
    write_atomically(folder / "ranking.csv", ranking_csv(ranking))
    write_atomically(folder / "ranking.md", ranking_md(ranking))
    write_atomically(folder / "ranking.json", json.dumps(content, indent=1, allow_nan=False) + "\n")


def best_yml(protocol: Mapping[str, Any], tracks: Sequence[Track]) -> str:
    """Algorithm -> environment -> zoo entry, each with where it comes from."""
    text = f"# Chosen by the study {protocol['study']} (seed {protocol['seed']}). Versions: "
    text += ", ".join(f"{name} {version}" for name, version in protocol["versions"].items()) + ".\n"
    algorithm = ""
    for track in tracks:
        if track.algorithm != algorithm:
            algorithm = track.algorithm
            text += f"\n{algorithm}:\n"
        entry = yaml.safe_dump({track.env_id: _chosen(track).entry}, sort_keys=False, default_flow_style=False)
        lines = [f"# {line}" for line in _provenance(track)] + entry.splitlines()
        text += "".join(f"  {line}\n" for line in lines)
    return text


def _provenance(track: Track) -> list[str]:
    trial = _chosen(track)
    tested = [result.score for result in _tested(track) if result.score is not None]
    budget = track.study.budget
    steps = track.study.environments[track.env_id].steps
    origin = " (the registered configuration)" if trial.number == 0 else ""
    return [
        f"trial {trial.number} of {budget.trials}{origin}: normalised score {trial.value:.3f} "
        f"over {budget.tuning_seeds} tuning seeds of {steps} steps",
        f"test: mean return {fmean(tested):.6g} over {len(tested)} seeds" if tested else "test: every run failed",
    ]


def ranking_csv(ranking: Ranking) -> str:
    """One row for each algorithm; the last columns are every test run's raw score."""
    rows = [_csv_row(line) for line in ranking.lines]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _csv_row(line: Ranked) -> dict[str, Any]:
    row: dict[str, Any] = {"rank": line.rank, "algorithm": line.algorithm, **_flat("iqm", line.iqm), "mean": line.mean}
    for name, estimate in line.probability_of_improvement.items():
        row |= _flat(f"improvement_over_{name}", estimate)
    row |= _flat("difference_from_trpo", line.difference_from_trpo)
    row |= {"separable_from_trpo": line.separable_from_trpo, "seconds": line.seconds}
    row |= {"steps_per_second": line.steps_per_second}
    row |= {f"trials_{state}": number for state, number in line.trials.items()}
    row["failed_test_runs"] = line.failed_test_runs
    for env_id, runs in line.scores.items():
        row |= {f"{env_id} seed {run['seed']}": run["raw"] for run in runs}
    return row


def _flat(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:
        return {name: None, f"{name}_ci_low": None, f"{name}_ci_high": None}
    return {name: estimate.value, f"{name}_ci_low": estimate.ci_low, f"{name}_ci_high": estimate.ci_high}


TABLE_HEADER = ("rank", "algorithm", "IQM", "P > trpo", "P > ppo", "≠ trpo", "steps/s")


def table_row(line: Ranked) -> list[str]:
    """The cells of one line of the terminal's and the report's table."""
    return [
        str(line.rank),
        line.algorithm,
        _with_interval(line.iqm),
        *(_with_interval(line.probability_of_improvement[name]) for name in REFERENCES),
        {True: "yes", False: "no", None: "-"}[line.separable_from_trpo],
        "-" if line.steps_per_second is None else f"{line.steps_per_second:,.0f}",
    ]


def _with_interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    low, high = estimate.ci_low, estimate.ci_high
    interval = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    return f"{estimate.value:.2f}{interval}"


def ranking_md(ranking: Ranking) -> str:
    """The ranking for people: table, warnings, every seed's score, protocol."""
    protocol = ranking.protocol
    header = (*TABLE_HEADER, "mean", "seconds a run", "trials", "failed trials", "failed test runs")
    rows = [[*table_row(line), *_more_columns(line)] for line in ranking.lines]
    parts = [f"# Ranking: {protocol['study']}", _markdown_table(header, rows)]
    parts += [f"> {warning}" for warning in ranking.warnings]
    parts.append(
        "Scores are normalised (random policy 0, reference 1). IQM is the interquartile mean over the test runs, in "
        "brackets its 95 % interval (stratified bootstrap). P > trpo is the chance that a run beats one of TRPO, "
        "ties half. ≠ trpo: the interval of the difference of the IQMs excludes 0, the two are separable."
    )
    parts.append("## Every test run (raw mean return)")
    for env_id in protocol["environments"]:
        seeds = ("algorithm", *(str(seed["training"]) for seed in protocol["seeds"]["test"]))
        rows = [[line.algorithm, *map(_raw, line.scores[env_id])] for line in ranking.lines]
        parts += [f"### {env_id}", _markdown_table(seeds, rows)]
    parts += ["## Protocol", "```yaml\n" + yaml.safe_dump(protocol, sort_keys=False) + "```"]
    return "\n\n".join(parts) + "\n"


def _more_columns(line: Ranked) -> list[str]:
    seconds = "-" if line.seconds is None else f"{line.seconds:.1f}"
    counts = (line.trials["run"], line.trials["failed"], line.failed_test_runs)
    return [f"{line.mean:.2f}", seconds, *map(str, counts)]


def _raw(run: Mapping[str, Any]) -> str:
    return f"failed: {run['reason']}" if run["raw"] is None else f"{run['raw']:.6g}"


def _markdown_table(header: Sequence[str], rows: Any) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
