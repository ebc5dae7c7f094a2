"""What the slope hooks of a variant see on arrays: the twin of :class:`MiniBatch`."""

from typing import NamedTuple

from sb3_ppo_variants.maths.arrays import FloatArray


class ArrayBatch(NamedTuple):
    """One minibatch under the policy being trained. All arrays have shape (batch,) but the actions and Gaussians.

    :param actions: actions taken, shape (batch, action dimensions)
    :param advantages: advantages, normalised over the minibatch if the algorithm does so
    :param old_log_prob: log-probability of the actions under the policy that took them
    :param log_ratio: log of the probability ratio new/old of each action
    :param ratio: probability ratio new/old of each action
    :param clip_range: clip range of this update
    :param kl: exact KL(old||new) per state; only for variants that set ``needs_old_distribution``
    :param old_gaussian: mean and standard deviation of the old policy, each (batch, action dimensions); only for
        variants that set ``needs_old_distribution``, on Box action spaces
    """

    actions: FloatArray
    advantages: FloatArray
    old_log_prob: FloatArray
    log_ratio: FloatArray
    ratio: FloatArray
    clip_range: float
    kl: FloatArray | None = None
    old_gaussian: tuple[FloatArray, FloatArray] | None = None
