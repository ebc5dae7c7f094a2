"""Schedules as zoo entries write them."""

import math
from typing import Any

from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule

SCHEDULE_KEYS = ("learning_rate", "clip_range", "clip_range_vf")


def resolve_schedule(value: Any, where: str) -> Any:
    """Resolve ``"lin_x"`` and ``"const_x"``; numbers, None and callables pass.

    :param value: what a zoo entry holds
    :param where: names the place in the message
    :raises ValueError: if it is another text
    """
    if not isinstance(value, str):
        return value
    kind, _, number = value.partition("_")
    try:
        start = float(number)
    except ValueError:
        start = math.nan
    if kind not in ("lin", "const") or not math.isfinite(start):
        raise ValueError(
            f"{where} is the text {value!r}: use a number, 'lin_x' (falls from x to 0) or 'const_x'. "
            "YAML reads 1e-3 as text: write 1.0e-3."
        )
    return LinearSchedule(start, 0.0, 1.0) if kind == "lin" else ConstantSchedule(start)
