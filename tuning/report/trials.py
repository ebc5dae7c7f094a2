"""What Optuna knows of a study: every finished trial, and which hyperparameters mattered."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from ..protocol import protocol_digest
from ..trial_log import open_storage, storage_errors

FEW_TRIALS = 10
"""Below this many finished trials an importance would be noise."""


@dataclass(frozen=True)
class TunedPair:
    """The finished trials of one (algorithm, environment).

    :param values: normalised score of each
    :param params: parameters of each
    :param log_scaled: parameters that were searched on a logarithmic scale
    :param importances: parameter -> share of the variation it explains; None where it cannot be told
    :param reason: why it cannot be told
    """

    values: list[float]
    params: list[dict[str, Any]]
    log_scaled: set[str]
    importances: dict[str, float] | None
    reason: str = ""

    @property
    def best(self) -> int:
        """Index of the best trial, the first of equals."""
        return self.values.index(max(self.values))


def read_trials(folder: Path, protocol: Mapping[str, Any]) -> dict[tuple[str, str], TunedPair]:
    """Finished trials by (algorithm, environment), in the study's order; nothing is written.

    :param folder: of the study's results, with its ``study.db``
    :param protocol: of the study
    :raises OSError: there is no ``study.db``, or it is damaged
    """
    path = (folder / "study.db").resolve()
    if not path.is_file():
        raise OSError(f"{folder} has no study.db: the study kept its trials in another storage")
    url = f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true"
    prefix = f"{protocol['study']}-{protocol_digest(dict(protocol))}"
    with storage_errors(str(path)):
        storage = open_storage(url)
        known = set(optuna.get_all_study_names(storage))
        pairs = {}
        for algorithm in protocol["algorithms"]:
            for env_id in protocol["environments"]:
                name = f"{prefix}/{algorithm}/{env_id}"
                if name in known:
                    pairs[algorithm, env_id] = _tuned_pair(optuna.load_study(study_name=name, storage=storage))
    return {pair: tuned for pair, tuned in pairs.items() if tuned.values}


def _tuned_pair(study: optuna.Study) -> TunedPair:
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    values = [float(trial.value) for trial in trials if trial.value is not None]
    log_scaled = {
        name
        for trial in trials[:1]
        for name, distribution in trial.distributions.items()
        if isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log
    }
    importances, reason = None, ""
    if len(values) < FEW_TRIALS:
        reason = f"{len(values)} finished trials, {FEW_TRIALS} are needed"
    elif len(set(values)) == 1:
        reason = "every trial has the same score"
    else:
        importances = optuna.importance.get_param_importances(study)
    return TunedPair(values, [dict(trial.params) for trial in trials], log_scaled, importances, reason)
