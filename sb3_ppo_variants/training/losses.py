r"""Surrogate objectives and value losses as pure functions.

Notation: :math:`r` is the probability ratio new/old of the action taken, :math:`A` its advantage,
:math:`\epsilon` the clip range. Surrogates are per sample and to be maximised; value losses are scalars to be
minimised. All tensors have shape (batch,).

Beside each surrogate stands its slope d(objective)/d(log r), on NumPy arrays: the NumPy engine's gradient. Autograd is
the other implementation; a test holds the two together. At a kink the slope is autograd's choice.
"""

import numpy as np
import torch as th
from torch.nn import functional as F  # noqa: N812 -- the field's name for it

from sb3_ppo_variants.engine.array_batch import FloatArray


def clipped_surrogate(ratio: th.Tensor, advantages: th.Tensor, clip_low: float, clip_high: float) -> th.Tensor:
    r"""Return the clipped objective :math:`\min(rA, \mathrm{clamp}(r, 1-\epsilon_{low}, 1+\epsilon_{high}) A)`.

    :param ratio: probability ratio
    :param advantages: advantages, usually normalised over the minibatch
    :param clip_low: how far below 1 the ratio still earns, in (0, 1)
    :param clip_high: how far above 1 the ratio still earns, > 0

    Source: Schulman et al. 2017 (1707.06347), eq. 7; separate bounds: Yu et al. 2025 (2503.14476), sec. 3.1.
    """
    return th.min(advantages * ratio, advantages * th.clamp(ratio, 1 - clip_low, 1 + clip_high))


def clipped_surrogate_slope(ratio: FloatArray, advantages: FloatArray, clip_low: float, clip_high: float) -> FloatArray:
    """Return the slope of :func:`clipped_surrogate`: r A where the unclipped term is the smaller, else 0."""
    unclipped = advantages * ratio
    clipped = advantages * np.clip(ratio, 1 - clip_low, 1 + clip_high)
    return np.where(unclipped <= clipped, unclipped, 0.0)


def dual_clip(surrogate: th.Tensor, advantages: th.Tensor, bound: float) -> th.Tensor:
    r"""Bound a surrogate from below by :math:`cA` where the advantage is negative.

    Without it a bad action whose ratio has grown weighs on the update without limit.

    :param surrogate: per-sample objective
    :param advantages: advantages
    :param bound: c > 1, the ratio from which a bad action's objective stays flat

    Source: Ye et al. 2020 (1912.09729), eq. 5.
    """
    return th.where(advantages < 0, th.max(surrogate, bound * advantages), surrogate)


def dual_clip_slope(slope: FloatArray, ratio: FloatArray, advantages: FloatArray, bound: float) -> FloatArray:
    """Return the slope of :func:`dual_clip` applied to a clipped surrogate with this ``slope``."""
    return np.where((advantages < 0) & (ratio > bound), 0.0, slope)


def value_loss(values: th.Tensor, old_values: th.Tensor, returns: th.Tensor, clip_range_vf: float | None) -> th.Tensor:
    """Return SB3's value loss: mean squared error of the values, or of the clipped values alone.

    :param values: predictions of the critic
    :param old_values: predictions at collection time
    :param returns: TD(lambda) targets
    :param clip_range_vf: how far a value may move from its old one before the loss ignores it, in units of
        the return; None for no clipping
    """
    if clip_range_vf is not None:
        values = old_values + th.clamp(values - old_values, -clip_range_vf, clip_range_vf)
    return F.mse_loss(returns, values)


def value_loss_slope(
    values: FloatArray, old_values: FloatArray, returns: FloatArray, clip_range_vf: float | None
) -> FloatArray:
    """Return the derivative of each sample's squared error in :func:`value_loss` by its value."""
    if clip_range_vf is None:
        return 2.0 * (values - returns)
    change = values - old_values
    clipped = old_values + np.clip(change, -clip_range_vf, clip_range_vf)
    return np.where(np.abs(change) <= clip_range_vf, 2.0 * (clipped - returns), 0.0)


def max_clipped_value_loss(
    values: th.Tensor, old_values: th.Tensor, returns: th.Tensor, clip_range_vf: float
) -> th.Tensor:
    """Return the pessimistic value loss: per sample, the larger of the clipped and the unclipped squared error.

    Unlike SB3's form, a value outside the clip range that is still wrong keeps its gradient.

    :param values: predictions of the critic
    :param old_values: predictions at collection time
    :param returns: TD(lambda) targets
    :param clip_range_vf: how far a value may move from its old one, in units of the return

    Source: the form of OpenAI baselines' PPO2.
    """
    clipped = old_values + th.clamp(values - old_values, -clip_range_vf, clip_range_vf)
    return th.max((returns - values) ** 2, (returns - clipped) ** 2).mean()


def max_clipped_value_loss_slope(
    values: FloatArray, old_values: FloatArray, returns: FloatArray, clip_range_vf: float
) -> FloatArray:
    """Return the derivative of each sample's error in :func:`max_clipped_value_loss` by its value."""
    clipped = old_values + np.clip(values - old_values, -clip_range_vf, clip_range_vf)
    error = values - returns
    return np.where(np.abs(error) >= np.abs(clipped - returns), 2.0 * error, 0.0)
