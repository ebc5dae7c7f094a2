"""One look per algorithm, the same in every figure and table of a report."""

from collections.abc import Sequence
from dataclasses import dataclass

# Okabe and Ito's colours as far as they keep a contrast of 3 : 1 on the white and on the dark page, and four more
# that do. Dash and symbol change with the colour, so that nothing rests on telling colours apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#7a5fd0", "#a85c4a", "#7f8f1f")
_DASHES = ("solid", "dash", "dot")
_SYMBOLS = ("circle", "diamond", "triangle-up", "star", "hexagon")
INK = "#111111"
"""The text's colour, which the page turns light where it is shown dark."""
_BASELINES = {"trpo": INK, "ppo": "#767676"}


@dataclass(frozen=True)
class Look:
    """How an algorithm is drawn.

    :param colour: "#rrggbb"
    :param dash: of its lines
    :param symbol: of its points
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
    """A look for each algorithm: the baselines are black and grey, the others differ up to the 120th.

    :param algorithms: ids in the study's order, so that a look does not depend on the ranks
    """
    result, variants = {}, 0
    for algorithm in algorithms:
        if algorithm in _BASELINES:
            result[algorithm] = Look(_BASELINES[algorithm], "solid", "square")
            continue
        parts = (part[variants % len(part)] for part in (_COLOURS, _DASHES, _SYMBOLS))
        result[algorithm] = Look(*parts)
        variants += 1
    return result
