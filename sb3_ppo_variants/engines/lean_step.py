"""The step of SB3's DummyVecEnv, alone or within a VecNormalize: the same results in less time.

What takes SB3's time are deep copies and generic reductions. Arithmetic, order of assignments and copies are SB3's;
an environment of any other type, or with a method that has been replaced, keeps its own step.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from sb3_ppo_variants.engines.untouched import is_untouched
from sb3_ppo_variants.maths.arrays import FloatArray

Step = Callable[[npt.NDArray[Any]], tuple[Any, Any, Any, Any]]
"""What ``VecEnv.step`` is."""

_PlainStep = tuple[npt.NDArray[Any], FloatArray, npt.NDArray[np.bool_], list[dict[str, Any]]]

# Values that deepcopy returns as they are, and NumPy's numbers, of which it returns equal ones
_IMMUTABLE = frozenset(
    {bool, int, float, complex, str, bytes, type(None), np.bool_}
    | {np.dtype(code).type for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"]}
)


def lean_step(env: VecEnv) -> Step:
    """Return the quickest way to the results of ``env.step``, which are SB3's to the bit, types and copies included.

    :param env: the training environment; anything but a plain DummyVecEnv, or a VecNormalize over one, steps itself
    """
    if is_untouched(env, DummyVecEnv) and _has_plain_observations(env):
        return DummyStep(env)
    if is_untouched(env, VecNormalize) and is_untouched(env.venv, DummyVecEnv) and _has_plain_observations(env.venv):
        return NormalizedStep(env, env.venv)
    return env.step


def _has_plain_observations(env: DummyVecEnv) -> bool:
    return (
        not isinstance(env.observation_space, (spaces.Dict, spaces.Tuple))
        and env.keys == [None]
        and set(env.buf_obs) == {None}
        and all(type(buffer) is np.ndarray for buffer in (*env.buf_obs.values(), env.buf_rews, env.buf_dones))
    )


class DummyStep:
    """Steps a DummyVecEnv.

    :param env: one with plain observations
    """

    def __init__(self, env: DummyVecEnv) -> None:
        self._env = env

    def __call__(self, actions: npt.NDArray[Any]) -> _PlainStep:
        """Do what ``env.step(actions)`` does."""
        env = self._env
        env.actions = actions
        envs, buf_rews, buf_dones, buf_infos = env.envs, env.buf_rews, env.buf_dones, env.buf_infos
        (buf_obs,) = env.buf_obs.values()
        for index in range(env.num_envs):
            # Each value reaches its buffer when it does in SB3: an environment that raises leaves the same behind
            obs, buf_rews[index], terminated, truncated, info = envs[index].step(actions[index])
            buf_infos[index] = info
            buf_dones[index] = terminated or truncated
            info["TimeLimit.truncated"] = truncated and not terminated
            if buf_dones[index]:
                info["terminal_observation"] = obs
                obs, env.reset_infos[index] = envs[index].reset()
            buf_obs[index] = obs
        return buf_obs.copy(), buf_rews.copy(), buf_dones.copy(), _deep_copies(buf_infos)


def _deep_copies(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what ``deepcopy(infos)`` returns, except that NumPy's numbers are shared."""
    copies: list[dict[str, Any]] = []
    memo: dict[int, Any] = {id(infos): copies}
    for info in infos:
        copies.append(_deep_copy(info, memo))
    return copies


def _deep_copy(value: Any, memo: dict[int, Any]) -> Any:
    """Return what ``deepcopy(value, memo)`` returns: an object that occurs several times is copied once."""
    kind = type(value)
    if kind is dict:
        copied = memo.get(id(value))
        if copied is None:
            copied = memo[id(value)] = value.copy()
            _copy_items(copied, memo)
        return copied
    if kind is np.ndarray and not value.dtype.hasobject:
        copied = memo.get(id(value))
        if copied is None:
            copied = memo[id(value)] = value.copy("K")
        return copied
    return deepcopy(value, memo)


def _copy_items(items: dict[Any, Any], memo: dict[int, Any]) -> None:
    """Replace keys and values that can change by copies."""
    known_keys = True
    for key, value in items.items():
        if type(value) not in _IMMUTABLE:
            items[key] = _deep_copy(value, memo)
        if type(key) not in _IMMUTABLE:
            known_keys = False
    if not known_keys:
        pairs = [(deepcopy(key, memo), value) for key, value in items.items()]
        items.clear()
        items.update(pairs)


