"""The Optuna study of one (algorithm, environment): a record that dashboards and samplers can read."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from .proposals import Proposal, frozen_trial


class TrialLog:
    """Trials of one pair, numbered from 0; only the coordinator writes them.

    :param storage: where they are kept
    :param name: name of the Optuna study
    :param known: the search space in Optuna's words
    """

    def __init__(self, storage: optuna.storages.BaseStorage, name: str, known: Mapping[str, BaseDistribution]):
        self._known = dict(known)
        self._name = name
        # The storage itself, not an Optuna study: that reads all its trials, and keeps them, at each new one.
        self._storage = storage
        optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        self._study_id = storage.get_study_id_from_name(name)
        trials = storage.get_all_trials(self._study_id, deepcopy=False)
        self._ids = {trial.number: trial._trial_id for trial in trials if not trial.state.is_finished()}
        self._outcomes = {trial.number: trial.value for trial in trials if trial.state.is_finished()}
        self._pruned = {trial.number for trial in trials if trial.state == TrialState.PRUNED}
        self._params = {trial.number: trial.params for trial in trials}

    def params(self, number: int) -> dict[str, Any] | None:
        """Parameters of a trial that an earlier coordinator began; None when there is no such trial."""
        return self._params.get(number)

    def begin(self, number: int, params: Mapping[str, Any]) -> None:
        """Write a new trial as RUNNING, number and parameters in one transaction.

        :param number: the next number
        :param params: all its parameters
        :raises ValueError: the storage holds other trials than the coordinator thinks
        """
        trial_id = self._storage.create_new_trial(self._study_id, frozen_trial(Proposal(params), self._known))
        given = self._storage.get_trial_number_from_id(trial_id)
        if given != number:
            raise ValueError(
                f"trial {number} of Optuna study {self._name!r} was given the number {given}: "
                "something else writes to this storage"
            )
        self._ids[number] = trial_id

    def finish(
        self, number: int, value: float | None, attributes: Mapping[str, Any], reports: Sequence[float] = ()
    ) -> None:
        """Write how a trial ended, once.

        :param number: of a trial that was begun
        :param value: finite; None when the trial was pruned, which is recorded with its last report
        :param attributes: what a dashboard shows beside it
        :param reports: mean over its first run, over the first two, ...: Optuna's intermediate values
        :raises ValueError: another outcome is on record, or this one is not finite
        """
        told = reports[-1] if value is None else value
        if not math.isfinite(told):
            raise ValueError(f"trial {number}: only finite values may be told, got {told}")
        if number not in self._outcomes:
            self._record(number, TrialState.PRUNED if value is None else TrialState.COMPLETE, told, reports, attributes)
            return
        recorded = self._outcomes[number]
        same = recorded is not None and math.isclose(recorded, told, rel_tol=1e-12, abs_tol=1e-12)
        if not same or (value is None) != (number in self._pruned):
            raise ValueError(
                f"trial {number} of {self._name!r}: the storage says {recorded}, its cells say {told}; "
                "remove study.db, or give another --storage: it is written again from the cells"
            )

    def _record(
        self, number: int, state: TrialState, value: float, reports: Sequence[float], attributes: Mapping[str, Any]
    ) -> None:
        trial_id = self._ids.pop(number)
        for name, content in attributes.items():
            self._storage.set_trial_user_attr(trial_id, name, content)
        for step, report in enumerate(reports, start=1):
            self._storage.set_trial_intermediate_value(trial_id, step, report)
        self._storage.set_trial_state_values(trial_id, state, [value])
