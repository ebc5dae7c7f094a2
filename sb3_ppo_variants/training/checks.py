"""Checks of constructor arguments: one clear line each, before any work starts."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.utils import FloatSchedule

# NumPy's scalars are numbers too
_WHOLE = (int, np.integer)
_REAL = (int, float, np.integer, np.floating)


def check_number(
    name: str,
    value: float,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    below: float = math.inf,
    at_most: float = math.inf,
    when: str = "",
) -> None:
    """Refuse a number that is not finite or outside its range.

    :param name: name of the argument
    :param value: its value
    :param above: exclusive lower bound
    :param at_least: inclusive lower bound
    :param below: exclusive upper bound
    :param at_most: inclusive upper bound
    :param when: follows the value in the message
    :raises ValueError: naming the argument, the value and the range
    """
    is_number = isinstance(value, _REAL) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and above < value < below and at_least <= value <= at_most:
        return
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("above", above), ("at least", at_least), ("below", below), ("at most", at_most))
        if math.isfinite(bound)
    ]
    raise ValueError(f"{name}={value!r}{when} is not allowed: give a finite number {' and '.join(bounds)}.")


def check_count(name: str, value: int, *, at_least: int = 0) -> None:
    """Refuse a number of times that is not a whole number or too small.

    :param name: name of the argument
    :param value: its value
    :param at_least: inclusive lower bound
    :raises ValueError: naming the argument, the value and the bound
    """
    if not isinstance(value, _WHOLE) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"{name}={value!r} is not allowed: give a whole number of at least {at_least}.")


def check_choice(name: str, value: Any, options: Sequence[Any]) -> None:
    """Refuse a value that is not one of ``options``.

    :raises ValueError: naming the argument, the value and the options
    """
    if value not in options:
        raise ValueError(f"{name}={value!r} is not allowed: use one of {', '.join(map(repr, options))}.")


def steered_value(name: str, schedule: Any, *, at_least: float, at_most: float) -> float:
    """Return where a controller starts: the value of a schedule that must be constant, since it would fight the other.

    :param name: name of the argument
    :param schedule: a number, or a schedule over the remaining progress (rl-zoo wraps plain numbers in one)
    :param at_least: inclusive lower bound
    :param at_most: inclusive upper bound
    :return: its value
    :raises ValueError: if it is neither, out of bounds, or the schedule changes over the course of training
    """
    value = _constant(name, schedule)
    check_number(name, value, at_least=at_least, at_most=at_most)
    return value


def _constant(name: str, schedule: Any) -> float:
    if isinstance(schedule, _REAL):
        return float(schedule)
    if not callable(schedule):
        raise ValueError(f"{name}={schedule!r} is not allowed: give a plain number.")
    values = [FloatSchedule(schedule)(progress) for progress in (1.0, 0.5, 0.0)]
    if len(set(values)) > 1:
        raise ValueError(
            f"{name} must be constant: it is the starting point of a controller, which would fight the schedule "
            f"(values at the start, middle and end of training: {values}). Give a plain number."
        )
    return values[0]
