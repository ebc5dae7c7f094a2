"""A small study, cells that need no training, and a coordinator over such cells."""

import random
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

from sb3_ppo_variants.tuning.decisions.coordinator import Coordinator
from sb3_ppo_variants.tuning.decisions.decisions import Decisions
from sb3_ppo_variants.tuning.decisions.track import Track
from sb3_ppo_variants.tuning.ranking.ranking_json import TIME_FIELDS
from sb3_ppo_variants.tuning.runs.cell import Cell, CellResult, CurvePoint, Evaluation, package_versions
from sb3_ppo_variants.tuning.runs.store import CellStore
from sb3_ppo_variants.tuning.study.configurations import Configuration
from sb3_ppo_variants.tuning.study.study_file import Study

# Seconds of work: 2 algorithms, 1 environment, 2 trials, 2 seeds, 1,024 steps: what one rollout of TRPO takes
SMALL_STUDY = """\
algorithms: [ppo, trpo]
environments:
  CartPole-v1: {steps: 1024}
budget: {trials: 2, tuning_seeds: 2, validation_seeds: 1, test_seeds: 2, time_limit: 60}
evaluation: {episodes: 2, checkpoints: 2}
"""


def registered(*ids: str) -> dict[str, Configuration]:
    """``algorithms`` of a study that gives them no values."""
    return {name: Configuration(algorithm=name) for name in ids}


PPO_ALONE = registered("ppo")


def make_cell(**changes: Any) -> Cell:
    """A cell of 512 steps of CartPole, with whatever is to be different."""
    content = {
        "algorithm": "ppo",
        "environment": "CartPole-v1",
        "entry": {"policy": "MlpPolicy", "n_envs": 2, "n_steps": 64, "batch_size": 64, "n_epochs": 2},
        "seed": 1024,
        "steps": 512,
        "evaluation": Evaluation(seed=4096, episodes=3, checkpoints=1),
    }
    return Cell(**{**content, **changes})


def make_result(score: float = 1.0) -> CellResult:
    """A finished run."""
    return finished(score, steps=512, seconds=0.5)


def finished(score: float, *, steps: int, seconds: float = 1.0) -> CellResult:
    """A run of one checkpoint."""
    return CellResult(
        status="ok",
        score=score,
        returns=(score,),
        curve=(CurvePoint(steps=steps, seconds=seconds, score=score),),
        steps=steps,
        seconds=seconds,
        versions=package_versions(),
    )


def study(**budget: Any) -> Study:
    content = {
        "algorithms": ["ppo", "trpo"],
        "environments": {"CartPole-v1": {"steps": 20_000}},
        "budget": {
            "trials": 5,
            "tuning_seeds": 2,
            "validation_seeds": 1,
            "test_seeds": 2,
            "trials_in_flight": 2,
            **budget,
        },
    }
    return Study.model_validate(content)


def result_of(cell: Cell) -> CellResult:
    """A score that follows from the cell as blindly as a training run's."""
    score = 500 * random.Random(cell.key).random()  # noqa: S311
    return finished(score, steps=cell.steps)


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it and tidy up."""


class Threads(futures.ThreadPoolExecutor):
    """Finishes its tasks in an order of their own, and counts them.

    :param seed: of how long each takes
    :param survives: submissions until the coordinator is killed
    :param slots: tasks at a time
    """

    def __init__(self, seed: int = 0, survives: int = 10**9, slots: int = 1) -> None:
        super().__init__(max_workers=40)
        self.slots = slots
        self.random = random.Random(seed)  # noqa: S311
        self.survives = survives
        self.keys: list[str] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        if len(self.keys) == self.survives:
            raise Killed
        self.keys.append(args[0].key)
        return super().submit(_after, 0.003 * self.random.random(), fn, args[0])


def _after(seconds: float, fn: Callable[..., Any], cell: Cell) -> Any:
    time.sleep(seconds)
    return fn(cell)


class Recorder:
    """A listener that keeps what it was told."""

    def __init__(self) -> None:
        self.trials: list[tuple[str, int]] = []
        self.runs: list[bool] = []

    def trial_finished(self, track: Track, trial: Any) -> None:
        self.trials.append((track.pair.algorithm, trial.number))

    def run_finished(self, request: Any, result: CellResult, *, ran: bool) -> None:
        self.runs.append(ran)


def coordinate(
    folder: Path,
    executor: Threads | None = None,
    *,
    run: Callable[[Cell], CellResult] = result_of,
    of: Study | None = None,
) -> Decisions:
    executor = executor or Threads()
    decisions = Decisions.of(of or study(), "test", f"sqlite:///{folder / 'study.db'}")
    store = CellStore(folder / "cells", lambda line: None)
    Coordinator(decisions, store, executor, Recorder(), run=run).run()
    return decisions


def without_times(content: Any) -> Any:
    """``ranking.json`` but for what depends on how fast the machine was."""
    if isinstance(content, dict):
        return {name: without_times(value) for name, value in content.items() if name not in TIME_FIELDS}
    return [without_times(value) for value in content] if isinstance(content, list) else content
