"""Samples of a rollout as the losses read them, in arrays."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.buffers import RolloutBuffer

from sb3_ppo_variants.engines.kernels.head import OldDistribution
from sb3_ppo_variants.maths.arrays import FloatArray


class Samples(NamedTuple):
    """Samples of the rollout as the losses read them, without their observations, in the kernels' dtype.

    ``old`` is the distribution that each action came from; None where no hook reads it.
    """

    actions: FloatArray
    old_values: FloatArray
    old_log_prob: FloatArray
    advantages: FloatArray
    returns: FloatArray
    old: OldDistribution | None

    def rows(self, index: slice | npt.NDArray[np.intp]) -> "Samples":
        """Return some of the samples."""
        return Samples(
            self.actions[index],
            self.old_values[index],
            self.old_log_prob[index],
            self.advantages[index],
            self.returns[index],
            None if self.old is None else self.old.rows(index),
        )


def samples_of(buffer: RolloutBuffer, old: OldDistribution | None, dtype: Any) -> Samples:
    """Read a rollout.

    :param buffer: a full buffer, flattened
    :param old: the distribution that each action came from, where hooks read it
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
