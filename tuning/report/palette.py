"""One look per algorithm, the same in every figure and table of a report."""

from collections.abc import Sequence
from dataclasses import dataclass

# Okabe and Ito's colours without their yellow, too faint on white, and two of Paul Tol's "muted" ones.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933")
_DASHES = ("solid", "dash", "dot")
_SYMBOLS = ("circle", "diamond", "square")
_BASELINES = {"trpo": "#111111", "ppo": "#767676"}


@dataclass(frozen=True)
class Look:
    """How an algorithm is drawn.

    :param colour: "#rrggbb"
    :param dash: of its lines; tells two algorithms of one colour apart
    :param symbol: of its points, likewise
    """

    colour: str
    dash: str
    symbol: str

    def faint(self, opacity: float) -> str:
        """The colour for a band.

        :param opacity: between 0 and 1
        """
        red, green, blue = (int(self.colour[start : start + 2], 16) for start in (1, 3, 5))
        return f"rgba({red},{green},{blue},{opacity})"


def looks(algorithms: Sequence[str]) -> dict[str, Look]:
    """A look for each algorithm: the baselines are black and grey, the others differ for 24 of them.

    :param algorithms: ids in the study's order, so that a look does not depend on the ranks
    """
    result, variants = {}, 0
    for algorithm in algorithms:
        if algorithm in _BASELINES:
            result[algorithm] = Look(_BASELINES[algorithm], "solid", "square")
            continue
        turn, index = divmod(variants, len(_COLOURS))
        result[algorithm] = Look(_COLOURS[index], _DASHES[turn % 3], _SYMBOLS[turn % 3])
        variants += 1
    return result
