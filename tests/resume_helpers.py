"""What the tests of resumed runs share: runs with much to remember, all that is left of them, and their deaths."""

import csv
import itertools
import json
import os
import pickle
import random
import re
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium.wrappers import NormalizeReward
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnNoModelImprovement,
)
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from sb3_ppo_variants import AdaptiveClipPPO
from sb3_ppo_variants.resume import ResumableCheckpoint

_CLOCKS = ("time/fps", "time/time_elapsed")


class Tiring(gym.Wrapper):
    """Rewards get smaller with every episode, and noisier: reset(seed) alone does not determine them."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.episodes = 0
        self.env.action_space.seed(0)
        self.rng = np.random.default_rng(0)

    def reset(self, **arguments: Any) -> Any:
        self.episodes += 1
        return super().reset(**arguments)

    def step(self, action: Any) -> Any:
        observation, reward, *rest = super().step(action)
        return observation, float(reward) / self.episodes + self.rng.normal() + self.env.action_space.sample(), *rest


class Note:
    """An object of a user's own."""

    def __init__(self) -> None:
        self.steps: list[int] = []


class Remembering(BaseCallback):
    """Draw from every generator there is, and remember it in every way that comes to mind."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder
        self.draws: dict[str, list[float]] = {"python": [], "numpy": [], "torch": [], "own": [], "space": []}
        self.own = np.random.default_rng(3)
        self.note = Note()
        self.env = gym.make("CartPole-v1")
        self.started = False

    def _on_rollout_start(self) -> None:
        if not self.started:
            self.env.reset(seed=0)
            self.started = True
        for name, draw in (
            ("python", random.random),
            ("numpy", np.random.random),
            ("torch", lambda: th.rand(1).item()),
            ("own", self.own.random),
            ("space", self.model.action_space.sample),
        ):
            self.draws[name].append(float(np.sum(draw())))
        self.note.steps.append(self.num_timesteps)
        self.draws.setdefault("env", []).append(float(self.env.unwrapped.np_random.random()))

    def _on_step(self) -> bool:
        self.logger.record_mean("memory/calls", self.n_calls)
        return True


class Stopped(Exception):  # noqa: N818 -- no error
    """A run was stopped on purpose."""


class StopAt(BaseCallback):
    """End a run by an exception."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def _on_step(self) -> bool:
        if self.num_timesteps == self.steps:
            raise Stopped
        return True


def small_env(folder: Path | None = None, n_envs: int = 2, norm_reward: bool = True) -> VecEnv:
    """Return CartPole with wrappers that remember, around each environment and around the vector."""

    def make(index: int) -> gym.Env:
        env = NormalizeReward(Tiring(gym.make("CartPole-v1")))
        return Monitor(env, None if folder is None else str(folder / f"{index}.monitor.csv"))

    vec_env = DummyVecEnv([lambda index=index: make(index) for index in range(n_envs)])
    vec_env.seed(1)
    return VecNormalize(vec_env, norm_reward=norm_reward, training=norm_reward)


