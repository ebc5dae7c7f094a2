"""The ranking: everything that is said about the algorithms once their test runs are finished."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, median
from typing import Any, TypeVar

import numpy as np

from ..decisions.track import Run, Stage, Track, Trial
from ..runs.cell import Cell, CellResult
from ..study.seeds import RunSeed, stream_seed
from . import statistics
from .metrics import area_under_curve, score_after
from .statistics import Estimate, Profile, Scores

RANKING_SCHEMA = 2
REFERENCES = ("trpo", "ppo")

Line = TypeVar("Line", "Ranked", "RankedForAll")

TIME_FIELDS = frozenset({"seconds", "steps_per_second", "score_at_equal_seconds", "equal_seconds"})
"""Keys of ``ranking.json``, at any depth, that depend on how fast the machine was; nothing else does."""

_TAUS = 101
"""Thresholds of the performance profiles."""


@dataclass(frozen=True)
class Ranked:
    """One line of the ranking. Scores are normalised unless called raw.

    :param algorithm: algorithm id
    :param rank: from 1; equal IQM and mean share a rank
    :param iqm: interquartile mean of the test runs, with its interval
    :param mean: mean of the test runs
    :param area_under_curve: IQM of the areas under the test runs' learning curves
    :param score_at_equal_seconds: IQM of the scores that the test runs had after ``equal_seconds`` of
        :class:`Ranking`; None where some environment has no finished run
    :param rank_probabilities: share of the resamplings in which it is first, second, ...
    :param probability_of_improvement: over trpo and over ppo; None where that is the algorithm itself
        or was not ranked
    :param difference_from_trpo: IQM minus TRPO's
    :param holm_p_value_vs_trpo: of that difference, corrected for the number of algorithms compared with TRPO
    :param separable_from_trpo: whether the interval of that difference excludes 0
    :param difference_from_ppo: IQM minus PPO's
    :param separable_from_ppo: whether the interval of that difference excludes 0
    :param seconds: mean training time of a test run
    :param steps_per_second: training steps of all test runs over their training time
    :param trials: run, pruned and failed, over all environments
    :param failed_test_runs: they count with the floor
    :param scores: environment -> test runs: seed, status, raw and normalised score, cell key
    :param best: environment -> the chosen trial: number, tuning value, validation value (None where there was
        nothing to choose), entry
    """

    algorithm: str
    rank: int
    iqm: Estimate
    mean: float
    area_under_curve: Estimate
    score_at_equal_seconds: Estimate | None
    rank_probabilities: list[float]
    probability_of_improvement: dict[str, Estimate | None]
    difference_from_trpo: Estimate | None
    holm_p_value_vs_trpo: float | None
    separable_from_trpo: bool | None
    difference_from_ppo: Estimate | None
    separable_from_ppo: bool | None
    seconds: float | None
    steps_per_second: float | None
    trials: dict[str, int]
    failed_test_runs: int
    scores: dict[str, list[dict[str, Any]]]
    best: dict[str, dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """The fields of ``ranking.json``."""
        return _with_flat_iqm(asdict(self))


@dataclass(frozen=True)
class RankedForAll:
    """One line of the view with one configuration for all environments.

    :param algorithm: algorithm id
    :param rank: from 1; equal IQM and mean share a rank
    :param iqm: interquartile mean of the test runs, with its interval
    :param mean: mean of the test runs
    :param origin: where the configuration comes from
    :param params: the point of the search space
    :param scores: environment -> test runs, as in :class:`Ranked`
    """

    algorithm: str
    rank: int
    iqm: Estimate
    mean: float
    origin: str
    params: dict[str, Any]
    scores: dict[str, list[dict[str, Any]]]

    def as_json(self) -> dict[str, Any]:
        """The fields of ``ranking.json``."""
        return _with_flat_iqm(asdict(self))


@dataclass(frozen=True)
class Ranking:
    """A finished study.

    :param protocol: everything that decided the numbers
    :param lines: best first
    :param not_separable_from_first: algorithms of lower ranks for which the interval of the first one's lead covers 0
    :param one_for_all: likewise with one configuration of each algorithm for all environments; None in a study
        without tuning, which has nothing to choose from
    :param profiles: algorithm -> performance profile over ``taus``
    :param taus: normalised scores
    :param equal_seconds: environment -> the shortest of the algorithms' median training times of a test run: what
        every algorithm had; None where no run finished
    :param curves: environment -> algorithm -> test runs: seed and points of the learning curve, raw scores
    :param failures: every failed run that a decision or a number rests on
    :param warnings: what a reader must know before quoting a number
    """

    protocol: dict[str, Any]
    lines: list[Ranked]
    not_separable_from_first: list[str]
    one_for_all: list[RankedForAll] | None
    taus: list[float]
    profiles: dict[str, Profile]
    equal_seconds: dict[str, float | None]
    curves: dict[str, dict[str, list[dict[str, Any]]]]
    failures: list[dict[str, Any]]
    warnings: list[str]

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        first = [line for line in self.lines if line.rank == 1]
        others = [line.algorithm for line in self.lines if line.rank > 1]
        names = " and ".join(line.algorithm for line in first)
        head = f"{names} {'ranks' if len(first) == 1 else 'rank'} first (IQM {interval_text(first[0].iqm)})"
        if len(first) > 1 or not others:
            return f"{head}."
        close = self.not_separable_from_first
        if not close:
            return f"{head} and is separable from {_listed(others) if len(others) < 3 else 'every other algorithm'}."
        apart = [name for name in REFERENCES if name in others and name not in close]
        if apart:
            return f"{head} and is separable from {_listed(apart)}, not from {_listed(close)}."
        return f"{head} and is not separable from {_listed(close)}."

    def as_json(self) -> dict[str, Any]:
        """The content of ``ranking.json``."""
        return {
            "schema_version": RANKING_SCHEMA,
            "verdict": self.verdict,
            "ranking": [line.as_json() for line in self.lines],
            "not_separable_from_first": self.not_separable_from_first,
            "warnings": self.warnings,
            "one_for_all": None if self.one_for_all is None else [line.as_json() for line in self.one_for_all],
            "performance_profiles": {
                "taus": self.taus,
                "algorithms": {algorithm: asdict(profile) for algorithm, profile in self.profiles.items()},
            },
            "equal_seconds": self.equal_seconds,
            "curves": self.curves,
            "failures": self.failures,
            "protocol": self.protocol,
        }


def _listed(names: Sequence[str]) -> str:
    """``trpo, ppo and espo``: the baselines first; of more than four, three and the number of the rest."""
    shown = sorted(names, key=lambda name: name not in REFERENCES)
    if len(shown) > 4:
        shown = [*shown[:3], f"{len(shown) - 3} others"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _with_flat_iqm(content: dict[str, Any]) -> dict[str, Any]:
    iqm = content.pop("iqm")
    head = {"algorithm": content["algorithm"], "rank": content["rank"], "iqm": iqm["value"]}
    return {**head, "ci_low": iqm["ci_low"], "ci_high": iqm["ci_high"], **content}


def interval_text(estimate: Estimate | None) -> str:
    """``0.81 [0.77, 0.85]``, the value alone where there is no interval, or a dash."""
    if estimate is None:
        return "-"
    low, high = estimate.ci_low, estimate.ci_high
    interval = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    return f"{estimate.value:.2f}{interval}"


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
    limits = _equal_seconds(tracks)
    lines = [_line(algorithm, own, scores, limits, seed) for algorithm, own in by_algorithm.items()]
    lines = _in_order(_with_joint_statistics(lines, scores, seed))
    taus = _taus(scores)
    return Ranking(
        protocol=protocol,
        lines=lines,
        not_separable_from_first=_close_to_first(lines, scores, seed),
        one_for_all=_one_for_all(by_algorithm, seed) if protocol["budget"]["trials"] else None,
        taus=taus,
        profiles={
            algorithm: statistics.performance_profile(own, taus, stream_seed(seed, "bootstrap", algorithm, "profile"))
            for algorithm, own in scores.items()
        },
        equal_seconds=limits,
        curves=_curves(tracks),
        failures=[failure for track in tracks for failure in _failures(track)],
        warnings=_warnings(protocol, lines),
    )


def tested(track: Track) -> list[CellResult]:
    """The finished test runs of ``track``."""
    return [result for result in track.test_results if result is not None]


def chosen(track: Track) -> Trial:
    """The trial that ``track`` tested."""
    if track.winner is None:
        raise ValueError(f"{track.algorithm} on {track.env_id} has no winner yet")
    return track.winner


def _scores(tracks: Sequence[Track]) -> Scores:
    return [np.array([track.normalised(result) for result in tested(track)]) for track in tracks]


def _equal_seconds(tracks: Sequence[Track]) -> dict[str, float | None]:
    limits: dict[str, float | None] = {}
    for track in tracks:
        seconds = [result.seconds for result in tested(track) if result.status == "ok"]
        known = [number for number in (limits.get(track.env_id), median(seconds) if seconds else None) if number]
        limits[track.env_id] = min(known, default=None)
    return limits


def _line(
    algorithm: str,
    tracks: list[Track],
    scores: Mapping[str, Scores],
    limits: Mapping[str, float | None],
    seed: int,
) -> Ranked:
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
    difference = {
        name: statistics.iqm_difference(own, others[name], stream("difference", name)) if name in others else None
        for name in REFERENCES
    }
    separable = {name: None if value is None else value.excludes(0.0) for name, value in difference.items()}
    results = [result for track in tracks for result in tested(track)]
    finished = [result for result in results if result.status == "ok"]
    seconds = sum(result.seconds for result in finished)
    return Ranked(
        algorithm=algorithm,
        rank=0,
        iqm=statistics.iqm(own, stream("iqm")),
        mean=fmean(float(value) for sample in own for value in sample),
        area_under_curve=statistics.iqm(_areas(tracks), stream("area")),
        score_at_equal_seconds=_at_equal_seconds(tracks, limits, stream("equal seconds")),
        rank_probabilities=[],
        probability_of_improvement=improvement,
        difference_from_trpo=difference["trpo"],
        holm_p_value_vs_trpo=None,
        separable_from_trpo=separable["trpo"],
        difference_from_ppo=difference["ppo"],
        separable_from_ppo=separable["ppo"],
        seconds=seconds / len(finished) if finished else None,
        steps_per_second=sum(result.steps for result in finished) / seconds if seconds else None,
        trials=_trial_counts(tracks),
        failed_test_runs=len(results) - len(finished),
        scores={track.env_id: _runs(track) for track in tracks},
        best={track.env_id: _best(track) for track in tracks},
    )


def _areas(tracks: Sequence[Track]) -> Scores:
    return [
        np.array([area_under_curve(result, track.scale, track.steps) for result in tested(track)]) for track in tracks
    ]


def _at_equal_seconds(tracks: Sequence[Track], limits: Mapping[str, float | None], seed: int) -> Estimate | None:
    samples = []
    for track in tracks:
        limit = limits[track.env_id]
        if limit is None:
            return None
        samples.append(np.array([score_after(result, track.scale, limit) for result in tested(track)]))
    return statistics.iqm(samples, seed)


def _with_joint_statistics(lines: Sequence[Ranked], scores: Mapping[str, Scores], seed: int) -> list[Ranked]:
    """Add what needs all algorithms at once: rank probabilities, and p-values corrected for their number."""
    ranks = statistics.rank_probabilities(scores, stream_seed(seed, "bootstrap", "ranks"))
    p_values: dict[str, float] = {}
    if "trpo" in scores:
        p_values = statistics.holm(
            {
                name: statistics.permutation_p_value(own, scores["trpo"], stream_seed(seed, "permutation", name))
                for name, own in scores.items()
                if name != "trpo"
            }
        )
    return [
        replace(
            line,
            rank_probabilities=ranks[line.algorithm],
            holm_p_value_vs_trpo=p_values.get(line.algorithm),
        )
        for line in lines
    ]


def _close_to_first(lines: Sequence[Ranked], scores: Mapping[str, Scores], seed: int) -> list[str]:
    """Algorithms of lower ranks that the first is not separable from, by the numbers of the table where it has them."""
    first, close = lines[0].algorithm, []
    for line in (line for line in lines if line.rank > 1):
        separable = {"trpo": line.separable_from_trpo, "ppo": line.separable_from_ppo}.get(first)
        if separable is None:
            stream = stream_seed(seed, "bootstrap", first, "difference", line.algorithm)
            separable = statistics.iqm_difference(scores[first], scores[line.algorithm], stream).excludes(0.0)
        if not separable:
            close.append(line.algorithm)
    return close


def _taus(scores: Mapping[str, Scores]) -> list[float]:
    """Evenly spaced from the random policy, or the worst run, to the reference, or the best run."""
    everything = [float(value) for own in scores.values() for sample in own for value in sample]
    low, high = min(0.0, *everything), max(1.0, *everything)
    return [float(tau) for tau in np.linspace(low, high, _TAUS)]


def _trial_counts(tracks: Sequence[Track]) -> dict[str, int]:
    trials = [trial for track in tracks for trial in track.trials]
    pruned = sum(track.pruned for track in tracks)
    return {"run": len(trials), "pruned": pruned, "failed": sum(trial.failed for trial in trials)}


def _runs(track: Track) -> list[dict[str, Any]]:
    return [_run(track, cell, result) for cell, result in zip(track.test_cells(), tested(track), strict=True)]


def _run(track: Track, cell: Cell, result: CellResult) -> dict[str, Any]:
    return {
        "seed": cell.seed,
        "status": result.status,
        "reason": result.reason,
        "raw": result.score,
        "normalised": track.normalised(result),
        "cell": cell.key,
    }


def _one_for_all(by_algorithm: Mapping[str, Sequence[Track]], seed: int) -> list[RankedForAll]:
    lines = []
    for algorithm, tracks in by_algorithm.items():
        origin, params, scores = _chosen_for_all(tracks)
        sample = [np.array([run["normalised"] for run in runs]) for runs in scores.values()]
        stream = stream_seed(seed, "bootstrap", algorithm, "one for all")
        mean = fmean(float(value) for values in sample for value in values)
        lines.append(RankedForAll(algorithm, 0, statistics.iqm(sample, stream), mean, origin, params, scores))
    return _in_order(lines)


def _chosen_for_all(tracks: Sequence[Track]) -> tuple[str, dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Origin, parameters and test runs; where there is one environment, those of its winner."""
    first, view = tracks[0], tracks[0].one_for_all
    if view is None or view.chosen is None:
        return f"winner on {first.env_id}", chosen(first).params, {first.env_id: _runs(first)}
    scores = {track.env_id: [_run(track, *pair) for pair in view.tested(track)] for track in tracks}
    return view.chosen.origin, view.chosen.params, scores


