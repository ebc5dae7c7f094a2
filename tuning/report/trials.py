"""What Optuna knows of a study: every finished trial, and which hyperparameters mattered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from ..decisions.study_db import open_read_only, storage_errors
from ..study.protocol import protocol_digest

FEW_TRIALS = 10
"""Below this many finished trials an importance would be noise."""

MANY_TRIALS = 50
"""Below this many the best tenth is less than five trials: an importance is stated as a rough hint."""

Scale = Literal["linear", "log", "category"]


@dataclass(frozen=True)
class SearchedParameter:
    """A parameter and the scale it was searched on."""

    name: str
    scale: Scale


@dataclass(frozen=True)
class TunedPair:
    """The finished trials of one (algorithm, environment).

    :param numbers: of the trials
    :param values: normalised score of each
    :param params: parameters of each
    :param searched: the parameters, most important first where that can be told
    :param importances: parameter -> share of the variation it explains; None where it cannot be told
    :param reason: why it cannot be told
    """

    numbers: list[int]
    values: list[float]
    params: list[dict[str, Any]]
    searched: list[SearchedParameter]
    importances: dict[str, float] | None
    reason: str = ""


def read_trials(
    folder: Path, protocol: Mapping[str, Any], pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], TunedPair]:
    """Finished trials by (algorithm, environment); nothing is written.

    :param folder: of the study's results, with its ``study.db``
    :param protocol: of the study
    :param pairs: the (algorithm, environment) that are wanted
    :raises OSError: there is no ``study.db``, or it is damaged
    """
    storage = open_read_only(folder)
    prefix = f"{protocol['study']}-{protocol_digest(protocol)}"
    with storage_errors(str(folder / "study.db")):
        known = set(optuna.get_all_study_names(storage))
        tuned = {
            (algorithm, env_id): _tuned_pair(optuna.load_study(study_name=name, storage=storage))
            for algorithm, env_id in pairs
            if (name := f"{prefix}/{algorithm}/{env_id}") in known
        }
    return {pair: trials for pair, trials in tuned.items() if trials.values}


def _tuned_pair(study: optuna.Study) -> TunedPair:
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    values = [float(trial.value) for trial in trials if trial.value is not None]
    importances, reason = None, ""
    if len(values) < FEW_TRIALS:
        reason = f"fewer than {FEW_TRIALS} finished trials"
    elif len(set(values)) == 1:
        reason = "only trials of one and the same score"
    else:
        importances = optuna.importance.get_param_importances(study)
    distributions = trials[0].distributions if trials else {}
    names = list(distributions) if importances is None else list(importances)
    return TunedPair(
        numbers=[trial.number for trial in trials],
        values=values,
        params=[dict(trial.params) for trial in trials],
        searched=[SearchedParameter(name, _scale(distributions[name])) for name in names],
        importances=importances,
        reason=reason,
    )


def _scale(distribution: BaseDistribution) -> Scale:
    if isinstance(distribution, FloatDistribution | IntDistribution):
        return "log" if distribution.log else "linear"
    return "category"
