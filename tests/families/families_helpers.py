"""What the tests of the families share: environments with action masks, settings of small models."""

from collections.abc import Mapping
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants import families
from sb3_ppo_variants.families import Maskable, MaskableRecurrent, Recurrent
from sb3_ppo_variants.testing import DISCRETE, VECTOR, MaskedSpaceEnv, make_env
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


def make_masked_env(
    observations: spaces.Space[Any] = VECTOR, actions: spaces.Space[Any] = DISCRETE, n_envs: int = 1
) -> VecEnv:
    return make_env(observations, actions, n_envs=n_envs, env_class=MaskedSpaceEnv)
