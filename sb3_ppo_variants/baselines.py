"""SB3's PPO and sb3-contrib's TRPO, on arrays where the kernels know every part of the model.

Where they do not, rollouts and updates are the classes' own; one decision holds for both.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch as th
from sb3_contrib import TRPO
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.engines.choice import KERNELS
from sb3_ppo_variants.engines.critic_pass import CriticLoss, critic_pass
from sb3_ppo_variants.engines.eligibility import why_no_array_parts
from sb3_ppo_variants.engines.engine import CriticSettings, Trainable
from sb3_ppo_variants.engines.kernels.kernels import Kernels
from sb3_ppo_variants.engines.prediction import quick_actions
from sb3_ppo_variants.engines.rollout import collect_rollouts
from sb3_ppo_variants.engines.torch_engine import TorchEngine
from sb3_ppo_variants.maths import losses
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.update_parts.finite import check_rollout, in_the_update
from sb3_ppo_variants.variants.clip_ppo import Clip

if TYPE_CHECKING:  # the mixin is type-checked as what it always stands in front of
    _TRPO = TRPO
else:
    _TRPO = object


def on_arrays(cls: type[OnPolicyAlgorithm]) -> Any:
    """Return a baseline's class whose rollouts, updates and ``predict`` take less time; all else is the class's own.

    The same random numbers in the same order; figures are those of the class up to float rounding, until a rounding
    difference flips an action. ``predict`` has its bits. What has a part that the kernels do not know, as it was made
    or as it was changed since, is left to the class as a whole. What a callback writes into parameters counts from
    the next step on, unless it goes through ``parameter.data``: then, from the next rollout.

    PPO is trained by the loop that :class:`ClipPPO` has, which in PyTorch is PPO bit for bit. TRPO's policy step stays
    sb3-contrib's, in PyTorch; the passes of its critic run on kernels. On arrays, a rollout that is not finite is
    refused (``NonFiniteUpdateError``), with which the classes would go on.

    :param cls: SB3's PPO or sb3-contrib's TRPO
    :return: a subclass of it with its name and its constructor, and ``engine_in_use`` as the variants have it
    """
    mixin = {PPO: _ArrayPPO, TRPO: _ArrayTRPO}[cls]
    return type(cls.__name__, (mixin, cls), {"__doc__": cls.__doc__, "__module__": cls.__module__})


class _ArrayPPO(Clip):
    @wraps(PPO.__init__)  # type: ignore[misc] # a zoo entry may hold what PPO takes, not the variants' options
    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)

    def train(self) -> None:
        """Update as SB3 does.

        :raises NonFiniteUpdateError: on arrays, before a NaN or an infinity reaches the parameters
        """
        if self.engine_in_use == TorchEngine.name:
            PPO.train(self)  # not the loop's, though it has the same bits there
        else:
            super().train()


class _ArrayTRPO(_TRPO):
    _kernels: Kernels | None = None
    exploration_noise = critic_optimizer = None  # options of the variants

    @property
    def engine_in_use(self) -> str:
        """What runs rollouts and critic of this model as it is now: "torch" (the class), "numpy" or "compiled"."""
        kernels = self._kernels_of_now()
        return TorchEngine.name if kernels is None else kernels.name

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Collect as SB3 does.

        :raises NonFiniteUpdateError: if an observation or the policy's outputs are not finite
        """
        kernels = self._kernels_of_now()
        if kernels is None:
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        reader = cast(Kernels, _Reader(kernels))
        return collect_rollouts(cast(Trainable, self), reader, env, callback, rollout_buffer, n_rollout_steps)

    def train(self) -> None:
        """Update as sb3-contrib does.

        :raises NonFiniteUpdateError: on arrays, before a NaN or an infinity of the rollout reaches anything, and before
            one reaches the critic
        """
        kernels = self._kernels_of_now()
        if kernels is None:
            super().train()
            return
        check_rollout(self.rollout_buffer, self._last_obs, self.num_timesteps)
        passes = self.n_critic_updates
        with self._without_critic():
            super().train()
        settings = CriticSettings(self.policy.optimizer, self.batch_size, math.inf)
        where = in_the_update(self.num_timesteps)
        # The actor stays out of it: it has no moments, for its gradients never reach the optimizer
        kernels.critic_group.bind(self.policy.optimizer)
        try:
            with np.errstate(all="ignore"):
                value_losses = [
                    critic_pass(kernels, self.rollout_buffer, settings, _SQUARED_ERROR, where) for _ in range(passes)
                ]
        finally:
            kernels.critic_group.publish(self.policy.optimizer)
        self.logger.record("train/value_loss", np.mean(value_losses))

    @contextmanager
    def _without_critic(self) -> Iterator[None]:
        """Let the class make its policy step alone; it logs the mean of no loss, at which NumPy warns."""
        passes = self.n_critic_updates
        self.n_critic_updates = 0
        try:
            with warnings.catch_warnings():
                for message in ("Mean of empty slice", "invalid value encountered in .*divide"):
                    warnings.filterwarnings("ignore", message, RuntimeWarning)
                yield
        finally:
            self.n_critic_updates = passes

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

    def _kernels_of_now(self) -> Kernels | None:
        """Return kernels for the model as it is now, or None where it is left to the class."""
        counts = (self.batch_size, self.n_critic_updates)
        if not all(map(_is_count, counts)) or why_no_array_parts(self) is not None:
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


def _is_count(number: Any) -> bool:
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool) and bool(number >= 1)


def _squared_error_slope(values: FloatArray, old_values: FloatArray, returns: FloatArray) -> FloatArray:
    return losses.value_loss_slope(values, old_values, returns, None)


def _mean_squared_error(values: FloatArray, old_values: FloatArray, returns: FloatArray) -> float:
    return float(losses.value_loss(th.from_numpy(values), th.from_numpy(old_values), th.from_numpy(returns), None))


_SQUARED_ERROR = CriticLoss(_squared_error_slope, _mean_squared_error)


class _Reader:
    """Kernels that copy the policy's parameters, and so leave its memory and its optimizer alone."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
        self._parameters = [*kernels.actor_group.parameters, *kernels.critic_group.parameters]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernels, name)

    def bind(self) -> None:
        self._kernels.read_parameters()
        self._versions = self._versions_of_now()

    def is_bound(self, policy: ActorCriticPolicy) -> bool:
        return self._kernels.is_bound(policy) and self._versions_of_now() == self._versions

    def _versions_of_now(self) -> list[int]:
        """Return what PyTorch counts up with each write into a parameter."""
        return [parameter._version for parameter in self._parameters]
