"""When a trial is given up between its seeds: the median rule."""

from bisect import insort
from collections.abc import Sequence

from ..study.rules import N_PRUNING_STARTUP_TRIALS


class Medians:
    """What a trial is held against: the medians of the earlier trials after one run, after two, ...

    They are kept sorted, so that a trial costs as much after ten thousand others as after ten.
    """

    def __init__(self) -> None:
        self.trials = 0
        self._sorted: list[list[float]] = []

    def add(self, reports: Sequence[float]) -> None:
        """Take in a trial, pruned or not.

        :param reports: mean over its first run, over the first two, ...
        """
        self.trials += 1
        self._sorted += [[] for _ in range(len(self._sorted), len(reports))]
        for known, report in zip(self._sorted, reports, strict=False):  # a pruned trial has fewer
            insort(known, report)

    def now(self) -> list[float]:
        """After one run, after two, ...; empty while there are too few trials to hold another against."""
        if self.trials < N_PRUNING_STARTUP_TRIALS:
            return []
        return [(known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2 for known in self._sorted]


def falls_behind(reports: Sequence[float], medians: Sequence[float]) -> bool:
    """The median rule: whether the mean so far is below the median of what the earlier trials had after as many runs.

    :param reports: mean over the trial's first run, over the first two, ...
    :param medians: of the earlier trials, likewise
    """
    runs = len(reports)
    return runs <= len(medians) and reports[-1] < medians[runs - 1]
