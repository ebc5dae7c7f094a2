r"""Surrogate objectives and value losses as pure functions.

Notation: :math:`r` is the probability ratio new/old of the action taken, :math:`A` its advantage,
:math:`\epsilon` the clip range. Surrogates are per sample and to be maximised; value losses are scalars to be
minimised. All tensors have shape (batch,).

Beside each surrogate stands its slope d(objective)/d(log r), on NumPy arrays: the NumPy engine's gradient. Autograd is
the other implementation; a test holds the two together. At a kink the slope is autograd's choice.
"""

from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch as th
from torch.nn import functional as F  # noqa: N812 -- the field's name for it

from sb3_ppo_variants.maths.arrays import FloatArray

BoolArray = npt.NDArray[np.bool_]


def clipped_surrogate(ratio: th.Tensor, advantages: th.Tensor, clip_low: float, clip_high: float) -> th.Tensor:
    r"""Return the clipped objective :math:`\min(rA, \mathrm{clamp}(r, 1-\epsilon_{low}, 1+\epsilon_{high}) A)`.

    :param ratio: probability ratio
    :param advantages: advantages, usually normalised over the minibatch
    :param clip_low: how far below 1 the ratio still earns, in (0, 1)
    :param clip_high: how far above 1 the ratio still earns, > 0

    Source: Schulman et al. 2017 (1707.06347), eq. 7; separate bounds: Yu et al. 2025 (2503.14476), eq. 10.
    """
    return th.min(advantages * ratio, advantages * th.clamp(ratio, 1 - clip_low, 1 + clip_high))


def clipped_surrogate_slope(ratio: FloatArray, advantages: FloatArray, clip_low: float, clip_high: float) -> FloatArray:
    """Return the slope of :func:`clipped_surrogate`: r A where the unclipped term is the smaller, else 0."""
    unclipped = advantages * ratio
    clipped = advantages * np.minimum(np.maximum(ratio, 1 - clip_low), 1 + clip_high)
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


def unclipped_surrogate(ratio: th.Tensor, advantages: th.Tensor) -> th.Tensor:
    r"""Return the importance-weighted objective :math:`rA`, which limits nothing by itself.

    :param ratio: probability ratio
    :param advantages: advantages

    Source: Schulman et al. 2017 (1707.06347), eq. 6.
    """
    return advantages * ratio


def unclipped_surrogate_slope(ratio: FloatArray, advantages: FloatArray) -> FloatArray:
    """Return the slope of :func:`unclipped_surrogate`: r A."""
    return advantages * ratio


def bounded_surrogate(ratio: th.Tensor, advantages: th.Tensor, lower: th.Tensor, upper: th.Tensor) -> th.Tensor:
    r"""Return the clipped objective with its own bounds for each sample: :math:`\min(rA, \mathrm{clamp}(r, l, u)A)`.

    :param ratio: probability ratio
    :param advantages: advantages
    :param lower: l <= 1 per sample
    :param upper: u >= 1 per sample

    Source: Wang et al. 2019 (1901.10314).
    """
    return th.min(advantages * ratio, advantages * th.clamp(ratio, lower, upper))


def bounded_surrogate_slope(
    ratio: FloatArray, advantages: FloatArray, lower: FloatArray, upper: FloatArray
) -> FloatArray:
    """Return the slope of :func:`bounded_surrogate`: r A where the unclipped term is the smaller, else 0."""
    unclipped = advantages * ratio
    return np.where(unclipped <= advantages * np.clip(ratio, lower, upper), unclipped, 0.0)


def simple_policy_surrogate(ratio: th.Tensor, advantages: th.Tensor, epsilon: float) -> th.Tensor:
    r"""Return the objective with a quadratic penalty on the ratio: :math:`rA - |A|(r-1)^2/(2\epsilon)`.

    Its maximum lies at :math:`r = 1 + \epsilon\,\mathrm{sign}(A)`; beyond, the gradient pulls the ratio back.

    :param ratio: probability ratio
    :param advantages: advantages
    :param epsilon: distance from 1 at which the gradient is zero, > 0

    Source: Xie et al. 2025 (2401.16025, as of ICML 2025), eq. 16.
    """
    return advantages * ratio - advantages.abs() * (ratio - 1) ** 2 / (2 * epsilon)


def simple_policy_surrogate_slope(ratio: FloatArray, advantages: FloatArray, epsilon: float) -> FloatArray:
    """Return the slope of :func:`simple_policy_surrogate`: r (A - abs(A) (r - 1) / epsilon)."""
    return ratio * (advantages - np.abs(advantages) * (ratio - 1) / epsilon)


def rollback_surrogate(ratio: th.Tensor, advantages: th.Tensor, epsilon: float, rollback_coef: float) -> th.Tensor:
    r"""Return the objective whose slope turns round where the clipped objective goes flat.

    .. math::
        A \ge 0,\ r > 1+\epsilon:\ \left(-\alpha r + (1+\alpha)(1+\epsilon)\right)A \qquad
        A < 0,\ r < 1-\epsilon:\ \left(-\alpha r + (1+\alpha)(1-\epsilon)\right)A \qquad
        \text{else } rA

    :param ratio: probability ratio
    :param advantages: advantages
    :param epsilon: how far from 1 the ratio still earns
    :param rollback_coef: alpha >= 0; 0 has the clipped objective's gradient

    Source: Wang et al. 2019 (1903.07940, first version), eqs. 10 and 11: PPO-RB.
    """
    kink = 1 + epsilon * advantages.sign()
    rolled_back = (1 + rollback_coef) * kink - rollback_coef * ratio
    return advantages * th.where(advantages * (ratio - kink) > 0, rolled_back, ratio)


