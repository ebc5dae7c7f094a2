"""Which configuration a trial tries: a pure function of the seed and the trials before it."""

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

from ..study.rules import N_STARTUP_TRIALS


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
