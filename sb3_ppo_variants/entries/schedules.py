"""Schedules as zoo entries write them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule

SCHEDULE_KEYS = ("learning_rate", "clip_range", "clip_range_vf")
"""What takes a schedule in SB3's own PPO."""


@dataclass(frozen=True)
class ExponentialSchedule:
    """From start to end by equal factors.

    :param start: value at the start of training, > 0
    :param end: value at its end, > 0
    """

    start: float
    end: float

    def __call__(self, progress_remaining: float) -> float:
        """Return the value at some remaining progress, from 1 to 0."""
        remaining = min(max(progress_remaining, 0.0), 1.0)
        return float(self.start**remaining * self.end ** (1 - remaining))


@dataclass(frozen=True)
class CosineSchedule:
    """From start to end along half a cosine: slowly at first and at last.

    :param start: value at the start of training
    :param end: value at its end
    """

    start: float
    end: float

    def __call__(self, progress_remaining: float) -> float:
        """Return the value at some remaining progress, from 1 to 0."""
        remaining = min(max(progress_remaining, 0.0), 1.0)
        return self.end + (self.start - self.end) * (1 - math.cos(math.pi * remaining)) / 2


def _exponential(start: float, end: float) -> ExponentialSchedule:
    if not min(start, end) > 0:
        raise ValueError
    return ExponentialSchedule(start, end)


_KINDS: Mapping[str, Callable[..., Any]] = {
    "const": ConstantSchedule,
    "lin": lambda start, end=0.0: LinearSchedule(start, end, 1.0),
    "cos": lambda start, end=0.0: CosineSchedule(start, end),
    "exp": _exponential,
}


def schedule_keys(cls: type) -> tuple[str, ...]:
    """Return the arguments of a class that take a schedule: SB3's, and what a variant states in ``schedulable``.

    :param cls: an algorithm class
    """
    own = (name for base in cls.__mro__ for name in vars(base).get("schedulable", ()))
    return tuple(dict.fromkeys((*SCHEDULE_KEYS, *own)))


def is_schedule(value: Any) -> bool:
    """Tell whether a value of a zoo entry is a text that looks like a schedule.

    :param value: any value
    """
    return isinstance(value, str) and value.startswith(tuple(f"{kind}_" for kind in _KINDS))


def resolve_schedules(cls: type, arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a class's arguments with schedules for texts, where it takes them.

    :param cls: an algorithm class
    :param arguments: of a zoo entry
    :param where: names the entry in the message
    :raises ValueError: as :func:`resolve_schedule`
    """
    keys = schedule_keys(cls)
    return {
        key: resolve_schedule(value, f"{key} in {where}") if key in keys else value for key, value in arguments.items()
    }


def resolve_schedule(value: Any, where: str) -> Any:
    """Resolve the text of a schedule; numbers, None and callables pass.

    ==============  ==========================================
    text            value
    ==============  ==========================================
    ``const_x``     x
    ``lin_x``       falls from x to 0 at constant speed
    ``lin_x_y``     goes from x to y at constant speed
    ``cos_x``       falls from x to 0 along half a cosine
    ``cos_x_y``     goes from x to y along half a cosine
    ``exp_x_y``     goes from x to y by equal factors
    ==============  ==========================================

    :param value: what a zoo entry holds
    :param where: names the place in the message
    :raises ValueError: if it is another text
    """
    if not isinstance(value, str):
        return value
    kind, *numbers = value.split("_")
    try:
        points = [float(number) for number in numbers]
        if not all(math.isfinite(point) for point in points):
            raise ValueError
        return _KINDS[kind](*points)
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{where} is the text {value!r}: use a number, 'lin_x' (falls from x to 0), 'lin_x_y' (goes from x to y), "
            "'cos_x', 'cos_x_y', 'exp_x_y' or 'const_x'. YAML reads 1e-3 as text: write 1.0e-3."
        ) from None
