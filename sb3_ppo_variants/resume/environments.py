"""Environments at a checkpoint: what their wrappers remember is kept, and everything else begins afresh."""

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorWrapper
from stable_baselines3.common.monitor import Monitor, ResultsWriter
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecMonitor

from sb3_ppo_variants.resume import attributes
from sb3_ppo_variants.resume.attributes import Settings
from sb3_ppo_variants.resume.values import encode
from sb3_ppo_variants.vec_env import GymVectorEnv


def seed_at(seed: int, steps: int, index: int = 0) -> int:
    """Return the seed with which environments are reset at a checkpoint.

    The first word of ``numpy.random.SeedSequence((seed, steps, index))``, without its lowest bit: some environments
    take 31 bits. As in SB3, the environments of a vector get this seed, the next number, and so on.

    :param seed: the run's seed, >= 0
    :param steps: environment steps at the checkpoint
    :param index: 0: the training environments; n: the n-th environment that the callbacks hold, from 1
    """
    return int(np.random.SeedSequence((seed, steps, index)).generate_state(1)[0] >> 1)


def reset(env: VecEnv | gym.Env[Any, Any], seed: int) -> Any:
    """Begin new episodes, and seed everything that draws random numbers within.

    :param env: a vector of environments, or a single one
    :param seed: of the first one
    :return: what ``env.reset`` returns
    """
    env.action_space.seed(seed)
    for index, inner in enumerate(inner_environments(env)):
        inner.action_space.seed(seed + index)
    if isinstance(env, gym.Env):
        return env.reset(seed=seed)
    env.seed(seed)
    return env.reset()


def inner_environments(env: VecEnv | gym.Env[Any, Any]) -> list[gym.Env[Any, Any]]:
    """Return the single environments as far as they live in this process."""
    if isinstance(env, gym.Env):
        return [env]
    inner: Any = env.unwrapped
    if isinstance(inner, GymVectorEnv):
        inner = inner.env.unwrapped
    return list(getattr(inner, "envs", ()))


def read(env: VecEnv | gym.Env[Any, Any], settings: Settings) -> list[Any]:
    """Return what the wrappers remember from one episode to the next, as JSON.

    That is their plain data: averages of VecNormalize and of Gymnasium's wrappers, counters, the episodes of Monitor
    and the file in which it writes them.

    :param env: the environment; of those in other processes only the wrappers around the vector are seen
    :param settings: of the wrappers
    """
    return [_read_layer(layer, settings) for layer in layers(env)]


def restore(env: VecEnv | gym.Env[Any, Any], content: list[Any]) -> None:
    """Put back what :func:`read` returned.

    :param env: an environment that is wrapped in the same way
    :param content: what was read
    :raises ValueError: if it is wrapped in another way
    """
    own = list(layers(env))
    wrapped = [attributes.class_name(layer) for layer in own]
    expected = [saved["class"] for saved in content]
    if wrapped != expected:
        raise ValueError(
            f"The environment has the wrappers {_listed(wrapped)}, and those of the run were {_listed(expected)}: "
            "build it as for the run that is to be resumed."
        )
    for layer, saved in zip(own, content, strict=True):
        attributes.restore(layer, saved["attributes"])
        if "monitor" in saved:
            _restore_monitor(layer, saved["monitor"])


def layers(env: VecEnv | gym.Env[Any, Any]) -> Iterator[Any]:
    """Yield the wrappers: around the vector from the outermost, then around each environment."""
    outer: Any = env
    while isinstance(outer, VecEnvWrapper):
        yield outer
        outer = outer.venv
    if isinstance(outer, GymVectorEnv):
        yield from _wrappers(outer.env)
    for inner in inner_environments(env):
        yield from _wrappers(inner)


def _wrappers(env: Any) -> Iterator[Any]:
    """Yield Gymnasium's wrappers around a vector of environments or a single one."""
    while isinstance(env, (gym.Wrapper, VectorWrapper)):
        yield env
        env = env.env


def _read_layer(layer: Any, settings: Settings) -> dict[str, Any]:
    content: dict[str, Any] = {
        "class": attributes.class_name(layer),
        "attributes": {name: value for name, value, error in attributes.kept(layer, settings, encode) if error is None},
    }
    if isinstance(layer, (Monitor, VecMonitor)):
        content["attributes"].pop("t_start")  # a moment of this process
        writer = layer.results_writer
        content["monitor"] = {
            "age": time.time() - layer.t_start,
            "file": None if writer is None else text_of(writer.file_handler),
        }
    return content


def _restore_monitor(monitor: Any, content: dict[str, Any]) -> None:
    monitor.t_start = time.time() - content["age"]
    writer: ResultsWriter | None = monitor.results_writer
    if writer is not None and content["file"] is not None:
        rewrite(writer.file_handler, content["file"])


def text_of(file: Any) -> str:
    """Return what is in a text file that is open for writing."""
    file.flush()
    return Path(file.name).read_text(encoding=file.encoding)


def rewrite(file: io.TextIOWrapper | Any, text: str) -> None:
    """Make a text the content of a file that is open for writing; what is written next follows it."""
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()


def _listed(names: list[str]) -> str:
    return ", ".join(name.rpartition(".")[2] for name in names) or "none"
