"""The files that a finished study leaves: ``ranking.json``, ``ranking.csv``, ``ranking.md`` and ``best.yml``."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from ..decisions.track import Track
from ..runs.files import write_atomically
from .results import REFERENCES, Ranked, Ranking, chosen, interval_text, tested
from .statistics import Estimate


def write_results(folder: Path, ranking: Ranking, tracks: Sequence[Track]) -> None:
    """Write ``ranking.json``, ``ranking.csv``, ``ranking.md`` and ``best.yml``.

    :param folder: of the study
    :param ranking: the finished ranking
    :param tracks: what it was made from
    :raises OSError: the file system refused; each file is then the old or the new one
    """
    write_atomically(folder / "best.yml", best_yml(ranking.protocol, tracks))
    write_atomically(folder / "ranking.csv", ranking_csv(ranking))
    write_atomically(folder / "ranking.md", ranking_md(ranking))
    write_atomically(folder / "ranking.json", json.dumps(ranking.as_json(), indent=1, allow_nan=False) + "\n")


def best_yml(protocol: Mapping[str, Any], tracks: Sequence[Track]) -> str:
    """Algorithm -> environment -> zoo entry, each with where it comes from."""
    text = f"# Chosen by the study {protocol['study']} (seed {protocol['seed']}). Versions: "
    text += ", ".join(f"{name} {version}" for name, version in protocol["versions"].items()) + ".\n"
    algorithm = ""
    for track in tracks:
        if track.algorithm != algorithm:
            algorithm = track.algorithm
            text += f"\n{algorithm}:\n"
        entry = yaml.safe_dump({track.env_id: chosen(track).entry}, sort_keys=False, default_flow_style=False)
        lines = [f"# {line}" for line in _provenance(track)] + entry.splitlines()
        text += "".join(f"  {line}\n" for line in lines)
    return text


def _provenance(track: Track) -> list[str]:
    trial, budget = chosen(track), track.study.budget
    scores = [result.score for result in tested(track) if result.score is not None]
    lines = ["the registered configuration" if trial.number == 0 else f"trial {trial.number} of {budget.trials}"]
    if trial.value is not None:
        lines.append(f"tuning: normalised score {trial.value:.3f} over {budget.tuning_seeds} seeds")
    if trial.validation_value is not None:
        lines.append(f"validation: normalised score {trial.validation_value:.3f} over {budget.validation_seeds} seeds")
    lines.append(
        f"test: mean return {fmean(scores):.6g} over {len(scores)} seeds" if scores else "test: all runs failed"
    )
    return [f"{lines[0]}; runs of {track.steps} steps", *lines[1:]]


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
    row |= {"holm_p_value_vs_trpo": line.holm_p_value_vs_trpo, "separable_from_trpo": line.separable_from_trpo}
    row |= _flat("difference_from_ppo", line.difference_from_ppo)
    row |= {"separable_from_ppo": line.separable_from_ppo}
    row |= _flat("area_under_curve", line.area_under_curve)
    row |= _flat("score_at_equal_seconds", line.score_at_equal_seconds)
    row |= {"seconds": line.seconds}
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
        interval_text(line.iqm),
        *(interval_text(line.probability_of_improvement[name]) for name in REFERENCES),
        {True: "yes", False: "no", None: "-"}[line.separable_from_trpo],
        "-" if line.steps_per_second is None else f"{line.steps_per_second:,.0f}",
    ]


def ranking_md(ranking: Ranking) -> str:
    """The ranking for people: table, warnings, every seed's score, protocol."""
    protocol = ranking.protocol
    header = (*TABLE_HEADER, *_MORE_HEADER)
    rows = [[*table_row(line), *_more_columns(line)] for line in ranking.lines]
    parts = [f"# Ranking: {protocol['study']}", ranking.verdict, _markdown_table(header, rows)]
    parts += [f"> {warning}" for warning in ranking.warnings]
    parts.append(
        "Scores are normalised (random policy 0, reference 1). IQM is the interquartile mean over the test runs, in "
        "brackets its 95 % interval (stratified bootstrap). P > trpo is the chance that a run beats one of TRPO, "
        "ties half. ≠ trpo: the interval of the difference of the IQMs excludes 0, the two are separable; p is that "
        "of a permutation test, with Holm's correction. Area: mean score over the training steps. Equal seconds: score "
        "once every algorithm had as much training time as the fastest needs for all steps."
    )
    if ranking.one_for_all is not None and len(protocol["environments"]) > 1:
        rows = [[str(line.rank), line.algorithm, interval_text(line.iqm), line.origin] for line in ranking.one_for_all]
        table = _markdown_table(("rank", "algorithm", "IQM", "configuration"), rows)
        parts += ["## One configuration for all environments", table]
    parts.append("## Every test run (raw mean return)")
    for env_id in protocol["environments"]:
        seeds = ("algorithm", *(str(seed["training"]) for seed in protocol["seeds"]["test"]))
        rows = [[line.algorithm, *map(_raw, line.scores[env_id])] for line in ranking.lines]
        parts += [f"### {env_id}", _markdown_table(seeds, rows)]
    parts += ["## Protocol", "```yaml\n" + yaml.safe_dump(protocol, sort_keys=False) + "```"]
    return "\n\n".join(parts) + "\n"


_MORE_HEADER = (
    "p (trpo)", "mean", "area", "equal seconds", "seconds a run", "trials", "pruned", "failed trials",
    "failed test runs",
)  # fmt: skip


def _more_columns(line: Ranked) -> list[str]:
    p_value = "-" if line.holm_p_value_vs_trpo is None else f"{line.holm_p_value_vs_trpo:.3f}"
    estimates = [interval_text(line.area_under_curve), interval_text(line.score_at_equal_seconds)]
    seconds = "-" if line.seconds is None else f"{line.seconds:.1f}"
    counts = (line.trials["run"], line.trials["pruned"], line.trials["failed"], line.failed_test_runs)
    return [p_value, f"{line.mean:.2f}", *estimates, seconds, *map(str, counts)]


def _raw(run: Mapping[str, Any]) -> str:
    return f"failed: {run['reason']}" if run["raw"] is None else f"{run['raw']:.6g}"


def _markdown_table(header: Sequence[str], rows: Any) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
