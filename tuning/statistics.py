"""Numbers of the ranking: IQM, bootstrap intervals, probability of improvement.

Scores come as one array for each environment, one value for each test seed; seeds are resampled
within an environment (stratified), never environments. Follows Agarwal et al. 2021, "Deep
reinforcement learning at the edge of the statistical precipice".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Scores = Sequence[NDArray[np.float64]]
"""Normalised scores: one array of shape (seeds,) for each environment."""

CONFIDENCE = 0.95
RESAMPLES = 10_000
FEW_SEEDS = 10
"""Below this many test seeds the intervals are too narrow: nominal 95 % covers 87-89 % at 3, 90 % at 5 (simulated)."""


@dataclass(frozen=True)
class Estimate:
    """A value and its interval.

    :param value: the estimate on the scores themselves
    :param ci_low: lower end; None where one seed leaves nothing to resample
    :param ci_high: upper end, likewise
    """

    value: float
    ci_low: float | None
    ci_high: float | None

    def excludes(self, number: float) -> bool:
        """Whether there is an interval and ``number`` lies outside it."""
        if self.ci_low is None or self.ci_high is None:
            return False
        return not self.ci_low <= number <= self.ci_high


def iqm(scores: Scores, seed: int) -> Estimate:
    """Interquartile mean over all runs of all environments, with its stratified bootstrap interval.

    :param scores: one array for each environment
    :param seed: of the resampling
    """
    return _estimate(scores, lambda *samples, axis: _iqm(samples, axis), seed)


def iqm_difference(scores: Scores, others: Scores, seed: int) -> Estimate:
    """IQM of ``scores`` minus IQM of ``others``; they are separable when the interval excludes 0.

    :param scores: one array for each environment
    :param others: likewise, the same environments in the same order
    :param seed: of the resampling
    :raises ValueError: another number of environments
    """
    n = _common_environments(scores, others)

    def difference(*samples: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return _iqm(samples[:n], axis) - _iqm(samples[n:], axis)

    return _estimate([*scores, *others], difference, seed)


def probability_of_improvement(scores: Scores, others: Scores, seed: int) -> Estimate:
    """Chance that a run of ``scores`` beats a run of ``others`` on an environment drawn at random.

    Ties count half (Mann-Whitney's U over the number of pairs), averaged over environments.

    :param scores: one array for each environment
    :param others: likewise, the same environments in the same order
    :param seed: of the resampling
    :raises ValueError: another number of environments
    """
    n = _common_environments(scores, others)

    def probability(*samples: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        last = [np.moveaxis(sample, axis, -1) for sample in samples]
        wins = [_wins(left, right) for left, right in zip(last[:n], last[n:], strict=True)]
        return np.asarray(np.mean(wins, axis=0))

    return _estimate([*scores, *others], probability, seed)


def _common_environments(scores: Scores, others: Scores) -> int:
    if len(scores) != len(others):
        raise ValueError(f"scores must be of the same environments, got {len(scores)} and {len(others)}")
    return len(scores)


def _iqm(samples: Sequence[NDArray[np.float64]], axis: int) -> NDArray[np.float64]:
    return np.asarray(stats.trim_mean(np.concatenate(samples, axis=axis), 0.25, axis=axis))


def _wins(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 + 0.5 * np.sign(left[..., :, None] - right[..., None, :]).mean(axis=(-2, -1)))


def _estimate(samples: Scores, statistic: Callable[..., Any], seed: int) -> Estimate:
    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    value = float(statistic(*arrays, axis=-1))
    if min(len(sample) for sample in arrays) < 2:
        return Estimate(value, None, None)
    interval = stats.bootstrap(
        arrays,
        statistic,
        n_resamples=RESAMPLES,
        batch=1000,
        vectorized=True,
        axis=-1,
        confidence_level=CONFIDENCE,
        # BCa has no value when all scores are equal, and every run of CartPole may end at 500.
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    # Summing in another order must not put the estimate a rounding error outside its own interval.
    return Estimate(value, min(float(interval.low), value), max(float(interval.high), value))