class Counting(BaseCallback):
    """Note when it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[int] = []

    def _on_step(self) -> bool:
        self.at.append(self.num_timesteps)
        return True


@dataclass
class Run:
    """A run that may be resumed; it is made anew in the same way each time.

    :param folder: of its logs, and of its checkpoints
    :param make_env: called with the folder of Monitor's files, or with ``norm_reward=False`` for the evaluations
    """

    folder: Path
    cls: Any = AdaptiveClipPPO
    make_env: Callable[..., VecEnv] = small_env
    policy: str = "MlpPolicy"
    arguments: dict[str, Any] = field(default_factory=lambda: {"engine": "numpy", "batch_size": 32, "n_epochs": 2})
    steps: int = 640
    every: int = 128
    log_interval: int = 3
    eval_every: int = 45
    formats: tuple[str, ...] = ("csv", "json", "log", "tensorboard")

    def train(self, *more: BaseCallback) -> dict[str, Any]:
        """Begin the run, or go on with it if it has a checkpoint; return what is left of it."""
        self.folder.mkdir(exist_ok=True)
        env, callbacks = self.make_env(self.folder), self.callbacks()
        model = self.model(env)
        model.set_logger(configure(str(self.folder), list(self.formats)))
        try:
            model.learn(self.steps, callback=[*callbacks.values(), *more], log_interval=self.log_interval)
        finally:
            model.logger.close()
            env.close()
        return self._remains(model, env, **callbacks)

    def model(self, env: VecEnv) -> Any:
        if list(self.folder.glob("checkpoint-*.zip")):
            return self.cls.resume(self.folder, env, device="cpu")
        return self.cls(self.policy, env, n_steps=32, seed=7, device="cpu", **self.arguments)

    def callbacks(self) -> dict[str, Any]:
        evaluation = EvalCallback(
            self.make_env(norm_reward=False),
            StopTrainingOnNoModelImprovement(100),
            n_eval_episodes=2,
            eval_freq=self.eval_every,
            log_path=str(self.folder),
            verbose=0,
            warn=False,
        )
        return {
            "checkpoint": ResumableCheckpoint(self.folder, self.every),
            "evaluation": evaluation,
            "remembering": Remembering(str(self.folder)),
            "every": EveryNTimesteps(150, CallbackList([Counting()])),
        }

    def _remains(  # noqa: PLR0917 -- the callbacks by name
        self, model: Any, env: Any, checkpoint: Any, evaluation: Any, remembering: Any, every: Any
    ) -> dict[str, Any]:
        optimizers = {name: value for name, value in model.get_parameters().items() if name != "policy"}
        singles = getattr(env.unwrapped, "envs", [])
        counting = every.callback.callbacks[0]
        with np.load(self.folder / "evaluations.npz") as file:
            evaluations = dict(file)
        return {
            "parameters": _as_arrays(model.policy.state_dict()),
            "optimizers": _as_arrays(optimizers),
            "adapted values": {name: value for name, value in vars(model).items() if name.startswith("adapted_")},
            "counts of the model": (model.num_timesteps, model._n_updates, model._current_progress_remaining),
            "episode buffers": ([(one["r"], one["l"]) for one in model.ep_info_buffer], [*model.ep_success_buffer]),
            "wrappers of the vector": _wrappers(env),
            "wrappers of each environment": [_wrappers(single) for single in singles],
            "last observations": (model._last_obs, model._last_original_obs, model._last_episode_starts),
            "Python's generator": (remembering.draws["python"], random.getstate()),
            "NumPy's generator": (remembering.draws["numpy"], np.random.get_state()),
            "PyTorch's generator": (remembering.draws["torch"], th.get_rng_state().numpy()),
            "the action space's generator": remembering.draws["space"],
            "a callback's generator": remembering.draws["own"],
            "a callback's environment": remembering.draws["env"],
            "a callback's object": remembering.note.steps,
            "calls of callbacks": (evaluation.n_calls, remembering.n_calls, every.last_time_trigger),
            "callbacks in callbacks in a list": (counting.n_calls, counting.at),
            "the callback of evaluations": {**_state(evaluation.callback_on_new_best)},
            "evaluations": evaluations,
            "the best evaluation": (evaluation.best_mean_reward, evaluation.last_mean_reward),
            "wrappers of the evaluations": [
                _wrappers(evaluation.eval_env),
                *map(_wrappers, getattr(evaluation.eval_env.unwrapped, "envs", [])),
            ],
            "logs": {path.name: _log(path) for path in self.folder.iterdir() if path.name in _LOGS},
            "TensorBoard": _events(self.folder),
            "episodes in Monitor's files": {path.name: _episodes(path) for path in self.folder.glob("*.monitor.csv")},
        }


_LOGS = ("progress.csv", "progress.json", "log.txt")


def _as_arrays(tensors: Any) -> Any:
    if isinstance(tensors, dict):
        return {key: _as_arrays(value) for key, value in tensors.items()}
    if isinstance(tensors, (list, tuple)):
        return [_as_arrays(value) for value in tensors]
    return tensors.detach().cpu().numpy().copy() if isinstance(tensors, th.Tensor) else tensors


def _state(owner: Any) -> dict[str, Any]:
    """Return numbers, lists, arrays and averages of an object, without wall-clock times."""
    state = {}
    for name, value in vars(owner).items():
        if isinstance(value, (int, float, list, np.ndarray)) and "time" not in name and name != "t_start":
            state[name] = value
        elif hasattr(value, "mean") and hasattr(value, "var"):
            state[name] = (value.mean, value.var, value.count)
        elif isinstance(value, np.random.Generator):
            state[name] = value.bit_generator.state
    return state


def _wrappers(env: Any) -> list[dict[str, Any]]:
    """Return the states of an environment's wrappers, and of the generator in it."""
    states = []
    while hasattr(env, "venv") or isinstance(env, gym.Wrapper):
        states.append(_state(env))
        env = env.venv if hasattr(env, "venv") else env.env
    return [*states, env.np_random.bit_generator.state if isinstance(env, gym.Env) else {}]


def _log(path: Path) -> Any:
    """Return what a file of the logger says, the speed of the machine left out."""
    if path.suffix == ".csv":
        with path.open() as file:
            rows = list(csv.DictReader(file))
    elif path.suffix == ".json":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        words = ("Logging to", " fps ", " time_elapsed ")
        return [line for line in path.read_text().splitlines() if not any(word in line for word in words)]
    return [{key: value for key, value in row.items() if key not in _CLOCKS} for row in rows]


def _episodes(path: Path) -> list[str]:
    """Return the rows of a file of Monitor's without their times."""
    return [line.rpartition(",")[0] for line in path.read_text().splitlines()[1:]]


def _events(folder: Path) -> list[tuple[str, int, float]]:
    """Return what TensorBoard shows of a folder: all events of its files, one file after the other."""
    # Named by the second, and by a number within the process, which has more digits in the end
    numbers = re.compile(r"[0-9]+")
    files = [path for path in folder.iterdir() if "tfevents" in path.name]
    files.sort(key=lambda path: [int(number) for number in numbers.findall(path.name)])
    events = [event for path in files for event in EventFileLoader(str(path)).Load()]
    values = [(value.tag, event.step, value.tensor) for event in events for value in event.summary.value]
    return [(tag, step, tuple(tensor.float_val)) for tag, step, tensor in values if tag not in _CLOCKS]


# Deaths ---------------------------------------------------------------------------------------------------------------


def in_a_child(work: Callable[[], Any], result: Path) -> int:
    """Do work in a fork of this process, and write what it returns; return the status as ``os.waitpid`` has it."""
    child = os.fork()
    if child == 0:
        try:
            result.write_bytes(pickle.dumps(work()))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def die_at(owner: Any, name: str, call: int) -> None:
    """Let this process be killed, as by kill -9, when a function is called for the n-th time from now."""
    original, left = getattr(owner, name), itertools.count(1)

    def function(*arguments: Any, **keywords: Any) -> Any:
        if next(left) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **keywords)

    setattr(owner, name, function)


def was_killed(status: int) -> bool:
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
