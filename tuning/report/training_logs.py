"""Learning curves out of what training runs leave: results of a study, Monitor's files, TensorBoard's files."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..ranking.ranking_json import read_ranking

_TENSORBOARD_TAG = "rollout/ep_rew_mean"


@dataclass(frozen=True)
class RunCurve:
    """Returns over the steps of one training run.

    :param steps: environment steps, ascending, shape (N,)
    :param returns: shape (N,)
    """

    steps: NDArray[np.float64]
    returns: NDArray[np.float64]


Curves = dict[str, dict[str, list[RunCurve]]]
"""Environment ("" where the files do not name it) -> label of a curve -> its runs."""


def read_curves(logs: Sequence[Path], window: int) -> Curves:
    """Read every run below some folders.

    A folder with ``ranking.json`` is the results of a study: its test runs. In any other, each folder that has
    ``monitor.csv`` files is a run, or where nothing has, each that has TensorBoard files. Runs whose folders have the
    same name but for the number at its end are runs of one curve.

    :param logs: folders
    :param window: episodes over which the returns of Monitor's files are averaged, >= 1
    :raises ValueError: a folder is missing, or there is no run in it
    """
    curves: Curves = {}
    for folder in logs:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; give folders of runs, such as logs, or of a study's results")
        found = False
        prefix = folder.name if len(logs) > 1 else ""
        for env_id, label, run in _runs_in(folder, prefix, window):
            curves.setdefault(env_id, {}).setdefault(label, []).append(run)
            found = True
        if not found:
            raise ValueError(
                f"{folder} has no run with a finished episode: looked for ranking.json, for *monitor.csv and for "
                "TensorBoard's events.out.tfevents* with rollout/ep_rew_mean"
            )
    return curves


def _runs_in(folder: Path, prefix: str, window: int) -> Iterator[tuple[str, str, RunCurve]]:
    """Yield environment, label and curve of each run."""
    if (folder / "ranking.json").exists():
        yield from _test_runs(folder, prefix)
        return
    monitored = sorted({path.parent for path in folder.rglob("*monitor.csv")})
    for run in monitored:
        read = _read_monitor(run, window)
        if read is not None:
            env_id, curve = read
            yield env_id, _label(run, folder, prefix, env_id), curve
    if not monitored:
        for run in sorted({path.parent for path in folder.rglob("events.out.tfevents*")}):
            logged = _read_tensorboard(run)
            if logged is not None:
                yield "", _label(run, folder, prefix, ""), logged


def _test_runs(folder: Path, prefix: str) -> Iterator[tuple[str, str, RunCurve]]:
    for env_id, algorithms in read_ranking(folder)["curves"].items():
        for algorithm, runs in algorithms.items():
            for run in runs:
                if run["points"]:
                    steps, returns = zip(*((point["steps"], point["score"]) for point in run["points"]), strict=True)
                    yield env_id, "/".join(filter(None, (prefix, algorithm))), _curve(steps, returns)


def _read_monitor(run: Path, window: int) -> tuple[str, RunCurve] | None:
    """Return environment and curve of a run: the episodes of all its environments, by time. None for no episode.

    :raises ValueError: a file is not one of Monitor's, or not a whole one
    """
    from stable_baselines3.common.monitor import load_results  # pandas, which takes a second

    try:
        episodes = load_results(str(run))
        with next(run.glob("*monitor.csv")).open(encoding="utf-8") as file:
            env_id = str(json.loads(file.readline()[1:]).get("env_id") or "")
        if episodes.empty:
            return None
        steps, returns = (episodes[name].astype(float) for name in ("l", "r"))
    except (AssertionError, LookupError, TypeError, ValueError) as error:  # what SB3 raises on such files
        reason = f": {error}" if str(error) else ""
        raise ValueError(
            f"{run} has a monitor.csv that is not one of Monitor's, or was cut short{reason}; mend it or take it away"
        ) from error
    return env_id, _curve(steps.cumsum().to_list(), returns.rolling(window, min_periods=1).mean().to_list())


def _read_tensorboard(run: Path) -> RunCurve | None:
    """Return the mean returns that SB3 logged, or None if it logged none.

    :raises ValueError: TensorBoard is not installed
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
            EventAccumulator,
        )
    except ImportError as error:
        raise ValueError("reading TensorBoard's files needs tensorboard: pip install tensorboard") from error
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    if _TENSORBOARD_TAG not in events.Tags()["scalars"]:
        return None
    points = events.Scalars(_TENSORBOARD_TAG)
    return _curve([point.step for point in points], [point.value for point in points])


def _curve(steps: Sequence[float], returns: Sequence[float]) -> RunCurve:
    return RunCurve(np.asarray(steps, dtype=np.float64), np.asarray(returns, dtype=np.float64))


def _label(run: Path, folder: Path, prefix: str, env_id: str) -> str:
    """``clip_ppo`` for ``logs/clip_ppo/CartPole-v1_2``: without the run's number, and the environment's name."""
    *parents, last = run.relative_to(folder).parts or (folder.name,)
    # A name that is the environment's, before its number is taken off or after it, says nothing of the curve
    spellings = (env_id, env_id.replace("/", "-"))
    own = re.sub(r"[_-]?\d+$", "", last)
    return "/".join(filter(None, (prefix, *parents, "" if {last, own} & set(spellings) else own))) or folder.name
