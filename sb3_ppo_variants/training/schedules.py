"""Options that take a number or a schedule: their ranges, and the numbers of an update."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from stable_baselines3.common.utils import FloatSchedule

from sb3_ppo_variants.training.checks import check_number
from sb3_ppo_variants.training.sb3_seams import SB3Seams

_JUST_ABOVE = 1e-8  # nothing beside the KL, ratio or rate that any option limits


@dataclass(frozen=True)
class Range:
    """Where the numbers of an option lie.

    Schedules fall to 0 by custom, where most limits make no sense. So a schedule may end on ``above``, and is then
    taken to be 1e-8 above it.

    :param above: exclusive lower bound
    :param at_least: inclusive lower bound, or the name of the option that is it
    :param below: exclusive upper bound
    :param optional: whether None leaves the option out
    """

    above: float = -math.inf
    at_least: float | str = -math.inf
    below: float = math.inf
    optional: bool = False


@cache
def schedulable_options(cls: type) -> Mapping[str, Range]:
    """Return what a class and its ancestors state in ``schedulable``: option -> range.

    :param cls: a variant
    """
    options: dict[str, Range] = {}
    for base in reversed(cls.__mro__):
        options |= vars(base).get("schedulable", {})
    return options


class ScheduledOptions(SB3Seams):
    """Options are stored as given; an update takes all schedules once, at its start. See :class:`UpdateLoop`."""

    schedulable: ClassVar[Mapping[str, Range]] = {"ent_coef": Range(), "vf_coef": Range()}

    _scheduled: Mapping[str, float] = {}

    def _check_options(self) -> None:
        super()._check_options()
        for name in schedulable_options(type(self)):
            for progress in (1.0, 0.0) if callable(getattr(self, name)) else (1.0,):
                self._number_at(name, progress)

    def _current(self, name: str) -> Any:
        """Return the number that an option of ``schedulable`` is in this update, or None if it is left out.

        Hooks read their options by it. Between updates it is the number at the progress that the last one had.
        """
        given = getattr(self, name)
        if not callable(given):
            return given
        if name in self._scheduled:
            return self._scheduled[name]
        return self._number_at(name, getattr(self, "_current_progress_remaining", 1.0))

    def _begin_schedules(self) -> None:
        """Take and log the number of every schedule for the update that begins.

        :raises ValueError: if one is outside its range
        """
        self._scheduled = {}
        names = [name for name in schedulable_options(type(self)) if callable(getattr(self, name))]
        self._scheduled = {name: self._current(name) for name in names}
        for name, value in self._scheduled.items():
            self.logger.record(f"train/{name}", value)

    def _number_at(self, name: str, progress: float) -> Any:
        """Return the number that an option is at some remaining progress, checked.

        :param name: of the option
        :param progress: from 1 to 0; the last rollout may go beyond the end
        :raises ValueError: if it is outside its range
        """
        limits = schedulable_options(type(self))[name]
        value, when = getattr(self, name), ""
        if value is None and limits.optional:
            return None
        if callable(value):
            progress = min(max(progress, 0.0), 1.0)
            when = f" (its schedule at progress_remaining={progress:g})"
            value = _evaluate(name, value, progress)
            if value == limits.above and progress < 1:
                value += _JUST_ABOVE
        at_least = limits.at_least
        if isinstance(at_least, str):
            at_least = self._number_at(at_least, progress)
        check_number(name, value, above=limits.above, at_least=at_least, below=limits.below, when=when)
        return value

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_scheduled"]


def _evaluate(name: str, schedule: Any, progress: float) -> float:
    try:
        return FloatSchedule(schedule)(progress)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}={schedule!r} is no schedule: it has to give a number for progress_remaining={progress:g}, "
            f"but {error}."
        ) from error
