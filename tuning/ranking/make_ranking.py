"""From the decisions of a finished study to its ranking: which comparisons are made, and of what."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import Any, TypeVar

import numpy as np

from ..decisions.decisions import Decisions
from ..decisions.one_for_all import OneForAll
from ..decisions.track import Track
from ..study.seeds import stream_seed
from . import statistics
from .comparisons import DIFFERENCE, IMPROVEMENT, Figure, compared
from .metrics import area_under_curve, score_after
from .records import (
    best_record,
    chosen,
    curve_records,
    failure_records,
    not_run,
    run_record,
    run_records,
    tested,
    trial_counts,
)
from .results import REFERENCES, NotRun, Ranked, RankedForAll, Ranking, Tested
from .statistics import Estimate, Scores
from .taking_part import TakingPart, taking_part
from .wording import shortcomings, verdict, warnings

Line = TypeVar("Line", Ranked, RankedForAll)

_TAUS = 101
"""Thresholds of the performance profiles."""


def make_ranking(
    decisions: Decisions, protocol: dict[str, Any], seed: int, left_out: Mapping[str, str] | None = None
) -> Ranking:
    """Rank the algorithms by the IQM of their test runs.

    :param decisions: of the study, all made
    :param protocol: of the study
    :param seed: of the study; each bootstrap has its own stream
    :param left_out: algorithm -> why it was left out of the study
    """
    by_algorithm: dict[str, list[Track]] = {}
    for track in decisions.tracks:
        by_algorithm.setdefault(track.pair.algorithm, []).append(track)
    everybody = [_tested(algorithm, own) for algorithm, own in by_algorithm.items()]
    part = taking_part(by_algorithm)
    scores = {algorithm: _scores(own) for algorithm, own in part.tracks.items()}
    limits = _equal_seconds(decisions.tracks, part)
    lines = [_line(runs, part, scores, limits, seed) for runs in everybody if runs.algorithm in scores]
    lines = _in_order(_with_joint_statistics(lines, scores, seed))
    close = _close_to_first(lines, scores, seed)
    taus = _taus(scores)
    together = decisions.one_for_all
    budget = decisions.study.budget
    seeks_one = budget.trials and budget.one_for_all
    one_for_all, more_not_run = _one_for_all(part, together, seed) if seeks_one else (None, [])
    missing = [*part.not_run, *more_not_run]
    failures = [
        failure for track in decisions.tracks for failure in failure_records(track, together.get(track.pair.algorithm))
    ]
    return Ranking(
        protocol=protocol,
        verdict=verdict(lines, close, part.not_run, part.environments),
        lines=lines,
        environments=part.environments,
        unranked=[runs for runs in everybody if runs.algorithm not in scores],
        not_run=missing,
        left_out=dict(left_out or {}),
        not_separable_from_first=close,
        one_for_all=one_for_all,
        taus=taus,
        profiles={
            algorithm: statistics.performance_profile(own, taus, stream_seed(seed, "bootstrap", "profile"))
            for algorithm, own in scores.items()
        },
        equal_seconds=limits,
        curves=curve_records(decisions.tracks),
        failures=failures,
        warnings=[*warnings(protocol, lines, part.environments), *shortcomings(missing, failures, left_out or {})],
    )


def _tested(algorithm: str, tracks: Sequence[Track]) -> Tested:
    return Tested(
        algorithm=algorithm,
        trials=trial_counts(tracks),
        failed_test_runs=sum(result.status == "failed" for track in tracks for result in tested(track)),
        scores={track.pair.env_id: run_records(track) for track in tracks},
        best={track.pair.env_id: best_record(track) for track in tracks},
    )


def _scores(tracks: Sequence[Track]) -> Scores:
    return [np.array([track.pair.normalised(result) for result in tested(track)]) for track in tracks]


def _equal_seconds(tracks: Sequence[Track], part: TakingPart) -> dict[str, float | None]:
    limits: dict[str, float | None] = dict.fromkeys((track.pair.env_id for track in tracks), None)
    for track in (track for own in part.tracks.values() for track in own):
        seconds = [result.seconds for result in tested(track) if result.status == "ok"]
        known = [number for number in (limits.get(track.pair.env_id), median(seconds) if seconds else None) if number]
        limits[track.pair.env_id] = min(known, default=None)
    return limits


def _line(
    runs: Tested,
    part: TakingPart,
    scores: Mapping[str, Scores],
    limits: Mapping[str, float | None],
    seed: int,
) -> Ranked:
    algorithm = runs.algorithm
    own, tracks = scores[algorithm], part.tracks[algorithm]

    def stream(label: str) -> int:
        return stream_seed(seed, "bootstrap", label)

    improvement = _against_references(IMPROVEMENT, algorithm, scores, seed)
    difference = _against_references(DIFFERENCE, algorithm, scores, seed)
    separable = {name: None if value is None else value.excludes(0.0) for name, value in difference.items()}
    finished = [result for track in tracks for result in tested(track) if result.status == "ok"]
    seconds = sum(result.seconds for result in finished)
    return Ranked(
        **vars(runs),
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
        seconds=seconds / len(finished),
        steps_per_second=sum(result.steps for result in finished) / seconds if seconds else None,
    )


def _against_references(
    figure: Figure,
    algorithm: str,
    scores: Mapping[str, Scores],
    seed: int,
) -> dict[str, Estimate | None]:
    """The figure against each reference; None where that is the algorithm itself or was not ranked."""
    return {
        name: compared(figure, seed, (algorithm, name), scores[algorithm], scores[name])
        if name in scores and name != algorithm
        else None
        for name in REFERENCES
    }


def _areas(tracks: Sequence[Track]) -> Scores:
    return [
        np.array([area_under_curve(result, track.pair.scale, track.pair.steps) for result in tested(track)])
        for track in tracks
    ]


def _at_equal_seconds(tracks: Sequence[Track], limits: Mapping[str, float | None], seed: int) -> Estimate | None:
    samples = []
    for track in tracks:
        limit = limits[track.pair.env_id]
        if limit is None:
            return None
        samples.append(np.array([score_after(result, track.pair.scale, limit) for result in tested(track)]))
    return statistics.iqm(samples, seed)


def _with_joint_statistics(lines: Sequence[Ranked], scores: Mapping[str, Scores], seed: int) -> list[Ranked]:
    """Add what needs all algorithms at once: rank probabilities, and p-values corrected for their number."""
    if not lines:
        return []
    ranks = statistics.rank_probabilities(scores, stream_seed(seed, "bootstrap", "ranks"))
    p_values: dict[str, float] = {}
    if "trpo" in scores:
        p_values = statistics.holm(
            {
                name: statistics.permutation_p_value(own, scores["trpo"], stream_seed(seed, "permutation"))
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
    close: list[str] = []
    for line in (line for line in lines if line.rank > 1):
        first, second = lines[0].algorithm, line.algorithm
        separable = {"trpo": line.separable_from_trpo, "ppo": line.separable_from_ppo}.get(first)
        if separable is None:
            difference = compared(DIFFERENCE, seed, (first, second), scores[first], scores[second])
            separable = difference.excludes(0.0)
        if not separable:
            close.append(second)
    return close


def _taus(scores: Mapping[str, Scores]) -> list[float]:
    """Evenly spaced from the random policy, or the worst run, to the reference, or the best run."""
    everything = [float(value) for own in scores.values() for sample in own for value in sample]
    low, high = min([0.0, *everything]), max([1.0, *everything])
    return [float(tau) for tau in np.linspace(low, high, _TAUS)]


def _one_for_all(
    part: TakingPart, together: Mapping[str, OneForAll], seed: int
) -> tuple[list[RankedForAll], list[NotRun]]:
    """The lines, and who is missing among them because its runs with this configuration say nothing."""
    lines: list[RankedForAll] = []
    missing: list[NotRun] = []
    for algorithm, tracks in part.tracks.items():
        origin, params, scores = _chosen_for_all(tracks, together.get(algorithm))
        records = [not_run(algorithm, env_id, runs, "one for all: test") for env_id, runs in scores.items()]
        without = [record for record in records if record is not None]
        missing += without
        if without:
            continue
        sample = [np.array([run["normalised"] for run in runs]) for runs in scores.values()]
        stream = stream_seed(seed, "bootstrap", "one for all")
        mean = fmean(float(value) for values in sample for value in values)
        lines.append(RankedForAll(algorithm, 0, statistics.iqm(sample, stream), mean, origin, params, scores))
    return _in_order(lines), missing


def _chosen_for_all(
    tracks: Sequence[Track], together: OneForAll | None
) -> tuple[str, dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Origin, parameters and test runs; where there is one environment, those of its winner."""
    if together is None or together.chosen is None:
        first = tracks[0]
        return f"winner on {first.pair.env_id}", chosen(first).params, {first.pair.env_id: run_records(first)}
    scores = {track.pair.env_id: [run_record(track.pair, *run) for run in together.tested(track)] for track in tracks}
    return together.chosen.origin, together.chosen.params, scores


def _in_order(lines: Sequence[Line]) -> list[Line]:
    """Best first, with their ranks."""
    ordered = sorted(lines, key=lambda line: (line.iqm.value, line.mean), reverse=True)
    values = [(line.iqm.value, line.mean) for line in ordered]
    return [replace(line, rank=values.index(value) + 1) for line, value in zip(ordered, values, strict=True)]