def rollback_surrogate_slope(
    ratio: FloatArray, advantages: FloatArray, epsilon: float, rollback_coef: float
) -> FloatArray:
    """Return the slope of :func:`rollback_surrogate`: -alpha r A beyond the range, else r A."""
    kink = 1 + epsilon * np.sign(advantages)
    unclipped = advantages * ratio
    return np.where(advantages * (ratio - kink) > 0, -rollback_coef * unclipped, unclipped)


def flat_where_triggered(ratio: th.Tensor, advantages: th.Tensor, triggered: th.Tensor) -> th.Tensor:
    r"""Return :math:`rA`, without gradient where the trust region has been left.

    :param ratio: probability ratio
    :param advantages: advantages
    :param triggered: which samples have left it, see :func:`kl_trigger`

    Source: Wang et al. 2019 (1903.07940, first version), eqs. 13 to 15: TR-PPO.
    """
    surrogate = unclipped_surrogate(ratio, advantages)
    return th.where(triggered, surrogate.detach(), surrogate)


def flat_where_triggered_slope(ratio: FloatArray, advantages: FloatArray, triggered: BoolArray) -> FloatArray:
    """Return the slope of :func:`flat_where_triggered`: 0 where triggered, else r A."""
    return np.where(triggered, 0.0, advantages * ratio)


@overload
def kl_trigger(kl: th.Tensor, ratio: th.Tensor, advantages: th.Tensor, kl_delta: float) -> th.Tensor: ...
@overload
def kl_trigger(kl: FloatArray, ratio: FloatArray, advantages: FloatArray, kl_delta: float) -> BoolArray: ...
def kl_trigger(kl: Any, ratio: Any, advantages: Any, kl_delta: float) -> Any:
    """Tell which samples have left the trust region for a gain: KL of the state >= delta, and r A > A.

    :param kl: KL(old||new) per state
    :param ratio: probability ratio
    :param advantages: advantages
    :param kl_delta: delta, in nats

    Source: Wang et al. 2019 (1903.07940), TR-PPO and Truly PPO.
    """
    return (kl >= kl_delta) & (ratio * advantages > advantages)


def discovered_surrogate(
    log_ratio: th.Tensor, ratio: th.Tensor, advantages: th.Tensor, alpha: float, beta: float
) -> th.Tensor:
    r"""Return the objective with the discovered drift: :math:`rA - \mathrm{drift}`.

    .. math::
        A \ge 0:\ \mathrm{relu}\left((r-1)A - \alpha\tanh((r-1)A/\alpha)\right) \qquad
        A < 0:\ \mathrm{relu}\left(A\log r - \beta\tanh(A\log r/\beta)\right)

    :param log_ratio: log of the probability ratio
    :param ratio: probability ratio
    :param advantages: advantages, normalised: the drift is not invariant to their scale
    :param alpha: scale of the drift of good actions, > 0
    :param beta: scale of the drift of bad actions, > 0

    Source: Lu et al. 2022 (2210.05639), there called DPO.
    """
    good = (ratio - 1) * advantages
    bad = log_ratio * advantages
    drift = th.where(
        advantages >= 0,
        F.relu(good - alpha * th.tanh(good / alpha)),
        F.relu(bad - beta * th.tanh(bad / beta)),
    )
    return advantages * ratio - drift


def discovered_surrogate_slope(
    log_ratio: FloatArray, ratio: FloatArray, advantages: FloatArray, alpha: float, beta: float
) -> FloatArray:
    """Return the slope of :func:`discovered_surrogate`: r A, less r A tanh^2 or A tanh^2 where the drift is at work."""
    is_good = advantages >= 0
    gain = np.maximum(np.where(is_good, ratio - 1, log_ratio) * advantages, 0.0)
    damping = np.where(is_good, ratio * np.tanh(gain / alpha) ** 2, np.tanh(gain / beta) ** 2)
    return advantages * (ratio - damping)


def value_loss(values: th.Tensor, old_values: th.Tensor, returns: th.Tensor, clip_range_vf: float | None) -> th.Tensor:
    """Return SB3's value loss: mean squared error of the values, or of the clipped values alone.

    :param values: predictions of the critic
    :param old_values: predictions at collection time
    :param returns: TD(lambda) targets
    :param clip_range_vf: how far a value may move from its old one before the loss ignores it, in units of
        the return; None for no clipping
    """
    return F.mse_loss(returns, clipped_values(values, old_values, clip_range_vf))


def clipped_values(values: th.Tensor, old_values: th.Tensor, clip_range_vf: float | None) -> th.Tensor:
    """Return the values kept within ``clip_range_vf`` of the old ones, or as they are if it is None."""
    if clip_range_vf is None:
        return values
    return old_values + th.clamp(values - old_values, -clip_range_vf, clip_range_vf)


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
    clipped = clipped_values(values, old_values, clip_range_vf)
    return th.max((returns - values) ** 2, (returns - clipped) ** 2).mean()


def max_clipped_value_loss_slope(
    values: FloatArray, old_values: FloatArray, returns: FloatArray, clip_range_vf: float
) -> FloatArray:
    """Return the derivative of each sample's error in :func:`max_clipped_value_loss` by its value."""
    change = values - old_values
    clipped = old_values + np.clip(change, -clip_range_vf, clip_range_vf)
    error = values - returns
    # Within the range both errors are the same, rounding aside, and so are their derivatives
    counts = (np.abs(change) <= clip_range_vf) | (np.abs(error) >= np.abs(clipped - returns))
    return np.where(counts, 2.0 * error, 0.0)
