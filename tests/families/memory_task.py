"""A small task that needs memory and action masks at once."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class CueCorridor(gym.Env[np.ndarray, int]):
    """A cue at the entrance, a few blank steps, and a door at the end that must be chosen by the cue.

    Even actions go left, odd ones right. At each step one even and one odd action, drawn anew, are valid, and nothing
    but the mask tells which; an invalid action ends the episode without a reward. At the last step the side that the
    cue named gives a reward of 1, the other none. So the best possible mean return is

    - 1 with masks and memory;
    - 1/2 with masks alone: the sides at the end look the same;
    - (2 / actions) ** (length - 1) / (actions / 2) with memory alone: every action is invalid too often.
    """

    length: ClassVar[int] = 4
    actions: ClassVar[int] = 8

    observation_space = spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)
    action_space = spaces.Discrete(actions)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed, options=options)
        self._cue = int(self.np_random.integers(2))
        self._position = 0
        self._draw_masks()
        return np.array([2.0 * self._cue - 1.0, 0.0], dtype=np.float32), {}

    def step(self, action: int) -> Any:
        self._position += 1
        is_valid, is_over = self._masks[action], self._position == self.length
        reward = float(is_valid and is_over and action % 2 == self._cue)
        self._draw_masks()
        at_the_door = float(self._position == self.length - 1)
        return np.array([0.0, at_the_door], dtype=np.float32), reward, bool(is_over or not is_valid), False, {}

    def action_masks(self) -> np.ndarray:
        return self._masks

    def _draw_masks(self) -> None:
        self._masks = np.zeros(self.actions, dtype=bool)
        for side in range(2):
            self._masks[2 * self.np_random.integers(self.actions // 2) + side] = True
