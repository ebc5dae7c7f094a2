"""The adapter."""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from sb3_ppo_variants.vec_env.batches import (
    Infos,
    Mask,
    check_observation_space,
    copied,
    each,
    one,
    place,
    rows,
)
from sb3_ppo_variants.vec_env.resets import partial_reset

_Wrapper = type[gym.Wrapper[Any, Any, Any, Any]]


def as_vec_env(env: Any) -> Any:
    """Return a vector environment of Gymnasium in SB3's form, and anything else as it is.

    :param env: what a user passes as an environment
    :raises ValueError: as :class:`GymVectorEnv`
    """
    return GymVectorEnv(env) if isinstance(env, VectorEnv) else env


class GymVectorEnv(VecEnv):
    """Show a vector environment as ``DummyVecEnv`` shows monitored environments: same values, same moments.

    An ended episode has ``terminal_observation``, ``TimeLimit.truncated`` and ``episode`` (as ``Monitor`` writes it)
    in its info, and the observation returned with it is the next episode's first. Sub-environments that would reset
    on the next step, or never, are reset at once: no step of any of them is spent on a reset, or learnt from.

    ``env_method``, ``get_attr`` and their like reach the sub-environments of ``SyncVectorEnv`` and
    ``AsyncVectorEnv``; elsewhere, the vector environment's own methods and attributes answer for all. Action masks
    come from a method ``action_masks``, or from ``action_mask`` in the infos.

    :param env: a vector environment; it is closed with this one
    :raises ValueError: if its observations are not arrays, or it neither resets within the step nor can be told to
        reset single sub-environments
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        check_observation_space(env.single_observation_space)
        self._reset_some = partial_reset(env)
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions: npt.NDArray[Any] | None = None
        self._was_reset = False
        self._current_infos = self.reset_infos
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        self._start = time.time()
        # A Monitor below other wrappers knows when an episode really ends: Atari wrappers end one with each life
        self._is_monitored = self._sub_environments_have("get_episode_rewards")

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Set the seeds of the next reset, which count up; some environments know only those of their making.

        :param seed: of the first sub-environment; None: a random one
        """
        return super().seed(None if seed is None else int(seed))

    def reset(self) -> VecEnvObs:
        """Reset all sub-environments with the seeds and options that were set, which are used once."""
        if all(options is self._options[0] or options == {} == self._options[0] for options in self._options):
            observations, infos = self.env.reset(seed=self._seeds[0], options=self._options[0] or None)
            self.reset_infos = rows(infos, self.num_envs)
        else:
            observations, self.reset_infos = self._reset_each()
        self._was_reset = True
        self._current_infos = self.reset_infos
        self._returns[:] = 0
        self._lengths[:] = 0
        self._reset_seeds()
        self._reset_options()
        batch: VecEnvObs = copied(self.observation_space, observations, self.num_envs)
        return batch

    def _reset_each(self) -> tuple[Any, Infos]:
        """Reset one sub-environment after the other, each with its own options."""
        if not isinstance(self.env.unwrapped, (SyncVectorEnv, AsyncVectorEnv)):
            raise ValueError(f"{self.env} takes the same options for all sub-environments: give set_options one dict.")
        seeds = self._seeds
        if not self._was_reset:  # single ones are reset only where all have an observation
            self.env.reset()
        reset_infos: Infos = []
        for index, options in enumerate(self._options):
            mask = np.arange(self.num_envs) == index
            observations, infos = self.env.reset(seed=cast(Any, seeds), options={**options, "reset_mask": mask})
            reset_infos.append(rows(infos, self.num_envs)[index])
        return observations, reset_infos

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Take the actions for :meth:`step_wait`.

        :param actions: shape (n_envs, ...)
        :raises ValueError: if the shape is another
        """
        actions = np.asarray(actions)
        expected = (self.num_envs, *(self.action_space.shape or ()))
        if actions.shape != expected:
            raise ValueError(f"Actions have the shape {actions.shape}; {self.env} takes {expected}.")
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all sub-environments, and begin a new episode where one has ended."""
        observations, raw_rewards, terminated, truncated, infos = self.env.step(self._actions)
        # Copies: they may be the environment's own arrays, which a reset overwrites
        rewards = np.array(raw_rewards, dtype=np.float32)
        dones = np.logical_or(terminated, truncated)
        only_truncated = np.greater(truncated, terminated).tolist()
        self._returns += np.asarray(raw_rewards)
        self._lengths += 1
        batch = copied(self.observation_space, observations, self.num_envs)
        step_infos = rows(infos, self.num_envs)
        self._current_infos = step_infos
        if dones.any():
            self._begin_episodes(batch, step_infos, dones)
        for info, is_only_truncated in zip(step_infos, only_truncated, strict=True):
            info["TimeLimit.truncated"] = is_only_truncated
        return batch, rewards, dones, step_infos

    def _begin_episodes(self, batch: VecEnvObs, infos: Infos, dones: Mask) -> None:
        """Put what belongs to the ended episodes into the infos, and the next episodes' beginning into the batch."""
        ended = np.flatnonzero(dones).tolist()
        finals = [self._final(batch, infos, index) for index in ended]
        if self._reset_some is not None:
            observations, reset_infos = self._reset_some(dones)
            place(batch, observations, dones)
            for index, reset_info in zip(ended, reset_infos, strict=True):
                self.reset_infos[index] = reset_info
        self._current_infos = list(infos)
        for index, (observation, info) in zip(ended, finals, strict=True):
            self._current_infos[index] = self.reset_infos[index]
            info["terminal_observation"] = observation
            if not self._is_monitored:
                info["episode"] = self._episode(index)
            infos[index] = info
        self._returns[dones] = 0
        self._lengths[dones] = 0

    def _final(self, batch: VecEnvObs, infos: Infos, index: int) -> tuple[Any, dict[str, Any]]:
        """Return the last observation and info of an episode that has ended in this step."""
        info = infos[index]
        if self._reset_some is not None:
            return one(batch, index), info
        if "final_obs" not in info:
            raise ValueError(
                f"{self.env} says that it resets within the step, and gives no final_obs in its infos: the value of "
                "an episode cut by a time limit cannot be told. Make it reset on the next step, or not at all."
            )
        observation, final_info = info.pop("final_obs"), info.pop("final_info", None)
        self.reset_infos[index] = info
        return observation, dict(info) if final_info is None else final_info

    def _episode(self, index: int) -> dict[str, Any]:
        seconds = time.time() - self._start
        return {"r": round(self._returns[index].item(), 6), "l": self._lengths[index].item(), "t": round(seconds, 6)}

    # Beyond stepping ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()

    def get_images(self) -> Sequence[npt.NDArray[Any] | None]:
        """Return one RGB image a sub-environment; None if the render mode is not "rgb_array"."""
        if self.render_mode != "rgb_array":
            warnings.warn(f"The render mode is {self.render_mode}: only 'rgb_array' has images.", stacklevel=2)
            return [None] * self.num_envs
        return [np.asarray(image) for image in self.env.render() or ()]

    def has_attr(self, attr_name: str) -> bool:
        """Tell whether sub-environments, vector environment or (for action masks) infos have something.

        :param attr_name: name of an attribute or method
        """
        return (
            self._sub_environments_have(attr_name)
            or self._layer_with(attr_name) is not None
            or (attr_name == "action_masks" and self._masks() is not None)
        )

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the sub-environments.

        :param attr_name: name of the attribute
        :param indices: which sub-environments; None: all
        :raises AttributeError: if neither they nor the vector environment have it
        """
        base = self.env.unwrapped
        if attr_name == "render_mode":
            values: Sequence[Any] = [self.env.render_mode] * self.num_envs
        elif not self._sub_environments_have(attr_name):
            values = each(getattr(self._layer(attr_name), attr_name), self.num_envs)
        elif isinstance(base, SyncVectorEnv):
            values = [env.get_wrapper_attr(attr_name) for env in base.envs]
        else:
            assert isinstance(base, AsyncVectorEnv)
            values = base.call("get_wrapper_attr", attr_name)  # call(attr_name) would call a method
        return [values[index] for index in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute where the wrappers of a sub-environment, or itself, have it; else on the outermost.

        :param attr_name: name of the attribute
        :param value: the value for each
        :param indices: which sub-environments; None: all
        :raises ValueError: if sub-environments cannot be reached (one by one)
        """
        base = self.env.unwrapped
        chosen = list(self._get_indices(indices))
        if isinstance(base, SyncVectorEnv):
            for index in chosen:
                base.envs[index].set_wrapper_attr(attr_name, value)
        else:
            self._reachable_only_together(chosen).set_attr(attr_name, [value] * self.num_envs)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the sub-environments.

        :param method_name: name of the method
        :param method_args: passed on
        :param indices: which sub-environments; None: all
        :param method_kwargs: passed on
        :raises AttributeError: if neither they nor the vector environment have it
        :raises ValueError: if sub-environments in other processes are not called all together
        """
        base = self.env.unwrapped
        chosen = list(self._get_indices(indices))
        answers: Sequence[Any] | None = None
        if self._sub_environments_have(method_name):
            if isinstance(base, SyncVectorEnv):
                methods = [base.envs[index].get_wrapper_attr(method_name) for index in chosen]
                return [method(*method_args, **method_kwargs) for method in methods]
            answers = self._reachable_only_together(chosen).call(method_name, *method_args, **method_kwargs)
        elif method_name == "action_masks" and self._layer_with(method_name) is None:
            answers = self._masks()
        if answers is None:
            method = getattr(self._layer(method_name), method_name)
            answers = each(method(*method_args, **method_kwargs), self.num_envs)
        return [answers[index] for index in chosen]

    def env_is_wrapped(self, wrapper_class: _Wrapper, indices: VecEnvIndices = None) -> list[bool]:
        """Tell whether sub-environments have a wrapper; ``Monitor`` is always there, for its work is done here.

        :param wrapper_class: the wrapper
        :param indices: which sub-environments; None: all
        """
        base = self.env.unwrapped
        if issubclass(wrapper_class, Monitor):
            wrapped = [True] * self.num_envs
        elif isinstance(base, SyncVectorEnv):
            wrapped = [is_wrapped(env, wrapper_class) for env in base.envs]
        elif isinstance(base, AsyncVectorEnv):  # they cannot be asked, but made once more
            wrapped = [_makes_wrapped(env_fn, wrapper_class) for env_fn in base.env_fns]
        else:
            wrapped = [False] * self.num_envs
        return [wrapped[index] for index in self._get_indices(indices)]

    def _sub_environments_have(self, name: str) -> bool:
        base = self.env.unwrapped
        if isinstance(base, SyncVectorEnv):
            return all(env.has_wrapper_attr(name) for env in base.envs)
        # Asking other processes for what they have not would end them
        return isinstance(base, AsyncVectorEnv) and all(base.call("has_wrapper_attr", name))

    def _layer_with(self, name: str) -> Any:
        """Return the outermost of the vector environment and its wrappers that has an attribute, else None."""
        layer: Any = self.env
        while not hasattr(layer, name):
            if layer is layer.unwrapped:
                return None
            layer = layer.env
        return layer

    def _layer(self, name: str) -> Any:
        layer = self._layer_with(name)
        if layer is None:
            raise AttributeError(f"{self.env} has no {name!r}, and none of its sub-environments that can be reached.")
        return layer

    def _reachable_only_together(self, chosen: list[int]) -> AsyncVectorEnv[Any, Any]:
        base = self.env.unwrapped
        if not isinstance(base, AsyncVectorEnv):
            raise ValueError(f"The sub-environments of {self.env} cannot be reached.")
        if sorted(chosen) != list(range(self.num_envs)):
            raise ValueError(
                f"{self.env} reaches its sub-environments only all together, not {chosen}: leave indices out, or use "
                "vectorization_mode='sync'."
            )
        return base

    def _masks(self) -> list[Any] | None:
        """Return the action masks of the infos, or None; an environment that was never reset is reset to know."""
        if not self._was_reset:
            self._current_infos = rows(self.env.reset()[1], self.num_envs)
        if all("action_mask" in info for info in self._current_infos):
            return [info["action_mask"] for info in self._current_infos]
        return None


def _makes_wrapped(env_fn: Callable[[], gym.Env[Any, Any]], wrapper_class: _Wrapper) -> bool:
    env = env_fn()
    try:
        return is_wrapped(env, wrapper_class)
    finally:
        env.close()
