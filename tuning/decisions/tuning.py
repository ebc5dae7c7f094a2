"""The trials of one (algorithm, environment): which begins when, with what it is scored, when it is given up."""

from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any

from ..runs.cell import CellResult, canonical_json
from ..study.seeds import stream_seed
from .pair import Pair
from .proposals import Proposal, propose
from .pruning import Medians, falls_behind
from .request import Request
from .trial import Trial
from .trial_log import TrialLog


@dataclass(eq=False)
class Tuning:
    """The trials of one pair.

    :param pair: algorithm and environment
    :param log: the Optuna study
    :param trials: begun so far
    :param best: of those that are settled and were not pruned, by value
    :param pruned: trials that were given up
    :param spared_runs: runs that these did not need
    """

    pair: Pair
    log: TrialLog
    trials: list[Trial] = field(default_factory=list)
    best: Trial | None = None
    pruned: int = 0
    spared_runs: int = 0
    _open: dict[int, Trial] = field(default_factory=dict)
    _medians: Medians = field(default_factory=Medians)

    @property
    def planned_runs(self) -> int:
        """Runs that it has asked for or may still ask for."""
        budget = self.pair.study.budget
        return budget.trials * budget.tuning_seeds - self.spared_runs

    @property
    def settled(self) -> int:
        """Trials that need no more runs."""
        return len(self.trials) - len(self._open)

    @property
    def finished(self) -> bool:
        """Whether every trial is settled."""
        return self.settled >= self.pair.study.budget.trials

    def advance(self) -> list[Request]:
        """Decide whatever can be decided now.

        :return: the runs that this asks for, each once
        """
        while self._may_begin_trial():
            self._begin_trial()
        return [request for trial in self._open.values() for request in self._next_runs(trial)]

    def best_configurations(self, number: int) -> list[Trial]:
        """The best trials, none of which repeats another's configuration.

        :param number: how many at most
        """
        finished = sorted((trial for trial in self.trials if trial.value is not None), key=_key, reverse=True)
        best: dict[str, Trial] = {}
        for trial in finished:
            best.setdefault(canonical_json(trial.entry), trial)
            if len(best) == number:
                break
        return list(best.values())

    def _may_begin_trial(self) -> bool:
        number = len(self.trials)
        oldest = next(iter(self._open), number)
        return number < self.pair.study.budget.trials and number - oldest < self.pair.study.budget.trials_in_flight

    def _begin_trial(self) -> None:
        number = len(self.trials)
        params = self.log.params(number)
        if params is None:
            params = self._propose(number)
            self.log.begin(number, params)
        trial = Trial(number, params, self.pair.space, [None] * len(self.pair.seeds.tuning), self._medians_for(number))
        self.trials.append(trial)
        self._open[number] = trial

    def _last_known_to(self, number: int) -> int:
        """The last trial that the trial ``number`` may learn from, whatever else has finished by now; below 0: none."""
        return number - self.pair.study.budget.trials_in_flight

    def _medians_for(self, number: int) -> list[float]:
        if self.pair.study.pruner == "none":
            return []
        while self._medians.trials <= self._last_known_to(number):
            self._medians.add(self.trials[self._medians.trials].reports)
        return self._medians.now()

    def _propose(self, number: int) -> dict[str, Any]:
        if number == 0:
            return self.pair.space.default_params
        last = self._last_known_to(number)
        earlier = (  # made as the sampler asks for them: the random one does not
            Proposal(t.params, t.value, t.reports, t.pruned) if t.number <= last else Proposal(t.params)
            for t in self.trials
        )
        # The same for every algorithm: none is lucky with its draws where the spaces agree
        seed = stream_seed(self.pair.study.seed, "sampler", self.pair.env_id, number)
        return propose(self.pair.space.parameters, earlier, sampler=self.pair.study.sampler, seed=seed)

    def _next_runs(self, trial: Trial) -> list[Request]:
        """All seeds at once, or one after the other where the trial may be pruned between them."""
        known = len(trial.reports)
        upto = known + 1 if trial.medians else len(trial.runs)
        indices = range(trial.asked, min(upto, len(trial.runs)))
        trial.asked = max(trial.asked, indices.stop)
        return [
            Request(
                "tuning",
                trial.number,
                self.pair,
                self.pair.scoring_cell(trial.entry, self.pair.seeds.tuning[index]),
                partial(self._receive_tuning, trial, index),
            )
            for index in indices
        ]

    def _receive_tuning(self, trial: Trial, index: int, result: CellResult) -> Trial | None:
        trial.runs[index] = self.pair.run(result)
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
        self.spared_runs += trial.runs.count(None)
        runs = [{"score": run.raw, "reason": run.reason} for run in trial.runs if run is not None]
        self.log.finish(trial.number, trial.value, {"runs": runs}, trial.reports)
        if trial.value is not None and (self.best is None or _key(trial) > _key(self.best)):
            self.best = trial
        return trial


def _key(trial: Trial) -> tuple[float, int]:
    """Highest value first, the earliest of equals."""
    return (float("-inf") if trial.value is None else trial.value, -trial.number)
