"""The critic's part of one update: its own passes, advantages computed again, and what is logged of both."""

from types import TracebackType

import numpy as np
from stable_baselines3.common.utils import explained_variance
from typing_extensions import Self

from sb3_ppo_variants.engines.engine import Update
from sb3_ppo_variants.engines.gae import advantages_of
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.training.critic_options import CriticOptions


class CriticUpdate:
    """Made when an update begins, dropped when it ends; without critic options it does nothing.

    A context: when it is left, advantages and returns in the buffer are again those that the rollout came with.

    :param model: the model
    :param update: its update, which has not made a step yet
    """

    def __init__(self, model: CriticOptions, update: Update) -> None:
        self._model = model
        self._update = update
        self._buffer = buffer = model.rollout_buffer
        self._shape = (buffer.buffer_size, buffer.n_envs)
        self._is_apart = model.critic_epochs is not None
        self._recomputes = model.recompute_advantages != "never"
        self._logs: dict[str, float] = {}
        self._has_moved = False
        if self._is_apart or self._recomputes:
            self._advantages, self._returns = (self._by_step(array) for array in (buffer.advantages, buffer.returns))
        if model.critic_gae_lambda is not None:
            self._old_last_values = model._last_values()
        if self._recomputes:
            self._old_truncated_values = model._truncated_values()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_apart or self._recomputes:
            self._put(self._advantages, self._returns)

    def train(self) -> None:
        """Train a critic of its own on the rollout's returns; do nothing where it is trained with the actor."""
        model = self._model
        if model.critic_epochs is None:
            return
        current = self._by_step(self._buffer.returns)
        targets = self._targets()
        self._put(None, targets)
        settings = model._critic_settings()
        for _ in range(model.critic_epochs):
            value_loss = self._update.train_critic(settings)
        self._has_moved = True
        values = self._by_step(self._update.values())
        self._put(None, current)
        self._logs = {
            "train/value_loss": value_loss,
            "train/critic_learning_rate": settings.optimizer.param_groups[0]["lr"],
            "train/explained_variance_after": explained_variance(values.flatten(), targets.flatten()),
        }

    def refresh_advantages(self) -> None:
        """Compute advantages and returns again where the critic has moved since they were, if the model wants that.

        Called before each epoch of the actor. The value-function clip stays around the rollout's own predictions.
        """
        if not self._recomputes:
            return
        if self._has_moved:
            self._recompute()
        self._has_moved = not self._is_apart  # with the actor, it moves in the epoch that follows

    def logs(self, epochs: int, stop_epoch: int | None) -> dict[str, float]:
        """Return what the update adds to the log about the critic, and the passes of both.

        :param epochs: passes that the loop made
        :param stop_epoch: pass in which the actor was stopped, from 0, or None
        """
        passes = {
            "train/actor_epochs": epochs if stop_epoch is None else stop_epoch + 1,
            "train/critic_epochs": epochs if self._model.critic_epochs is None else self._model.critic_epochs,
        }
        return self._logs | passes

    def _targets(self) -> FloatArray:
        """Return what a critic of its own is trained on: the rollout's returns, or those of its own lambda."""
        if self._model.critic_gae_lambda is None:
            return self._returns
        values = self._by_step(self._buffer.values)
        return self._gae(self._rewards(), values, self._old_last_values, self._model.critic_gae_lambda) + values

    def _recompute(self) -> None:
        model = self._model
        rewards = self._rewards().copy()
        # The rollout's rewards hold the old values of the observations at which time limits ended episodes
        renewed = model._truncated_values() - self._old_truncated_values
        for truncation, difference in zip(model._truncations, renewed, strict=True):
            rewards[truncation.step, truncation.env] += model.gamma * difference
        values = self._by_step(self._update.values())
        advantages = self._gae(rewards, values, model._last_values(), model.gae_lambda)
        self._put(advantages, advantages + values)
        self._update.read_targets()

    def _gae(self, rewards: FloatArray, values: FloatArray, last_values: FloatArray, gae_lambda: float) -> FloatArray:
        model = self._model
        assert model._last_episode_starts is not None
        starts = self._by_step(self._buffer.episode_starts)
        return advantages_of(rewards, values, starts, last_values, model._last_episode_starts, model.gamma, gae_lambda)

    def _rewards(self) -> FloatArray:
        return self._by_step(self._buffer.rewards)

    def _by_step(self, array: FloatArray) -> FloatArray:
        """Return an array of the buffer in shape (steps, environments), flattened or not."""
        return array if array.shape == self._shape else array.reshape(self._shape[::-1]).T

    def _put(self, advantages: FloatArray | None, returns: FloatArray) -> None:
        """Write targets of shape (steps, environments) into the buffer, in the form that it has now."""
        for name, array in (("advantages", advantages), ("returns", returns)):
            if array is not None:
                is_flat = getattr(self._buffer, name).shape != self._shape
                setattr(self._buffer, name, np.ascontiguousarray(array.T).reshape(-1, 1) if is_flat else array)
