"""SB3's and sb3-contrib's own algorithms, their rollouts collected by the array engine; their updates stay theirs."""

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.engines.choice import KERNELS
from sb3_ppo_variants.engines.eligibility import why_no_array_policy
from sb3_ppo_variants.engines.engine import Trainable
from sb3_ppo_variants.engines.kernels.kernels import Kernels
from sb3_ppo_variants.engines.prediction import quick_actions
from sb3_ppo_variants.engines.rollout import collect_rollouts
from sb3_ppo_variants.engines.untouched import is_untouched

if TYPE_CHECKING:  # the mixin is type-checked as what it always stands in front of
    _Base = OnPolicyAlgorithm
else:
    _Base = object


def with_array_rollouts(cls: type[OnPolicyAlgorithm]) -> Any:
    """Return a class whose rollouts, and whose ``predict``, take less time; everything else is the class's own.

    Actions, rewards and random numbers are those of the class until a rounding difference flips an action;
    ``predict`` has its bits. Policies that the kernels do not know are left to the class. What a callback writes into
    parameters counts from the next step on, unless it goes through ``parameter.data``: then, from the next rollout.

    :param cls: an algorithm with SB3's rollout, such as SB3's PPO or sb3-contrib's TRPO
    :return: a subclass of it with its name
    """
    return type(cls.__name__, (_ArrayRollouts, cls), {"__doc__": cls.__doc__, "__module__": cls.__module__})


class _ArrayRollouts(_Base):
    _kernels: Kernels | None = None
    exploration_noise = critic_optimizer = None  # options of the variants

    @property
    def engine_in_use(self) -> str:
        """The engine that runs rollouts of this model as it is now: "torch" (SB3's loop), "numpy" or "compiled"."""
        kernels = self._rollout_kernels()
        return "torch" if kernels is None else kernels.name

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Collect as SB3 does.

        :raises NonFiniteUpdateError: if an observation or the policy's outputs are not finite
        """
        kernels = self._rollout_kernels()
        if kernels is None or not is_untouched(rollout_buffer, RolloutBuffer):
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        reader = cast(Kernels, _Reader(kernels))
        return collect_rollouts(cast(Trainable, self), reader, env, callback, rollout_buffer, n_rollout_steps)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Return what SB3's ``predict`` returns, bit for bit."""
        actions = quick_actions(self.policy, observation, deterministic)
        return (
            super().predict(observation, state, episode_start, deterministic) if actions is None else (actions, state)
        )

    def _rollout_kernels(self) -> Kernels | None:
        """Return kernels for the policy as it is now, or None where there are none."""
        if why_no_array_policy(self.policy) is not None:
            self._kernels = None
        elif self._kernels is None or not self._kernels.fits(self.policy, None):
            kernels = next((kernels for kernels in KERNELS.values() if kernels.why_not(self.policy) is None), None)
            self._kernels = None if kernels is None else kernels(self.policy)
        return self._kernels

    def __getstate__(self) -> dict[str, Any]:
        """Leave the kernels out of pickles and copies: they hold memory that is not theirs there."""
        return {name: value for name, value in vars(self).items() if name != "_kernels"}

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_kernels"]


class _Reader:
    """Kernels that copy the policy's parameters, and so leave its memory and its optimizer alone."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernels, name)

    def bind(self) -> None:
        self._kernels.read_parameters()
        self._versions = self._versions_of_now()

    def is_bound(self, policy: ActorCriticPolicy) -> bool:
        return self._kernels.is_bound(policy) and self._versions_of_now() == self._versions

    def _versions_of_now(self) -> list[int]:
        """Return what PyTorch counts up with each write into a parameter."""
        return [parameter._version for parameter in self._kernels.policy.parameters()]