def _curves(tracks: Sequence[Track]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    curves: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for track in tracks:
        curves.setdefault(track.env_id, {})[track.algorithm] = [
            {"seed": cell.seed, "points": [point.model_dump() for point in result.curve]}
            for cell, result in zip(track.test_cells(), tested(track), strict=True)
        ]
    return curves


def _failures(track: Track) -> list[dict[str, Any]]:
    seeds = track.seeds
    runs: list[tuple[Stage, int, str]] = []
    for trial in track.trials:
        runs += _failed("tuning", seeds.tuning, trial.runs)
    for trial in track.candidates:
        runs += _failed("validation", seeds.validation, trial.validation)
    runs += _failed("test", seeds.test, [track.run(result) for result in tested(track)])
    if track.one_for_all is not None:
        for candidate in track.one_for_all.candidates:
            runs += _failed("one for all: validation", seeds.validation, track.one_for_all.validation(track, candidate))
        together = [track.run(result) for _, result in track.one_for_all.tested(track)]
        runs += _failed("one for all: test", seeds.test, together)
    where = {"algorithm": track.algorithm, "environment": track.env_id}
    return [{**where, "stage": stage, "seed": seed, "reason": reason} for stage, seed, reason in runs]


def _failed(stage: Stage, seeds: Sequence[RunSeed], runs: Sequence[Run | None]) -> list[tuple[Stage, int, str]]:
    return [
        (stage, seed.training, run.reason)
        for seed, run in zip(seeds, runs, strict=False)  # of a trial that was pruned the last runs are missing
        if run is not None and run.failed
    ]


def _best(track: Track) -> dict[str, Any]:
    trial = chosen(track)
    return {
        "trial": trial.number,
        "tuning_value": trial.value,
        "validation_value": trial.validation_value,
        "entry": trial.entry,
    }


def _in_order(lines: Sequence[Line]) -> list[Line]:
    """Best first, with their ranks."""
    ordered = sorted(lines, key=lambda line: (line.iqm.value, line.mean), reverse=True)
    values = [(line.iqm.value, line.mean) for line in ordered]
    return [replace(line, rank=values.index(value) + 1) for line, value in zip(ordered, values, strict=True)]


def _warnings(protocol: Mapping[str, Any], lines: Sequence[Ranked]) -> list[str]:
    warnings = []
    seeds = protocol["budget"]["test_seeds"]
    if seeds < statistics.FEW_SEEDS:
        warnings.append(f"Only {seeds} test seeds: the intervals are too narrow ({statistics.COVERAGE}).")
    failed = {line.algorithm: line.failed_test_runs for line in lines if line.failed_test_runs}
    for algorithm, number in failed.items():
        fate = "run of {} failed and counts" if number == 1 else "runs of {} failed and count"
        warnings.append(f"{number} test {fate.format(algorithm)} with the floor.")
    return warnings
