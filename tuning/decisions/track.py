"""What is decided for one (algorithm, environment): its trials, the validation of the best, the test of the winner.

Three sets of seeds, no run of one in another: tuning seeds score the trials, validation seeds choose among the
best :data:`~..study.rules.CANDIDATES`, test seeds are reported.

The winner is chosen by its validation runs alone. Its tuning runs helped it to become a candidate, the more so the
noisier its configuration is. In simulation, where noise differs between configurations, validation alone chose
better than the mean over both (by up to 0.08 standard deviations of their true scores) but for studies of six
trials; where noise is equal, the mean over both was better, by up to 0.07.
"""

from dataclasses import dataclass, field
from functools import partial

from ..runs.cell import Cell, CellResult
from ..study.rules import CANDIDATES
from .pair import Pair
from .request import Request
from .trial import Trial, best_of
from .tuning import Tuning


@dataclass(eq=False)
class Track:
    """Everything that is decided about one pair.

    :param pair: algorithm and environment
    :param tuning: its trials
    :param candidates: that meet the validation seeds, best in tuning first; none before every trial is settled
    :param test_results: of each test seed, None while it is not known
    """

    pair: Pair
    tuning: Tuning
    candidates: list[Trial] = field(default_factory=list)
    test_results: list[CellResult | None] = field(default_factory=list)

    @property
    def planned_runs(self) -> int:
        """Runs that it has asked for or may still ask for."""
        budget = self.pair.study.budget
        candidates = len(self.candidates) or min(CANDIDATES, budget.trials)
        validated = candidates if candidates > 1 else 0
        return self.tuning.planned_runs + validated * budget.validation_seeds + budget.test_seeds

    @property
    def winner(self) -> Trial | None:
        """The candidate that meets the test seeds: the best in validation, then in tuning; None while unknown."""
        if len(self.candidates) == 1:
            return self.candidates[0]
        return best_of([(candidate, candidate.validation_value) for candidate in self.candidates])

    def advance(self) -> list[Request]:
        """Decide whatever can be decided now.

        :return: the runs that this asks for, each once
        """
        requests = self.tuning.advance()
        if self.tuning.finished and not self.candidates:
            requests += self._begin_validation()
        if self.winner is not None and not self.test_results:
            requests += self._begin_test()
        return requests

    def test_cells(self) -> list[Cell]:
        """The runs that are ranked; none while the winner is unknown."""
        winner, pair = self.winner, self.pair
        return [] if winner is None else [pair.test_cell(winner.entry, seed) for seed in pair.seeds.test]

    def _begin_validation(self) -> list[Request]:
        pair = self.pair
        if not pair.study.budget.trials:
            self.candidates = [Trial(0, pair.space.default_params, pair.space, [])]
            return []
        self.candidates = self.tuning.best_configurations(CANDIDATES)
        if len(self.candidates) == 1:
            return []
        requests = []
        for place, candidate in enumerate(self.candidates):
            candidate.validation = [None] * len(pair.seeds.validation)
            for index, seed in enumerate(pair.seeds.validation):
                cell = pair.scoring_cell(candidate.entry, seed)
                receive = partial(self._receive_validation, candidate, index)
                requests.append(Request("validation", place, pair, cell, receive))
        return requests

    def _receive_validation(self, candidate: Trial, index: int, result: CellResult) -> None:
        candidate.validation[index] = self.pair.run(result)

    def _begin_test(self) -> list[Request]:
        cells = self.test_cells()
        self.test_results = [None] * len(cells)
        return [
            Request("test", index, self.pair, cell, partial(self._receive_test, index))
            for index, cell in enumerate(cells)
        ]

    def _receive_test(self, index: int, result: CellResult) -> None:
        self.test_results[index] = result
