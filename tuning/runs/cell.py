"""The unit of work: train one configuration with one seed, evaluate it, return a small record."""

import hashlib
import json
import math
import platform
import shutil
import sys
import time
import traceback
from functools import cache
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, sync_envs_normalization

from sb3_ppo_variants.baselines import on_arrays
from sb3_ppo_variants.entries.entry import Entry
from sb3_ppo_variants.evaluation import evaluate_policy
from sb3_ppo_variants.registry import get_algorithm
from sb3_ppo_variants.resume import ResumableCheckpoint, has_checkpoint, resumable

from .faults import describe, is_ours

CELL_SCHEMA = 3
"""Raised whenever the same cell would give another result: old files are then not taken for new ones."""

_SCHEMAS = {"ppo": 4, "trpo": 4}  # until 3, the baselines' updates were made by their classes, with other bits

_PACKAGES = ("sb3-ppo-variants", "stable-baselines3", "sb3-contrib", "gymnasium", "torch", "numpy", "optuna", "scipy")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Evaluation(_Record):
    """How a run is scored: deterministic actions, raw returns, fresh environments.

    :param seed: of the evaluation environments; the same initial states at every checkpoint
    :param episodes: episodes at each checkpoint
    :param checkpoints: points of the learning curve, evenly spaced; the last one is the end of training
    """

    seed: int = Field(ge=0)
    episodes: int = Field(ge=1)
    checkpoints: int = Field(ge=1)


