"""Rollout buffers that hold action masks and LSTM states: sb3-contrib's two, combined by inheritance."""

from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch as th
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer
from sb3_contrib.common.recurrent.buffers import RecurrentDictRolloutBuffer, RecurrentRolloutBuffer
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.type_aliases import TensorDict
from stable_baselines3.common.vec_env import VecNormalize


class MaskableRecurrentRolloutBufferSamples(NamedTuple):
    """Padded sequences: the fields of sb3-contrib's recurrent samples, and masks.

    :param action_masks: 1 where an action is valid, shape (padded batch, number of actions); all valid in padding
    """

    observations: th.Tensor | TensorDict
    actions: th.Tensor
    old_values: th.Tensor
    old_log_prob: th.Tensor
    advantages: th.Tensor
    returns: th.Tensor
    lstm_states: RNNStates
    episode_starts: th.Tensor
    mask: th.Tensor
    action_masks: th.Tensor


class _MaskedSequences:
    """In front of a recurrent and a maskable buffer, which add, reset and store together: masks as sequences."""

    def keep_action_masks(self: Any, action_masks: npt.NDArray[np.bool_]) -> None:
        """Keep the masks of the step that is to be added next."""
        self.action_masks[self.pos] = action_masks.reshape(self.n_envs, self.mask_dims)

    def get(self: Any, batch_size: int | None = None) -> Generator[MaskableRecurrentRolloutBufferSamples, None, None]:
        """Yield minibatches of sequences, drawn as sb3-contrib's recurrent buffer draws them."""
        if self.full and not self.generator_ready:
            self.action_masks = self.swap_and_flatten(self.action_masks)
        yield from super().get(batch_size)  # type: ignore[misc]

    def _get_samples(
        self: Any,
        batch_inds: npt.NDArray[np.int64],
        env_change: npt.NDArray[np.float64],
        env: VecNormalize | None = None,
    ) -> MaskableRecurrentRolloutBufferSamples:
        sequences = super()._get_samples(batch_inds, env_change, env)  # type: ignore[misc]
        masks = self.pad(self.action_masks[batch_inds], padding_value=1.0).reshape(-1, self.mask_dims)
        return MaskableRecurrentRolloutBufferSamples(**sequences._asdict(), action_masks=masks)


class MaskableRecurrentRolloutBuffer(_MaskedSequences, RecurrentRolloutBuffer, MaskableRolloutBuffer):  # type: ignore[misc]
    """Rollout buffer with action masks and LSTM states."""


class MaskableRecurrentDictRolloutBuffer(  # type: ignore[misc]
    _MaskedSequences, RecurrentDictRolloutBuffer, MaskableDictRolloutBuffer
):
    """Rollout buffer with action masks and LSTM states, for Dict observations."""
