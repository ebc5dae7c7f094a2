"""What an exception says about a run: what went wrong, where, and whether this package is to blame."""

from pathlib import Path
from traceback import walk_tb
from types import FrameType

from sb3_ppo_variants.update_parts.errors import NonFiniteUpdateError

_PACKAGE = "sb3_ppo_variants"

# What Python raises where a programmer was wrong. What this package objects to is a ValueError or an error of its own,
# and an environment's errors are raised in the environment.
_PROGRAMMING_ERRORS = (TypeError, AttributeError, NameError, LookupError, AssertionError, ArithmeticError)


def describe(error: BaseException) -> str:
    """The error in one line, with the file and the line that raised it.

    :param error: as it was caught
    """
    text = " ".join(f"{type(error).__name__}: {error}".split())
    frame = _raised_in(error)
    return text if frame is None else f"{text} ({_place(frame[0])}:{frame[1]})"


def is_ours(error: BaseException) -> bool:
    """Whether the error looks like a fault of this package: one of programming, raised in its own code.

    :param error: as it was caught
    """
    frame = _raised_in(error)
    # A policy that diverged is the algorithm's outcome, though the error is one of arithmetic
    if frame is None or isinstance(error, NonFiniteUpdateError) or not isinstance(error, _PROGRAMMING_ERRORS):
        return False
    return str(frame[0].f_globals.get("__name__")).partition(".")[0] == _PACKAGE


def _raised_in(error: BaseException) -> tuple[FrameType, int] | None:
    """The innermost frame and its line; None where the error was never raised."""
    frames = list(walk_tb(error.__traceback__))
    return frames[-1] if frames else None


def _place(frame: FrameType) -> str:
    """The file as Python imports it, the same on every machine: ``sb3_ppo_variants/training/update_loop.py``."""
    file = Path(frame.f_code.co_filename)
    package = frame.f_globals.get("__package__")
    return str(file) if package is None else "/".join([*filter(None, package.split(".")), file.name])
