"""Which configuration a trial tries, and when it is given up: pure functions of the seed and the trials before it."""

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from sb3_ppo_variants.search_space import Choice, FloatRange, Parameter

from ..study.rules import N_PRUNING_STARTUP_TRIALS, N_STARTUP_TRIALS


@dataclass(frozen=True)
class Proposal:
    """A trial as a sampler sees it.

    :param params: the point of the search space
    :param value: its value; None while it runs, and when it was pruned
    :param reports: mean over its first run, over the first two, ...
    :param pruned: whether it was given up
    """

    params: Mapping[str, Any]
    value: float | None = None
    reports: Sequence[float] = ()
    pruned: bool = False


def distributions(space: Mapping[str, Parameter]) -> dict[str, BaseDistribution]:
    """Optuna's words for ``space``."""
    return {name: _distribution(parameter) for name, parameter in space.items()}


def propose(space: Mapping[str, Parameter], earlier: Iterable[Proposal], *, sampler: str, seed: int) -> dict[str, Any]:
    """Parameters for the next trial.

    The sampler is new each time and seeded for this trial alone: a study that was interrupted neither
    repeats its draws nor goes on differently.

    :param space: parameter name -> range
    :param earlier: all earlier trials in order; those neither pruned nor with a value count as still running
    :param sampler: "tpe", "gp" or "random"
    :param seed: of this trial's sampler
    """
    study = optuna.create_study(direction="maximize", sampler=_sampler(sampler, seed))
    known = distributions(space)
    if sampler != "random":  # which learns nothing from them
        study.add_trials([frozen_trial(proposal, known) for proposal in earlier])
    return dict(study.ask(known).params)


def frozen_trial(proposal: Proposal, known: Mapping[str, BaseDistribution]) -> optuna.trial.FrozenTrial:
    """``proposal`` as Optuna keeps it: COMPLETE, PRUNED (its value is then the last report), or RUNNING."""
    state = TrialState.RUNNING if proposal.value is None else TrialState.COMPLETE
    value = proposal.value
    if proposal.pruned:
        state, value = TrialState.PRUNED, proposal.reports[-1]
    return optuna.trial.create_trial(
        state=state,
        value=value,
        params=dict(proposal.params),
        distributions=dict(known),
        intermediate_values=dict(enumerate(proposal.reports, start=1)),
    )


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


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.options)
    if isinstance(parameter, FloatRange):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    return IntDistribution(parameter.low, parameter.high, log=parameter.log)


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "tpe":
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=N_STARTUP_TRIALS, multivariate=True, constant_liar=True
        )
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=N_STARTUP_TRIALS)
    return optuna.samplers.RandomSampler(seed=seed)
