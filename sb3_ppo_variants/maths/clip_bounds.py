r"""Bounds on the probability ratio that follow from a KL budget: how far one action may become more or less likely.

For an action and a budget :math:`\delta`, the bounds are the smallest and the largest ratio new/old that a policy
within the budget can give to that action. Unlikely actions get wide bounds, likely ones narrow bounds.

All arrays are float64. Source: Wang et al. 2019 (1901.10314).
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from sb3_ppo_variants.maths.arrays import FloatArray

_NEWTON_STEPS = 64  # an upper limit: fewer than ten are usual
_SMALLEST_PROBABILITY = 1e-12
_NEGLIGIBLE_KL = 1e-16
_TABLE_END = 6.0  # in standard deviations: a Gaussian draws beyond it about once in 10^9 actions
_TABLE_SIZE = 1201
_ANGLES = 129
_GOLDEN_STEPS = 24  # shrink a bracket of two angles below 1e-6; the extremum is flat there, so its value is exact
_GOLDEN = (math.sqrt(5) - 1) / 2


class Bounds(NamedTuple):
    """Lower and upper bound of the ratio per sample, 0 <= lower <= 1 <= upper."""

    lower: FloatArray
    upper: FloatArray


def categorical_kl_delta(epsilon: float) -> float:
    r"""Return the budget whose bounds for an action of probability 1/2 are :math:`1 \pm \epsilon`.

    :param epsilon: a clip range, in [0, 1)
    :return: :math:`-\tfrac12 \log(1 - \epsilon^2)`, in nats

    Source: this package's; the authors' code leaves the budget of discrete actions to the user.
    """
    return -0.5 * math.log1p(-(epsilon**2))


def gaussian_kl_delta(epsilon: float, dimensions: int) -> float:
    r"""Return the budget whose upper bound for the mean action of a Gaussian is :math:`1 + \epsilon`.

    :param epsilon: a clip range, >= 0
    :param dimensions: number of action dimensions D
    :return: :math:`\tfrac D2 (e^v - 1 - v)` with :math:`v = -\tfrac 2D \log(1+\epsilon)`, in nats

    Source: the authors' code.
    """
    log_variance = -2 * math.log1p(epsilon) / dimensions
    return 0.5 * dimensions * (math.expm1(log_variance) - log_variance)


def categorical_bounds(probability: FloatArray, kl_delta: float) -> Bounds:
    r"""Return the two ratios at which KL(old||new) reaches the budget when only this action's probability is moved.

    The roots l < 1 < u, in [0, 1/p], of

    .. math::
        (1-p)\log\frac{1-p}{1-pr} - p \log r = \delta

    :param probability: p of the action under the old policy, shape (batch,), in [0, 1]
    :param kl_delta: budget in nats, >= 0
    """
    p = np.clip(probability.astype(np.float64), _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    if kl_delta < _NEGLIGIBLE_KL:
        return Bounds(np.ones_like(p), np.ones_like(p))
    # Making an action as likely as possible is making all others together as unlikely as possible
    lower, lower_of_others = np.split(_smallest_ratio(np.concatenate((p, 1 - p)), kl_delta), 2)
    return Bounds(lower, (1 - (1 - p) * lower_of_others) / p)


def gaussian_bounds(standardised: FloatArray, kl_delta: float) -> Bounds:
    r"""Return the bounds for actions of a diagonal Gaussian, KL(new||old) within the budget.

    One dimension stands for all: with :math:`a = \|z\|/\sqrt D` the bounds are the D-th powers of

    .. math::
        \min, \max_{m, s} \frac{N(a; m, s)}{N(a; 0, 1)} \quad\text{where}\quad
        \tfrac12 (s^2 + m^2 - 1 - \log s^2) \le \delta / D

    That is exact where all dimensions are equally far out, and narrower than the budget allows elsewhere.

    :param standardised: z = (action - mean) / standard deviation under the old policy, shape (batch, D). Beyond an
        a of 6 the bounds of 6 hold
    :param kl_delta: budget in nats, >= 0
    """
    dimensions = standardised.shape[1]
    radius = np.linalg.norm(standardised.astype(np.float64), axis=1) / math.sqrt(dimensions)
    if kl_delta < _NEGLIGIBLE_KL:
        return Bounds(np.ones_like(radius), np.ones_like(radius))
    table = _gaussian_table(kl_delta / dimensions)
    return Bounds(*(np.exp(dimensions * np.interp(radius, _TABLE_RADII, column)) for column in table))


_TABLE_RADII = np.linspace(0.0, _TABLE_END, _TABLE_SIZE)


def _smallest_ratio(p: FloatArray, kl_delta: float) -> FloatArray:
    """Return the lower root of the equation of :func:`categorical_bounds`.

    Newton's method in x = -log r, in which the KL is convex and increasing: from a point beyond the root
    it falls onto it without overshooting.
    """
    # Two points that are beyond it: the KL without its first term's dependence on r, and Pinsker's inequality
    x = (kl_delta - (1 - p) * np.log1p(-p)) / p
    step_down = math.sqrt(kl_delta / 2) / p
    pinsker = -np.log1p(-np.minimum(step_down, 1 - _SMALLEST_PROBABILITY))
    x = np.where(step_down < 1, np.minimum(x, pinsker), x)
    for _ in range(_NEWTON_STEPS):
        lost = -np.expm1(-x)
        excess = p * x - (1 - p) * np.log1p(p * lost / (1 - p)) - kl_delta
        correction = excess * (1 - p * np.exp(-x)) / (p * lost)
        x = x - correction
        if np.all(np.abs(correction) <= 1e-12 * x):
            break
    return np.exp(-x)


@lru_cache(maxsize=8)
def _gaussian_table(kl_delta: float) -> tuple[FloatArray, FloatArray]:
    """Tabulate log lower and log upper bound of one dimension over :data:`_TABLE_RADII`.

    The extrema lie on the boundary of the KL ball, a closed curve in (m, log s^2): one half of it, since a >= 0, is
    searched on a grid of angles, then by golden section around the best.
    """
    lowest, highest = _log_variance_limits(kl_delta)

    def log_ratio(radius: FloatArray, angle: FloatArray, sign: int) -> FloatArray:
        log_variance = lowest + (highest - lowest) * (1 - np.cos(angle)) / 2
        squared_mean = np.maximum(2 * kl_delta - (np.expm1(log_variance) - log_variance), 0.0)
        distance = radius - sign * np.sqrt(squared_mean)
        return (radius**2 - distance**2 * np.exp(-log_variance) - log_variance) / 2

    # The mean moves toward the action for the largest ratio, and away from it for the smallest
    return -_largest(lambda a, t: -log_ratio(a, t, -1)), _largest(lambda a, t: log_ratio(a, t, +1))


def _largest(function: Callable[[FloatArray, FloatArray], FloatArray]) -> FloatArray:
    """Maximise over the angle in [0, pi], for each radius of the table."""
    angles = np.linspace(0.0, math.pi, _ANGLES)
    best = angles[np.argmax(function(_TABLE_RADII[:, None], angles), axis=1)]
    low, high = np.maximum(best - angles[1], 0.0), np.minimum(best + angles[1], math.pi)
    for _ in range(_GOLDEN_STEPS):
        width = _GOLDEN * (high - low)
        left, right = high - width, low + width
        goes_left = function(_TABLE_RADII, left) > function(_TABLE_RADII, right)
        low, high = np.where(goes_left, low, left), np.where(goes_left, right, high)
    return function(_TABLE_RADII, (low + high) / 2)


def _log_variance_limits(kl_delta: float) -> tuple[float, float]:
    """Return the two v = log s^2 at which (e^v - 1 - v) / 2 alone uses up the budget, by Newton from outside."""
    v = np.array([-1 - 2 * kl_delta, 2 * math.sqrt(kl_delta)])
    for _ in range(_NEWTON_STEPS):
        correction = (np.expm1(v) - v - 2 * kl_delta) / np.expm1(v)
        v = v - correction
        if np.all(np.abs(correction) <= 1e-12 * np.abs(v)):
            break
    return float(v[0]), float(v[1])
