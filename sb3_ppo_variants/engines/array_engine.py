"""Rollouts and updates of a plain MLP policy on arrays, on the parameters that the torch policy holds."""

from collections.abc import Callable
from typing import Any

import numpy.typing as npt
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.engines import rollout
from sb3_ppo_variants.engines.array_update import ArrayUpdate
from sb3_ppo_variants.engines.engine import Engine, Trainable
from sb3_ppo_variants.engines.exploring import exploring
from sb3_ppo_variants.engines.kernels.kernels import Kernels
from sb3_ppo_variants.engines.prediction import quick_actions
from sb3_ppo_variants.engines.untouched import is_untouched
from sb3_ppo_variants.update_parts.snapshot import PolicySnapshot


class ArrayEngine(Engine):
    """Runs one model on kernels.

    :param model: an eligible model (see :func:`why_no_arrays`)
    :param kernels: which kernels do the arithmetic
    """

    def __init__(self, model: Trainable, kernels: type[Kernels]) -> None:
        self.name = kernels.name
        self._model = model
        self.kernels = kernels(model.policy, model.critic_optimizer)
        self.bind()

    def fits(self, model: Trainable) -> bool:  # noqa: D102 -- see Engine
        return model is self._model and self.kernels.fits(model.policy, model.critic_optimizer)

    def bind(self) -> None:
        """Make sure that PyTorch and the kernels hold the same memory."""
        self.kernels.bind()

    def collect_rollouts(  # noqa: D102
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
        sb3_loop: Callable[[], bool],
    ) -> bool:
        if not is_untouched(rollout_buffer, RolloutBuffer):
            with exploring(self._model, rollout_buffer):
                return sb3_loop()
        return rollout.collect_rollouts(self._model, self.kernels, env, callback, rollout_buffer, n_rollout_steps)

    def predict(self, observation: Any, deterministic: bool) -> npt.NDArray[Any] | None:  # noqa: D102
        return quick_actions(self._model.policy, observation, deterministic)

    def begin_update(self, old_policy: PolicySnapshot) -> ArrayUpdate:  # noqa: D102
        return ArrayUpdate(self._model, self.kernels, old_policy)
