"""What a ranking quotes of its study, as plain JSON values: test runs, curves, failures, the chosen trials."""

from collections.abc import Sequence
from typing import Any

from ..decisions.one_for_all import OneForAll
from ..decisions.pair import Pair
from ..decisions.request import Stage
from ..decisions.track import Track
from ..decisions.trial import Run, Trial
from ..runs.cell import Cell, CellResult
from ..study.seeds import RunSeed


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
    """A run of ``pair``: seed, status, reason of a failure, scores, cell."""
    return {
        "seed": cell.seed,
        "status": result.status,
        "reason": result.reason,
        "raw": result.score,
        "normalised": pair.normalised(result),
        "cell": cell.key,
    }


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
    runs: list[tuple[Stage, int, str]] = []
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
    return [{**where, "stage": stage, "seed": seed, "reason": reason} for stage, seed, reason in runs]


def _failed(stage: Stage, seeds: Sequence[RunSeed], runs: Sequence[Run | None]) -> list[tuple[Stage, int, str]]:
    return [
        (stage, seed.training, run.reason)
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
