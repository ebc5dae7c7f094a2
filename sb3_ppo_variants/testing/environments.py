"""Small environments with any observation and action space, for tests of variants."""

import copy
import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

VECTOR = spaces.Box(-1.0, 1.0, (4,), dtype=np.float32)
IMAGE = spaces.Box(0, 255, (36, 36, 1), dtype=np.uint8)
DICT = spaces.Dict({"position": spaces.Box(-1.0, 1.0, (3,), dtype=np.float32), "kind": spaces.Discrete(3)})

BOX = spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)
DISCRETE = spaces.Discrete(3)
MULTI_DISCRETE = spaces.MultiDiscrete([3, 2])
MULTI_BINARY = spaces.MultiBinary(3)


class SpaceEnv(gym.Env[Any, Any]):
    """A seeded environment with any observation and action space, whose reward depends on both.

    Observations are drawn from the observation space; the reward is the size of the action where the observation is
    in the upper half of its space, and minus that elsewhere. Episodes end by turns with a terminal state and a time
    limit.

    :param observation_space: any space that SB3 takes
    :param action_space: any space that SB3 takes
    :param episode_length: steps per episode
    """

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], episode_length: int = 11
    ) -> None:
        # Own copies: SB3 seeds the model's action space, which must not reach into the environment
        self.observation_space = copy.deepcopy(observation_space)
        self.action_space = copy.deepcopy(action_space)
        self.episode_length = episode_length
        self.poison: str | None = None  # "observation" or "reward": the next steps return NaN there
        self._step = 0
        self._episode = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.observation_space.seed(seed)
            self._episode = 0
        self._step = 0
        self._episode += 1
        self._observation = self.observation_space.sample()
        return self._observation, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Reward the action, and draw the next observation."""
        flat = np.asarray(spaces.flatten(self.observation_space, self._observation), dtype=np.float64)
        sign = 1.0 if flat[0] > (127 if self.observation_space == IMAGE else 0) else -1.0
        reward = sign * float(np.mean(np.asarray(action, dtype=np.float64)))
        self._step += 1
        self._observation = self.observation_space.sample()
        is_over = self._step >= self.episode_length
        if self.poison == "observation":
            self._observation = np.full_like(self._observation, np.nan)
        if self.poison == "reward":
            reward = math.nan
        return self._observation, reward, is_over and self._episode % 2 == 0, is_over and self._episode % 2 == 1, {}


class MaskedSpaceEnv(SpaceEnv):
    """A :class:`SpaceEnv` with action masks, drawn anew at each step; an invalid action is an AssertionError.

    :param observation_space: any space that SB3 takes
    :param action_space: Discrete, MultiDiscrete or MultiBinary
    :param valid: about this share of the choices is valid, in [0, 1]; of each component of an action one is at least
    """

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], *, valid: float = 0.5
    ) -> None:
        super().__init__(observation_space, action_space)
        self.valid = valid

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        result = super().reset(seed=seed, options=options)
        self._draw_masks()
        return result

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Reward the action, and draw the next observation and masks.

        :raises AssertionError: if the masks forbid the action
        """
        parts = np.split(self._masks, np.cumsum(_mask_sizes(self.action_space))[:-1])
        if not all(part[chosen] for part, chosen in zip(parts, np.atleast_1d(action), strict=True)):
            raise AssertionError(f"the action {action} is invalid: the masks are {self._masks}")
        result = super().step(action)
        self._draw_masks()
        return result

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Return True for each choice that is valid now, component by component."""
        return self._masks

    def _draw_masks(self) -> None:
        parts = []
        for size in _mask_sizes(self.action_space):
            part = self.np_random.random(size) < self.valid
            part[self.np_random.integers(size)] = True
            parts.append(part)
        self._masks: npt.NDArray[np.bool_] = np.concatenate(parts)


def make_env(
    observations: spaces.Space[Any] = VECTOR,
    actions: spaces.Space[Any] = DISCRETE,
    *,
    n_envs: int = 1,
    seed: int = 0,
    env_class: Callable[[spaces.Space[Any], spaces.Space[Any]], gym.Env[Any, Any]] = SpaceEnv,
) -> VecEnv:
    """Return vectorised, monitored environments.

    :param observations: observation space
    :param actions: action space
    :param n_envs: number of copies
    :param seed: of the first copy, the others count up
    :param env_class: makes one copy from the two spaces
    """
    return make_vec_env(lambda: env_class(observations, actions), n_envs=n_envs, seed=seed)


def _mask_sizes(actions: spaces.Space[Any]) -> list[int]:
    """Return the number of choices of each component of an action."""
    if isinstance(actions, spaces.Discrete):
        return [int(actions.n)]
    if isinstance(actions, spaces.MultiBinary):
        return [2] * int(np.prod(actions.shape))
    assert isinstance(actions, spaces.MultiDiscrete)
    return [int(size) for size in actions.nvec]
