"""What the tests of the families share: environments with action masks, settings of small models."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants import families
from sb3_ppo_variants.families import Maskable, MaskableRecurrent, Recurrent
from sb3_ppo_variants.testing import DISCRETE, VECTOR, SpaceEnv
from sb3_ppo_variants.training.update_loop import UpdateLoop

FAMILIES: Mapping[str, type[UpdateLoop]] = {
    "Maskable": Maskable,
    "Recurrent": Recurrent,
    "MaskableRecurrent": MaskableRecurrent,
}
LSTM: dict[str, Any] = {"policy_kwargs": {"lstm_hidden_size": 8, "net_arch": [8]}}


def class_of(family: str, variant: str) -> Any:
    return getattr(families, f"{family}{variant}")


def make_model(cls: type, env: VecEnv, **arguments: Any) -> Any:
    """Return a small model of a class of a family or of sb3-contrib."""
    kind = "MultiInput" if isinstance(env.observation_space, spaces.Dict) else "Mlp"
    policy = next(name for name in (f"{kind}LstmPolicy", f"{kind}Policy") if name in cls.policy_aliases)
    defaults: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 1, "device": "cpu"}
    return cls(policy, env, **(defaults | (LSTM if "Lstm" in policy else {}) | arguments))


class MaskedSpaceEnv(SpaceEnv):
    """A :class:`SpaceEnv` in which about half of the actions are invalid at each step; taking one is an error."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        result = super().reset(seed=seed, options=options)
        self._draw_masks()
        return result

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        parts = np.split(self._masks, np.cumsum(mask_sizes(self.action_space))[:-1])
        assert all(part[chosen] for part, chosen in zip(parts, np.atleast_1d(action), strict=True)), "invalid action"
        result = super().step(action)
        self._draw_masks()
        return result

    def action_masks(self) -> np.ndarray:
        return self._masks

    def _draw_masks(self) -> None:
        parts = []
        for size in mask_sizes(self.action_space):
            part = self.np_random.random(size) < 0.5
            part[self.np_random.integers(size)] = True
            parts.append(part)
        self._masks = np.concatenate(parts)


def mask_sizes(actions: spaces.Space[Any]) -> list[int]:
    """Return the number of choices of each component of an action."""
    if isinstance(actions, spaces.Discrete):
        return [int(actions.n)]
    return [2] * actions.n if isinstance(actions, spaces.MultiBinary) else [int(size) for size in actions.nvec]


def make_masked_env(
    observations: spaces.Space[Any] = VECTOR, actions: spaces.Space[Any] = DISCRETE, n_envs: int = 1
) -> VecEnv:
    return make_vec_env(lambda: MaskedSpaceEnv(observations, actions), n_envs=n_envs, seed=0)