class Cell(_Record):
    """Everything that decides the outcome of a run, and nothing else.

    What the run is for (tuning, test) is left out: the same work asked for twice is done once.

    :param algorithm: registered algorithm id
    :param environment: gymnasium environment id
    :param entry: raw zoo entry: JSON values only
    :param seed: of the training environments, the network and the action noise
    :param steps: environment steps that training may take
    :param evaluation: how the run is scored
    :param checkpoint_every: environment steps between checkpoints, at which the environments are reset, whether the
        run is interrupted there or not; None: no checkpoints
    """

    algorithm: str
    environment: str
    entry: dict[str, Any]
    seed: int = Field(ge=0)
    steps: int = Field(ge=1)
    evaluation: Evaluation
    checkpoint_every: int | None = Field(default=None, ge=1)

    @model_serializer(mode="wrap")
    def _without_what_is_not_asked_for(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Cells without checkpoints keep the keys and files that they had before there were any
        content: dict[str, Any] = serialise(self)
        return {name: value for name, value in content.items() if name != "checkpoint_every" or value is not None}

    @field_validator("entry")
    @classmethod
    def _must_survive_json(cls, entry: dict[str, Any]) -> dict[str, Any]:
        # Lists for tuples, strings for keys: what is hashed is then what is read back from the file.
        plain: dict[str, Any] = json.loads(canonical_json(entry))
        return plain

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        content = {"cell_schema": _SCHEMAS.get(self.algorithm, CELL_SCHEMA), **self.model_dump()}
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()


class CurvePoint(_Record):
    """Mean evaluation return after ``steps`` training steps, which took ``seconds`` without the evaluations."""

    steps: int
    seconds: FiniteFloat
    score: FiniteFloat


class CellResult(_Record):
    """What a run gave.

    :param status: "ok", or "failed" with a reason
    :param reason: why it failed, one line with file and line; empty when it did not
    :param is_fault: whether it failed by what looks like a fault of this package, which is no outcome of the algorithm
    :param score: mean raw return of the final evaluation; None when it failed
    :param returns: raw return of each final evaluation episode
    :param curve: learning curve; its last point is the final score
    :param steps: training steps taken, at most the cell's
    :param seconds: wall-clock time of training, evaluation not counted
    :param rollouts: what collected them: "compiled", "numpy" or "torch"; empty when it failed
    :param updates: what made them, of TRPO the critic's; empty when it failed, and in results older than this field
    :param versions: package name -> version in the process that ran it
    """

    status: Literal["ok", "failed"]
    reason: str = ""
    is_fault: bool = False
    score: FiniteFloat | None = None
    returns: tuple[FiniteFloat, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    steps: int = 0
    seconds: FiniteFloat = 0.0
    rollouts: str = ""
    updates: str = ""
    versions: dict[str, str] = Field(default_factory=dict)


def canonical_json(content: Any) -> str:
    """The one JSON text of ``content``: sorted keys, no spaces, no NaN.

    :raises ValueError: NaN or infinity inside
    :raises TypeError: a value that JSON does not know
    """
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


@cache
def package_versions() -> dict[str, str]:
    """Versions that a result depends on: Python and the packages below the run."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def require_same_versions(cell: Cell, result: CellResult) -> None:
    """Refuse a result that other package versions gave: it belongs to another ranking.

    :param cell: what was run
    :param result: from a worker, or from disk
    :raises ValueError: the versions differ from those of this process; the message says which
    """
    here, there = package_versions(), result.versions
    names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    if names:
        packages = ", ".join(f"{name} {there.get(name, 'unknown')} instead of {here.get(name)}" for name in names)
        raise ValueError(
            f"{cell.algorithm} on {cell.environment}, seed {cell.seed}, was run with {packages}: results of different "
            f"versions are not ranked together. Give every worker the same packages; if {cell.key}.json is in the "
            "folder of cells, remove it"
        )


def failed_result(reason: str, *, is_fault: bool = False, seconds: float = 0.0) -> CellResult:
    """The record of a run that gave no score.

    :param reason: one line for the user
    :param is_fault: whether this package seems to be at fault
    :param seconds: time spent on it
    """
    return CellResult(
        status="failed",
        reason=" ".join(reason.split()),
        is_fault=is_fault,
        seconds=seconds,
        versions=package_versions(),
    )


def run_cell(cell: Cell, *, checkpoints: Path | None = None) -> CellResult:
    """Train and evaluate ``cell``; never raises for what goes wrong inside the run.

    A pure function of the cell, times aside: it can run in any process on any machine with the same
    package versions. NaN, infinities and exceptions become a result of status "failed"; the
    traceback goes to standard error.

    :param cell: what to run
    :param checkpoints: folder of all cells' checkpoints, where a killed one finds its own; None: nowhere
    """
    torch.set_num_threads(1)
    started = time.perf_counter()
    try:
        with TemporaryDirectory() as temporary:
            folder = (checkpoints or Path(temporary)) / cell.key
            result = _train_and_evaluate(cell, folder)
        shutil.rmtree(folder, ignore_errors=True)
        return result
    except Exception as error:
        # In one piece: workers share a log
        title = f"{cell.algorithm} on {cell.environment}, seed {cell.seed}, cell {cell.key}:"
        print(f"{title}\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return failed_result(describe(error), is_fault=is_ours(error), seconds=time.perf_counter() - started)


def _train_and_evaluate(cell: Cell, checkpoints: Path) -> CellResult:
    algorithm = trained_class(cell.algorithm)
    if cell.checkpoint_every is not None:
        algorithm = resumable(algorithm)
    entry = Entry(algorithm, cell.environment, cell.entry, name=cell.algorithm)
    training_env = entry.make_env(seed=cell.seed)
    evaluation_env = entry.make_env(seed=cell.evaluation.seed, n_envs=cell.evaluation.episodes, training=False)
    try:
        model = _resumed(algorithm, training_env, checkpoints) or entry.make_model(
            training_env, seed=cell.seed, device="cpu", verbose=0
        )
        steps = whole_rollouts(cell.steps, model)
        curve = LearningCurve(evaluation_env, cell.evaluation, steps)
        callbacks: list[BaseCallback] = [curve]
        if cell.checkpoint_every is not None:
            callbacks.append(ResumableCheckpoint(checkpoints, cell.checkpoint_every))
        model.learn(steps, callback=callbacks)
        curve.evaluate()
    finally:
        training_env.close()
        evaluation_env.close()
    engine = getattr(model, "engine_in_use", "torch")
    return CellResult(
        status="ok",
        score=fmean(curve.returns),
        returns=tuple(curve.returns),
        curve=tuple(curve.points),
        steps=steps,
        seconds=curve.points[-1].seconds,
        rollouts=engine,
        updates=engine,
        versions=package_versions(),
    )


def _resumed(algorithm: Any, env: VecEnv, checkpoints: Path) -> OnPolicyAlgorithm | None:
    """Return the model as the last checkpoint has it; None if there is none, or none is whole."""
    if not has_checkpoint(checkpoints):
        return None
    try:
        model: OnPolicyAlgorithm = algorithm.resume(checkpoints, env, device="cpu")
    except ValueError:
        traceback.print_exc(file=sys.stderr)
        shutil.rmtree(checkpoints)
        return None
    return model


def trained_class(algorithm_id: str) -> Any:
    """The class that a run trains: a baseline's own, on arrays where the engine knows every part of the model.

    :param algorithm_id: registered algorithm id
    """
    registered = get_algorithm(algorithm_id)
    return on_arrays(registered.cls) if registered.is_baseline else registered.cls


def whole_rollouts(steps: int, model: OnPolicyAlgorithm) -> int:
    """Largest multiple of the rollout size within ``steps``, so that no run trains on more than its budget.

    SB3 collects whole rollouts and would otherwise go past the budget by up to one of them.

    :param steps: budget in environment steps
    :param model: gives n_steps * n_envs
    :raises ValueError: not even one rollout fits
    """
    rollout = model.n_steps * model.n_envs
    if rollout > steps:
        raise ValueError(
            f"one rollout takes {rollout} steps (n_steps={model.n_steps} x n_envs={model.n_envs}), "
            f"the budget is {steps}"
        )
    return steps // rollout * rollout


class LearningCurve(BaseCallback):
    """Evaluate at even spaces between rollouts, without drawing a random number of the training run.

    :param env: evaluation environments, one for each episode
    :param evaluation: seed, episodes and number of checkpoints
    :param steps: training steps in all
    """

    def __init__(self, env: VecEnv, evaluation: Evaluation, steps: int):
        super().__init__()
        self.env = env
        self.evaluation = evaluation
        self.steps = steps
        self.points: list[CurvePoint] = []
        self.returns: list[float] = []
        self._evaluating = 0.0

    def evaluate(self) -> None:
        """Add a point for the model as it is now.

        :raises ValueError: an episode's return is NaN or infinite
        """
        begun = time.time_ns()
        sync_envs_normalization(_training_env(self.model), self.env)
        # One episode in each copy: no short episode is counted twice, and the copies step as one batch.
        self.env.seed(self.evaluation.seed)
        returns, _ = evaluate_policy(
            self.model,
            self.env,
            n_eval_episodes=self.evaluation.episodes,
            deterministic=True,
            return_episode_rewards=True,
        )
        self.returns = [float(value) for value in returns]
        if not all(math.isfinite(value) for value in self.returns):
            raise ValueError(f"evaluation after {self.num_timesteps} steps gave non-finite returns: {self.returns}")
        # The model's clock counts what a run took before it was resumed
        seconds = (begun - self.model.start_time) / 1e9 - self._evaluating
        self.points.append(CurvePoint(steps=self.model.num_timesteps, seconds=seconds, score=fmean(self.returns)))
        self._evaluating += (time.time_ns() - begun) / 1e9

    def _on_rollout_start(self) -> None:
        # The policy has then been updated with everything collected so far.
        due = self.steps * (len(self.points) + 1) / self.evaluation.checkpoints
        if self.model.num_timesteps >= due and len(self.points) + 1 < self.evaluation.checkpoints:
            self.evaluate()

    def _on_step(self) -> bool:
        return True


def _training_env(model: BaseAlgorithm) -> VecEnv:
    env = model.get_env()
    if env is None:
        raise ValueError("a model without an environment cannot be evaluated during training")
    return env
