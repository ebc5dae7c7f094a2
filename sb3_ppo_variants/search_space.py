"""Declarative search spaces: each class states its own, the harness samples and prints them.

The library does not depend on Optuna; :func:`suggest` takes anything with Optuna's ``suggest_*`` methods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Trial(Protocol):
    """The part of :class:`optuna.Trial` that sampling needs."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Sample a float."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Sample an integer."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Sample one of ``choices``."""


@dataclass(frozen=True)
class FloatRange:
    """A real number in ``[low, high]``, uniform or log-uniform."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Trial, name: str) -> float:
        """Sample the parameter ``name``."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def __str__(self) -> str:
        return f"[{self.low:g}, {self.high:g}]{' log' if self.log else ''}"


@dataclass(frozen=True)
class IntRange:
    """An integer in ``[low, high]``, uniform or log-uniform."""

    low: int
    high: int
    log: bool = False

    def suggest(self, trial: Trial, name: str) -> int:
        """Sample the parameter ``name``."""
        return trial.suggest_int(name, self.low, self.high, log=self.log)

    def __str__(self) -> str:
        return f"[{self.low}..{self.high}]{' log' if self.log else ''}"


@dataclass(frozen=True)
class Choice:
    """One of a few values (None, bool, int, float or str)."""

    options: tuple[bool | int | float | str | None, ...]

    def suggest(self, trial: Trial, name: str) -> Any:
        """Sample the parameter ``name``."""
        return trial.suggest_categorical(name, self.options)

    def __str__(self) -> str:
        return "{" + ", ".join(str(option) for option in self.options) + "}"


Parameter = FloatRange | IntRange | Choice
SearchSpace = Mapping[str, Parameter]

CRITIC_PASSES = IntRange(5, 30)
"""Passes over a rollout of a critic that is trained on its own; in rl_zoo3's range for TRPO."""


def suggest(trial: Trial, space: SearchSpace) -> dict[str, Any]:
    """Sample every parameter of ``space``.

    :param trial: an Optuna trial
    :param space: parameter name -> range
    :return: parameter name -> value
    """
    return {name: parameter.suggest(trial, name) for name, parameter in space.items()}
