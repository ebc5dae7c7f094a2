"""What a ranking quotes of its study, as plain JSON values: test runs, curves, failures, the chosen trials."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..decisions.one_for_all import OneForAll
from ..decisions.pair import Pair
from ..decisions.request import Stage
from ..decisions.track import Track
from ..decisions.trial import Run, Trial
from ..runs.cell import Cell, CellResult
from ..study.seeds import RunSeed
from .results import NotRun


def tested(track: Track) -> list[CellResult]:
    """The finished test runs of ``track``."""
    return [result for result in track.test_results if result is not None]


def chosen(track: Track) -> Trial:
    """The trial that ``track`` tested."""
    if track.winner is None:
        raise ValueError(f"{track.pair.algorithm} on {track.pair.env_id} has no winner yet")
    return track.winner


def trial_counts(tracks: Sequence[Track]) -> dict[str, int]:
    """Trials of ``tracks`` that were run, pruned and failed."""
    trials = [trial for track in tracks for trial in track.tuning.trials]
    pruned = sum(track.tuning.pruned for track in tracks)
    return {"run": len(trials), "pruned": pruned, "failed": sum(trial.failed for trial in trials)}


def run_records(track: Track) -> list[dict[str, Any]]:
    """The test runs of ``track``."""
    return [
        run_record(track.pair, cell, result) for cell, result in zip(track.test_cells(), tested(track), strict=True)
    ]


def run_record(pair: Pair, cell: Cell, result: CellResult) -> dict[str, Any]:
    """A run of ``pair``: seed, status, reason of a failure and whether it is a fault of this package, scores, cell."""
    return {
        "seed": cell.seed,
        "status": result.status,
        "reason": result.reason,
        "is_fault": result.is_fault,
        "raw": result.score,
        "normalised": pair.normalised(result),
        "cell": cell.key,
    }


def not_run(algorithm: str, env_id: str, runs: Sequence[Mapping[str, Any]], stage: Stage = "test") -> NotRun | None:
    """Why test runs say nothing about their algorithm; None where they do.

    A run that failed has the floor beside others that finished. Where none finished there is nothing to rank, and
    where this package seems to have failed a floor would be a lie.

    :param algorithm: whose runs
    :param env_id: where
    :param runs: as :func:`run_record` has them
    :param stage: what they were for
    """
    failed = [run for run in runs if run["status"] == "failed"]
    faults = [run for run in failed if run["is_fault"]]
    if not faults and len(failed) < len(runs):
        return None
    error = (faults or failed)[0]["reason"]
    return NotRun(algorithm, env_id, stage, len(runs), len(failed), len(faults), error)


def curve_records(tracks: Sequence[Track]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Environment -> algorithm -> test runs: seed and points of the learning curve."""
    curves: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for track in tracks:
        curves.setdefault(track.pair.env_id, {})[track.pair.algorithm] = [
            {"seed": cell.seed, "points": [point.model_dump() for point in result.curve]}
            for cell, result in zip(track.test_cells(), tested(track), strict=True)
        ]
    return curves


def failure_records(track: Track, together: OneForAll | None) -> list[dict[str, Any]]:
    """Every failed run that a decision or a number rests on.

    :param track: whose runs
    :param together: what the algorithm's tracks decide together; None where there is nothing
    """
    seeds = track.pair.seeds
    runs: list[_Failure] = []
    for trial in track.tuning.trials:
        runs += _failed("tuning", seeds.tuning, trial.runs)
    for trial in track.candidates:
        runs += _failed("validation", seeds.validation, trial.validation)
    runs += _failed("test", seeds.test, [track.pair.run(result) for result in tested(track)])
    if together is not None:
        for candidate in together.candidates:
            runs += _failed("one for all: validation", seeds.validation, together.validation(track, candidate))
        tests = [track.pair.run(result) for _, result in together.tested(track)]
        runs += _failed("one for all: test", seeds.test, tests)
    where = {"algorithm": track.pair.algorithm, "environment": track.pair.env_id}
    return [
        {**where, "stage": stage, "seed": seed, "reason": reason, "is_fault": is_fault}
        for stage, seed, reason, is_fault in runs
    ]


_Failure = tuple[Stage, int, str, bool]


def _failed(stage: Stage, seeds: Sequence[RunSeed], runs: Sequence[Run | None]) -> list[_Failure]:
    return [
        (stage, seed.training, run.reason, run.is_fault)
        for seed, run in zip(seeds, runs, strict=False)  # of a trial that was pruned the last runs are missing
        if run is not None and run.failed
    ]


def best_record(track: Track) -> dict[str, Any]:
    """The trial that ``track`` tested."""
    trial = chosen(track)
    return {
        "trial": trial.number,
        "tuning_value": trial.value,
        "validation_value": trial.validation_value,
        "entry": trial.entry,
    }
