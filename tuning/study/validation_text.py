"""What pydantic found wrong with a study file, in one line."""

import math
from typing import Any

from pydantic import ValidationError


def one_line(error: ValidationError) -> str:
    """Say each problem with its place, what stands there and what would be right.

    :param error: of a study file
    """
    return "; ".join(_describe(problem) for problem in error.errors())


def _describe(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where}"
    if problem["type"] == "value_error":
        return f"{where}: {problem['ctx']['error']}"
    if problem["type"] == "missing":
        return f"{where} is missing"
    return f"{where}: {problem['msg']} (got {problem['input']!r}{_number_meant(problem['input'])})"


def _number_meant(value: Any) -> str:
    """Say how to write a number that YAML reads as text or as a fraction: ``1e5`` is a text, ``1.0e+5`` a float."""
    try:
        number = float(value) if isinstance(value, str | float) else math.nan
    except ValueError:
        return ""
    if not math.isfinite(number):
        return ""
    kind = "text" if isinstance(value, str) else "a fraction"
    meant = int(number) if number.is_integer() else number
    return f", which YAML reads as {kind}: write {meant}" if isinstance(value, str) or number.is_integer() else ""
