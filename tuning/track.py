"""What is decided for one (algorithm, environment): its trials, then the test runs of the best one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from .cell import Cell, CellResult, Evaluation
from .normalisation import Scale
from .proposals import Proposal, propose
from .search_space import TuningSpace
from .seeds import RunSeed, SeedSets, stream_seed
from .study import Study
from .trial_log import TrialLog


@dataclass
class Trial:
    """One configuration and its runs.

    :param number: from 0; 0 is the registered configuration
    :param params: the point of the search space
    :param entry: the zoo entry that is run
    :param results: result of each tuning seed, None while it is not known
    """

    number: int
    params: dict[str, Any]
    entry: dict[str, Any]
    results: list[CellResult | None]
    value: float | None = None

    @property
    def failed(self) -> bool:
        """Whether one of its runs failed."""
        return any(result is not None and result.status == "failed" for result in self.results)


@dataclass
class Track:
    """Everything about one (algorithm, environment): its trials, then the test runs of the best.

    :param algorithm: algorithm id
    :param env_id: environment id
    :param study: budgets, sampler and seed
    :param seeds: run seeds of the whole study
    :param space: what is tuned
    :param scale: how returns are normalised
    :param log: the Optuna study
    """

    algorithm: str
    env_id: str
    study: Study
    seeds: SeedSets
    space: TuningSpace
    scale: Scale
    log: TrialLog
    trials: list[Trial] = field(default_factory=list)
    test_results: list[CellResult | None] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Training steps of a run."""
        return self.study.environments[self.env_id].steps

    @property
    def tuned(self) -> bool:
        """Whether every trial has its value."""
        return len(self.trials) == self.study.budget.trials and all(t.value is not None for t in self.trials)

    @property
    def done(self) -> bool:
        """Whether the test runs are finished too."""
        return bool(self.test_results) and None not in self.test_results

    @property
    def best(self) -> Trial | None:
        """The finished trial of the highest value, the earliest of equals."""
        finished = [trial for trial in self.trials if trial.value is not None]
        return max(finished, key=lambda trial: (trial.value, -trial.number), default=None)

    def advance(self) -> "list[Request]":
        """Decide whatever can be decided now.

        :return: the runs that this asks for, each once
        """
        requests: list[Request] = []
        while self._may_begin_trial():
            requests += self._begin_trial()
        if self.tuned and not self.test_results:
            requests += self._begin_test()
        return requests

    def tuning_cell(self, entry: dict[str, Any], seed: RunSeed) -> Cell:
        """A run that scores a trial: no learning curve."""
        return self._cell(entry, seed, checkpoints=1)

    def test_cells(self) -> list[Cell]:
        """The runs that are ranked; the best trial must be known."""
        if self.best is None:
            return []
        checkpoints = self.study.evaluation.checkpoints
        return [self._cell(self.best.entry, seed, checkpoints) for seed in self.seeds.test]

    def normalised(self, result: CellResult) -> float:
        """Normalised score of a run; the floor when it failed."""
        return self.scale.normalise(result.score)

    def _cell(self, entry: dict[str, Any], seed: RunSeed, checkpoints: int) -> Cell:
        evaluation = Evaluation(seed=seed.evaluation, episodes=self.study.evaluation.episodes, checkpoints=checkpoints)
        return Cell(
            algorithm=self.algorithm,
            environment=self.env_id,
            entry=entry,
            seed=seed.training,
            steps=self.steps,
            evaluation=evaluation,
        )

    def _may_begin_trial(self) -> bool:
        number = len(self.trials)
        settled = number - self.study.budget.trials_in_flight
        return number < self.study.budget.trials and all(
            trial.value is not None for trial in self.trials[: max(0, settled + 1)]
        )

    def _begin_trial(self) -> "list[Request]":
        number = len(self.trials)
        params = self.log.params(number)
        if params is None:
            params = self._propose(number)
            self.log.begin(number, params)
        entry = dict(self.space.default) if number == 0 else self.space.entry(params)
        trial = Trial(number, params, entry, [None] * len(self.seeds.tuning))
        self.trials.append(trial)
        return [
            Request((0, number), self, self.tuning_cell(entry, seed), _tuning_receiver(self, trial, index))
            for index, seed in enumerate(self.seeds.tuning)
        ]

    def _propose(self, number: int) -> dict[str, Any]:
        if number == 0:
            return self.space.default_params
        settled = number - self.study.budget.trials_in_flight
        earlier = [Proposal(t.params, t.value if t.number <= settled else None) for t in self.trials]
        seed = stream_seed(self.study.seed, "sampler", self.algorithm, self.env_id, number)
        return propose(self.space.parameters, earlier, sampler=self.study.sampler, seed=seed)

    def _begin_test(self) -> "list[Request]":
        cells = self.test_cells()
        self.test_results = [None] * len(cells)
        return [Request((1, index), self, cell, _test_receiver(self, index)) for index, cell in enumerate(cells)]


@dataclass
class Request:
    """A run that a track waits for.

    :param priority: smaller first; tuning before tests, since trials wait for each other
    :param track: who waits
    :param cell: what to run
    :param receive: called with the result; returns the trial that this finished, if any
    """

    priority: tuple[int, int]
    track: Track
    cell: Cell
    receive: Callable[[CellResult], Trial | None]


def _tuning_receiver(track: Track, trial: Trial, index: int) -> Callable[[CellResult], Trial | None]:
    def receive(result: CellResult) -> Trial | None:
        trial.results[index] = result
        known = [result for result in trial.results if result is not None]
        if len(known) < len(trial.results):
            return None
        trial.value = fmean(track.normalised(result) for result in known)
        runs = [{"score": result.score, "reason": result.reason} for result in known]
        track.log.finish(trial.number, trial.value, {"runs": runs})
        return trial

    return receive


def _test_receiver(track: Track, index: int) -> Callable[[CellResult], Trial | None]:
    def receive(result: CellResult) -> None:
        track.test_results[index] = result

    return receive
