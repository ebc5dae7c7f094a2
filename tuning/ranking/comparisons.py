"""One algorithm held against another: the figures are the same whichever of the two they are asked of."""

from collections.abc import Callable
from typing import NamedTuple

from ..study.seeds import stream_seed
from .results import REFERENCES
from .statistics import Estimate, Scores, iqm_difference, probability_of_improvement


class Figure(NamedTuple):
    """What is said of a pair of algorithms.

    :param label: of its bootstrap stream
    :param estimate: computes it from the scores of both and a seed
    :param total: what the figures of the two directions add up to
    """

    label: str
    estimate: Callable[[Scores, Scores, int], Estimate]
    total: float


DIFFERENCE = Figure("difference", iqm_difference, 0.0)
IMPROVEMENT = Figure("improvement", probability_of_improvement, 1.0)


def compared(figure: Figure, seed: int, names: tuple[str, str], scores: Scores, others: Scores) -> Estimate:
    """Return a figure of one algorithm against another, with its interval.

    Resampled anew for each direction, an interval whose end is near zero would say that A is separable from B, and B
    not from A; with a stream for each pair, of two algorithms with equal scores one might be separable from a third.

    :param figure: which; all pairs share its bootstrap stream
    :param seed: of the study
    :param names: of both in the study
    :param scores: of the first, one array for each environment
    :param others: of the second, likewise
    """
    first, second = names
    if _place(first) < _place(second):
        return _mirrored(compared(figure, seed, (second, first), others, scores), figure.total)
    return figure.estimate(scores, others, stream_seed(seed, "bootstrap", figure.label))


def _place(name: str) -> tuple[int, str]:
    """The later of two is resampled first, so that a reference always has the same draws."""
    return REFERENCES.index(name) if name in REFERENCES else len(REFERENCES), name


def _mirrored(estimate: Estimate, total: float) -> Estimate:
    low, high = estimate.ci_low, estimate.ci_high
    return Estimate(
        total - estimate.value, None if high is None else total - high, None if low is None else total - low
    )
