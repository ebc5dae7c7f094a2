"""A run that a decision waits for, and how urgent it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from ..runs.cell import Cell, CellResult
from .pair import Pair
from .trial import Trial

Stage = Literal["tuning", "validation", "one for all: validation", "test", "one for all: test"]
_ORDER = {stage: number for number, stage in enumerate(get_args(Stage))}


@dataclass
class Request:
    """A run that somebody waits for.

    :param stage: what it is for
    :param index: earlier ones of a stage are run first
    :param pair: algorithm and environment of the run
    :param cell: what to run
    :param receive: called with the result; returns the trial that this settled, if any
    """

    stage: Stage
    index: int
    pair: Pair
    cell: Cell
    receive: Callable[[CellResult], Trial | None]

    @property
    def priority(self) -> tuple[int, int]:
        """Smaller first; tuning before all else, since trials wait for each other."""
        return _ORDER[self.stage], self.index
