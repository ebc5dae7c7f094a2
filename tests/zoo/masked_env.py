"""A package of environments, as a user's: ``--gym-packages masked_env`` registers one whose wrong actions raise."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class OneValidAction(gym.Env[np.ndarray, int]):
    """Five actions, of which one is valid; it is shown by the mask only, and any other is an error."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(5)
    metadata = {"render_modes": ["rgb_array", "human"]}  # noqa: RUF012 -- as gymnasium declares it

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._left = 10
        self._valid = int(self.np_random.integers(5))
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> Any:
        if action != self._valid:
            raise RuntimeError(f"action {action} is not valid, {self._valid} is")
        self._left -= 1
        self._valid = int(self.np_random.integers(5))
        return np.zeros(2, np.float32), 1.0, self._left == 0, False, {}

    def action_masks(self) -> np.ndarray:
        return np.arange(5) == self._valid

    def render(self) -> np.ndarray:
        frame = np.zeros((64, 64, 3), np.uint8)
        frame[:, : 6 * self._left] = 255
        return frame


gym.register("OneValidAction-v0", OneValidAction)
