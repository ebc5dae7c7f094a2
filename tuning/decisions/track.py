"""What is decided for one (algorithm, environment): its trials, the validation of the best, the test of the winner.

Three sets of seeds, no run of one in another: tuning seeds score the trials, validation seeds choose among the
best :data:`~..study.rules.CANDIDATES`, test seeds are reported.

The winner is chosen by its validation runs alone. Its tuning runs helped it to become a candidate, the more so the
noisier its configuration is. In simulation, where noise differs between configurations, validation alone chose
better than the mean over both (by up to 0.08 standard deviations of their true scores) but for studies of six
trials; where noise is equal, the mean over both was better, by up to 0.07.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from sb3_ppo_variants.tuning_space import TuningSpace

from ..runs.cell import Cell, CellResult, Evaluation, canonical_json
from ..study.rules import CANDIDATES
from ..study.scales import Scale
from ..study.seeds import RunSeed, SeedSets, stream_seed
from ..study.study_file import Study
from .proposals import Medians, Proposal, falls_behind, propose
from .trial_log import TrialLog

if TYPE_CHECKING:
    from .one_for_all import OneForAll

Chosen = TypeVar("Chosen")

Stage = Literal["tuning", "validation", "one for all: validation", "test", "one for all: test"]
_ORDER = {stage: number for number, stage in enumerate(get_args(Stage))}


@dataclass(frozen=True, slots=True)
class Run:
    """What is kept of a run that only scores a configuration.

    :param normalised: its score; the floor when it failed
    :param raw: mean return; None when it failed
    :param reason: why it failed; empty when it did not
    """

    normalised: float
    raw: float | None
    reason: str

    @property
    def failed(self) -> bool:
        """Whether it gave no score."""
        return self.raw is None


@dataclass(slots=True)
class Trial:
    """One configuration and its runs; small, since a study keeps them all.

    :param number: from 0; 0 is the registered configuration
    :param params: the point of the search space
    :param space: the search space
    :param runs: of each tuning seed, None while it is not known
    :param medians: of the earlier trials after one run, after two, ...; empty where it cannot be pruned any more
    :param value: mean over all tuning seeds; None before, and when it was pruned
    :param pruned: whether it was given up before its last seed
    :param validation: of each validation seed, for a candidate
    :param asked: tuning runs that were requested
    """

    number: int
    params: dict[str, Any]
    space: TuningSpace
    runs: list[Run | None]
    medians: list[float] = field(default_factory=list)
    value: float | None = None
    pruned: bool = False
    validation: list[Run | None] = field(default_factory=list)
    asked: int = 0

    @property
    def entry(self) -> dict[str, Any]:
        """The zoo entry that is run."""
        return dict(self.space.default) if self.number == 0 else self.space.entry(self.params)

    @property
    def settled(self) -> bool:
        """Whether it needs no more tuning runs."""
        return self.value is not None or self.pruned

    @property
    def failed(self) -> bool:
        """Whether one of its runs failed."""
        return any(run is not None and run.failed for run in self.runs)

    @property
    def reports(self) -> list[float]:
        """Mean of the first run, of the first two, ..."""
        known = [run.normalised for run in self.runs if run is not None]
        return [total / number for number, total in enumerate(accumulate(known), start=1)]

    @property
    def validation_value(self) -> float | None:
        """Mean over all validation seeds; None while it is not known, and where there was nothing to choose."""
        if not self.validation or None in self.validation:
            return None
        return fmean(run.normalised for run in self.validation if run is not None)


def best_of(candidates: Sequence[tuple[Chosen, float | None]]) -> Chosen | None:
    """The candidate of the highest value, the first of equals; None while a value is unknown, or without candidates.

    :param candidates: each with its value
    """
    values = [value for _, value in candidates if value is not None]
    if not values or len(values) < len(candidates):
        return None
    return candidates[values.index(max(values))][0]


@dataclass(eq=False)
class Track:
    """Everything about one (algorithm, environment).

    :param algorithm: algorithm id
    :param env_id: environment id
    :param study: budgets, sampler, pruner and seed
    :param seeds: run seeds of the whole study
    :param space: what is tuned
    :param scale: how returns are normalised
    :param log: the Optuna study
    :param one_for_all: what the algorithm's tracks decide together; None where there is nothing
    :param trials: begun so far
    :param best: of those that are settled and were not pruned, by value
    :param candidates: that meet the validation seeds, best in tuning first; none before every trial is settled
    :param test_results: of each test seed, None while it is not known
    :param pruned: trials that were given up
    """

    algorithm: str
    env_id: str
    study: Study
    seeds: SeedSets
    space: TuningSpace
    scale: Scale
    log: TrialLog
    one_for_all: "OneForAll | None" = None
    trials: list[Trial] = field(default_factory=list)
    best: Trial | None = None
    candidates: list[Trial] = field(default_factory=list)
    test_results: list[CellResult | None] = field(default_factory=list)
    pruned: int = 0
    _spared_runs: int = 0
    _open: dict[int, Trial] = field(default_factory=dict)
    _medians: Medians = field(default_factory=Medians)

    @property
    def planned_runs(self) -> int:
        """Runs that it has asked for or may still ask for."""
        budget = self.study.budget
        candidates = len(self.candidates) or min(CANDIDATES, budget.trials)
        validated = candidates if candidates > 1 else 0
        tuning = budget.trials * budget.tuning_seeds - self._spared_runs
        return tuning + validated * budget.validation_seeds + budget.test_seeds

    @property
    def settled(self) -> int:
        """Trials that need no more tuning runs."""
        return len(self.trials) - len(self._open)

    @property
    def steps(self) -> int:
        """Training steps of a run."""
        return self.study.environments[self.env_id].steps

    @property
    def tuned(self) -> bool:
        """Whether every trial is settled."""
        return len(self.trials) >= self.study.budget.trials and not self._open

    @property
    def winner(self) -> Trial | None:
        """The candidate that meets the test seeds: the best in validation, then in tuning; None while unknown."""
        if len(self.candidates) == 1:
            return self.candidates[0]
        return best_of([(candidate, candidate.validation_value) for candidate in self.candidates])

    @property
    def done(self) -> bool:
        """Whether the test runs are finished too."""
        return bool(self.test_results) and None not in self.test_results

    def advance(self) -> "list[Request]":
        """Decide whatever can be decided now.

        :return: the runs that this asks for, each once
        """
        requests: list[Request] = []
        while self._may_begin_trial():
            self._begin_trial()
        for trial in self._open.values():
            requests += self._next_runs(trial)
        if self.tuned and not self.candidates:
            requests += self._begin_validation()
        if self.winner is not None and not self.test_results:
            requests += self._begin_test()
        if self.one_for_all is not None:
            requests += self.one_for_all.advance()
        return requests

    def scoring_cell(self, entry: dict[str, Any], seed: RunSeed) -> Cell:
        """A run that scores a configuration: no learning curve."""
        return self._cell(entry, seed, checkpoints=1)

    def test_cell(self, entry: dict[str, Any], seed: RunSeed) -> Cell:
        """A run that is reported, with its learning curve."""
        return self._cell(entry, seed, self.study.evaluation.checkpoints)

    def test_cells(self) -> list[Cell]:
        """The runs that are ranked; none while the winner is unknown."""
        winner = self.winner
        return [] if winner is None else [self.test_cell(winner.entry, seed) for seed in self.seeds.test]

    def normalised(self, result: CellResult) -> float:
        """Normalised score of a run; the floor when it failed."""
        return self.scale.normalise(result.score)

    def run(self, result: CellResult) -> Run:
        """What is kept of a run that scores a configuration."""
        return Run(self.normalised(result), result.score, result.reason)

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
        oldest = next(iter(self._open), number)
        return number < self.study.budget.trials and number - oldest < self.study.budget.trials_in_flight

    def _begin_trial(self) -> None:
        number = len(self.trials)
        params = self.log.params(number)
        if params is None:
            params = self._propose(number)
            self.log.begin(number, params)
        trial = Trial(number, params, self.space, [None] * len(self.seeds.tuning), self._medians_for(number))
        self.trials.append(trial)
        self._open[number] = trial

    def _last_known_to(self, number: int) -> int:
        """The last trial that the trial ``number`` may learn from, whatever else has finished by now; below 0: none."""
        return number - self.study.budget.trials_in_flight

    def _medians_for(self, number: int) -> list[float]:
        if self.study.pruner == "none":
            return []
        while self._medians.trials <= self._last_known_to(number):
            self._medians.add(self.trials[self._medians.trials].reports)
        return self._medians.now()

    def _propose(self, number: int) -> dict[str, Any]:
        if number == 0:
            return self.space.default_params
        last = self._last_known_to(number)
        earlier = (  # made as the sampler asks for them: the random one does not
            Proposal(t.params, t.value, t.reports, t.pruned) if t.number <= last else Proposal(t.params)
            for t in self.trials
        )
        seed = stream_seed(self.study.seed, "sampler", self.algorithm, self.env_id, number)
        return propose(self.space.parameters, earlier, sampler=self.study.sampler, seed=seed)

    def _next_runs(self, trial: Trial) -> "list[Request]":
        """All seeds at once, or one after the other where the trial may be pruned between them."""
        known = len(trial.reports)
        upto = known + 1 if trial.medians else len(trial.runs)
        indices = range(trial.asked, min(upto, len(trial.runs)))
        trial.asked = max(trial.asked, indices.stop)
        return [
            Request(
                "tuning",
                trial.number,
                self,
                self.scoring_cell(trial.entry, self.seeds.tuning[index]),
                partial(self._receive_tuning, trial, index),
            )
            for index in indices
        ]

    def _receive_tuning(self, trial: Trial, index: int, result: CellResult) -> Trial | None:
        trial.runs[index] = self.run(result)
        if None not in trial.runs:
            trial.value = fmean(run.normalised for run in trial.runs if run is not None)
        elif not trial.failed:
            # A failure is no reason to prune: it would vanish behind a word that sounds like thrift.
            trial.pruned = falls_behind(trial.reports, trial.medians)
        return self._settle(trial) if trial.settled else None

    def _settle(self, trial: Trial) -> Trial:
        del self._open[trial.number]
        trial.medians = []
        self.pruned += trial.pruned
        self._spared_runs += trial.runs.count(None)
        runs = [{"score": run.raw, "reason": run.reason} for run in trial.runs if run is not None]
        self.log.finish(trial.number, trial.value, {"runs": runs}, trial.reports)
        if trial.value is not None and (self.best is None or self._key(trial) > self._key(self.best)):
            self.best = trial
        return trial

    @staticmethod
    def _key(trial: Trial) -> tuple[float, int]:
        """Highest value first, the earliest of equals."""
        return (float("-inf") if trial.value is None else trial.value, -trial.number)

    def _begin_validation(self) -> "list[Request]":
        if not self.study.budget.trials:
            self.candidates = [Trial(0, self.space.default_params, self.space, [])]
            return []
        self.candidates = self._best_configurations()
        if len(self.candidates) == 1:
            return []
        requests = []
        for place, candidate in enumerate(self.candidates):
            candidate.validation = [None] * len(self.seeds.validation)
            for index, seed in enumerate(self.seeds.validation):
                cell = self.scoring_cell(candidate.entry, seed)
                receive = partial(self._receive_validation, candidate, index)
                requests.append(Request("validation", place, self, cell, receive))
        return requests

    def _best_configurations(self) -> list[Trial]:
        """The best trials, none of which repeats another's configuration."""
        finished = sorted((trial for trial in self.trials if trial.value is not None), key=self._key, reverse=True)
        best: dict[str, Trial] = {}
        for trial in finished:
            best.setdefault(canonical_json(trial.entry), trial)
            if len(best) == CANDIDATES:
                break
        return list(best.values())

    def _receive_validation(self, candidate: Trial, index: int, result: CellResult) -> None:
        candidate.validation[index] = self.run(result)

    def _begin_test(self) -> "list[Request]":
        cells = self.test_cells()
        self.test_results = [None] * len(cells)
        return [
            Request("test", index, self, cell, partial(self._receive_test, index)) for index, cell in enumerate(cells)
        ]

    def _receive_test(self, index: int, result: CellResult) -> None:
        self.test_results[index] = result


@dataclass
class Request:
    """A run that a track waits for.

    :param stage: what it is for
    :param index: earlier ones of a stage are run first
    :param track: who waits
    :param cell: what to run
    :param receive: called with the result; returns the trial that this settled, if any
    """

    stage: Stage
    index: int
    track: Track
    cell: Cell
    receive: Callable[[CellResult], Trial | None]

    @property
    def priority(self) -> tuple[int, int]:
        """Smaller first; tuning before all else, since trials wait for each other."""
        return _ORDER[self.stage], self.index
