"""One algorithm held against another: the figures are the same whichever of the two they are asked of."""

from collections.abc import Callable
from typing import NamedTuple

from ..study.seeds import stream_seed
from .results import REFERENCES
from .statistics import Estimate, Scores, iqm_difference, probability_of_improvement


class Figure(NamedTuple):
    """What is said of a pair of algorithms.

    :param label: of its bootstrap streams
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
    not from A.

    :param figure: which
    :param seed: of the study
    :param names: of both in the study; the pair has its own bootstrap stream
    :param scores: of the first, one array for each environment
    :param others: of the second, likewise
    """
    first, second = names
    if _is_the_reference(first, second):
        return _mirrored(compared(figure, seed, (second, first), others, scores), figure.total)
    return figure.estimate(scores, others, stream_seed(seed, "bootstrap", first, figure.label, second))


def _is_the_reference(first: str, second: str) -> bool:
    """Whether the others of a study, the second among them, are held against the first."""
    return first in REFERENCES and second not in REFERENCES[REFERENCES.index(first) :]


def _mirrored(estimate: Estimate, total: float) -> Estimate:
    low, high = estimate.ci_low, estimate.ci_high
    return Estimate(
        total - estimate.value, None if high is None else total - high, None if low is None else total - low
    )
