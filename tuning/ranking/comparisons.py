"""One algorithm held against another: the figures are the same whichever of the two they are asked of."""

from collections.abc import Callable

from ..study.seeds import stream_seed
from .results import REFERENCES
from .statistics import Estimate, Scores, iqm_difference, probability_of_improvement


def difference(seed: int, names: tuple[str, str], scores: Scores, others: Scores) -> Estimate:
    """IQM of the first algorithm minus IQM of the second, with its interval.

    :param seed: of the study
    :param names: of both in the study; the pair has its own bootstrap stream
    :param scores: of the first, one array for each environment
    :param others: of the second, likewise
    """
    return _compared(iqm_difference, "difference", 0.0, seed, names, scores, others)


def improvement(seed: int, names: tuple[str, str], scores: Scores, others: Scores) -> Estimate:
    """Chance that a run of the first algorithm beats one of the second, with its interval.

    :param seed: of the study
    :param names: of both in the study; the pair has its own bootstrap stream
    :param scores: of the first, one array for each environment
    :param others: of the second, likewise
    """
    return _compared(probability_of_improvement, "improvement", 1.0, seed, names, scores, others)


def _compared(  # noqa: PLR0917 -- a figure, and what it is a figure of
    figure: Callable[[Scores, Scores, int], Estimate],
    label: str,
    total: float,
    seed: int,
    names: tuple[str, str],
    scores: Scores,
    others: Scores,
) -> Estimate:
    """Return a figure of a pair; those of the two directions add up to ``total``.

    Resampled anew for each direction, an interval whose end is near zero would say that A is separable from B, and B
    not from A.
    """
    first, second = names
    if _is_the_reference(first, second):
        return _mirrored(_compared(figure, label, total, seed, (second, first), others, scores), total)
    return figure(scores, others, stream_seed(seed, "bootstrap", first, label, second))


def _is_the_reference(first: str, second: str) -> bool:
    """Whether the others of a study, the second among them, are held against the first."""
    return first in REFERENCES and second not in REFERENCES[REFERENCES.index(first) :]


def _mirrored(estimate: Estimate, total: float) -> Estimate:
    low, high = estimate.ci_low, estimate.ci_high
    return Estimate(
        total - estimate.value, None if high is None else total - high, None if low is None else total - low
    )
