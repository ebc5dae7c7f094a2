"""Samples of a rollout as the losses read them, in arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.buffers import RolloutBuffer

from sb3_ppo_variants.engines.kernels.head import OldDistribution
from sb3_ppo_variants.maths.arrays import FloatArray


@dataclass(frozen=True)
class Samples:
    """Samples of the rollout as the losses read them, without their observations, in the kernels' dtype."""

    actions: FloatArray
    old_values: FloatArray
    old_log_prob: FloatArray
    advantages: FloatArray
    returns: FloatArray
    old: OldDistribution

    def rows(self, index: slice | npt.NDArray[np.intp]) -> "Samples":
        """Return some of the samples."""
        return Samples(
            self.actions[index],
            self.old_values[index],
            self.old_log_prob[index],
            self.advantages[index],
            self.returns[index],
            self.old.rows(index),
        )


def samples_of(buffer: RolloutBuffer, old: OldDistribution, dtype: Any) -> Samples:
    """Read a rollout.

    :param buffer: a full buffer, flattened
    :param old: the distribution that each action came from
    :param dtype: of the arrays
    """
    return Samples(
        actions=buffer.actions.astype(dtype, copy=False),
        old_values=buffer.values[:, 0].astype(dtype, copy=False),
        old_log_prob=buffer.log_probs[:, 0].astype(dtype, copy=False),
        advantages=buffer.advantages[:, 0].astype(dtype, copy=False),
        returns=buffer.returns[:, 0].astype(dtype, copy=False),
        old=old,
    )