class NormalizedStep:
    """Steps a VecNormalize over a DummyVecEnv.

    :param env: the VecNormalize
    :param venv: what it wraps, with plain observations
    """

    def __init__(self, env: VecNormalize, venv: DummyVecEnv) -> None:
        self._env = env
        self._step = DummyStep(venv)

    def __call__(self, actions: npt.NDArray[Any]) -> _PlainStep:
        """Do what ``env.step(actions)`` does."""
        env = self._env
        obs, rewards, dones, infos = self._step(actions)
        env.old_obs, env.old_reward = obs, rewards
        if env.training and env.norm_obs:
            _update(env.obs_rms, obs)
        new_obs = self._normalized(obs)
        if env.training:
            env.returns = env.returns * env.gamma + rewards
            _update_scalar(env.ret_rms, env.returns)
        new_rewards = self._normalized_rewards(rewards)
        ended = dones.tolist()
        if True in ended:
            for info, done in zip(infos, ended, strict=True):
                if done and "terminal_observation" in info:
                    info["terminal_observation"] = env.normalize_obs(info["terminal_observation"])
            env.returns[dones] = 0
        return new_obs, new_rewards, dones, infos

    def _normalized(self, obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        env = self._env
        if not env.norm_obs:
            return obs.copy()
        statistics: Any = env.obs_rms
        return _clipped(obs - statistics.mean, np.sqrt(statistics.var + env.epsilon), env.clip_obs)

    def _normalized_rewards(self, rewards: FloatArray) -> FloatArray:
        env = self._env
        if not env.norm_reward:
            return rewards.copy()
        return _clipped(rewards, np.sqrt(env.ret_rms.var + env.epsilon), env.clip_reward)


LEAN_STEPS = (DummyStep, NormalizedStep)


def _clipped(values: FloatArray, scale: Any, bound: float) -> FloatArray:
    scaled = values / scale
    return np.minimum(np.maximum(scaled, -bound, out=scaled), bound, out=scaled).astype(np.float32)


def _update(statistics: Any, batch: FloatArray) -> None:
    """Do what ``statistics.update(batch)`` does."""
    if not _are_usual(statistics, batch):
        statistics.update(batch)
        return
    mean, var, count, n = statistics.mean, statistics.var, statistics.count, len(batch)
    batch_mean, batch_var = _moments(batch)
    delta = batch_mean - mean
    total = count + n
    square = np.square(delta)
    for factor in (count, n):
        square *= factor
    square /= total
    delta *= n
    delta /= total
    new_var = var * count
    new_var += batch_var * n
    new_var += square
    new_var /= total
    statistics.mean, statistics.var, statistics.count = mean + delta, new_var, total


def _are_usual(statistics: Any, batch: FloatArray) -> bool:
    """Tell whether NumPy would keep every figure in float64, reductions over the batch in the batch's dtype aside."""
    if type(statistics) is not RunningMeanStd:
        return False
    mean, var = statistics.mean, statistics.var
    return (
        batch.dtype.char in "fd"
        and mean.dtype.char == var.dtype.char == "d"
        and mean.shape == var.shape == batch.shape[1:]
    )


def _update_scalar(statistics: RunningMeanStd, batch: FloatArray) -> None:
    """Do what ``statistics.update(batch)`` does, for one figure per environment, in Python's float64."""
    if not _are_usual(statistics, batch):
        statistics.update(batch)
        return
    mean, var, count, n = float(statistics.mean), float(statistics.var), statistics.count, len(batch)
    batch_mean, batch_var = map(float, _moments(batch))
    delta = batch_mean - mean
    total = count + n
    new_mean = mean + delta * n / total
    new_var = (var * count + batch_var * n + delta * delta * count * n / total) / total
    if not math.isfinite(new_var):
        statistics.update(batch)  # with NumPy's warnings
        return
    statistics.mean, statistics.var = np.float64(new_mean), np.float64(new_var)  # type: ignore[assignment]
    statistics.count = total


def _moments(batch: FloatArray) -> tuple[Any, Any]:
    """Return mean and variance along the first axis, as NumPy's functions of these names do."""
    n = len(batch)
    if n == 1:
        return batch[0], (batch - batch)[0]  # NaN for what is not finite
    mean = np.add.reduce(batch) / n
    deviation = batch - mean
    return mean, np.add.reduce(np.square(deviation, out=deviation)) / n
