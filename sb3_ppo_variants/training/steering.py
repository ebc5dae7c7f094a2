"""A parameter that a controller steers: where it starts, how it goes on from a file, and when it starts anew."""

from typing import ClassVar

from sb3_ppo_variants.training.checks import steered_value
from sb3_ppo_variants.training.update_loop import UpdateLoop


class Steered(UpdateLoop):
    """A variant that steers one parameter. ``adapted_<parameter>`` is its value now, which is saved and loaded.

    It starts at the parameter's own value, the base, and goes on from there, also from a file. It starts anew where
    the base has become another: by ``load(path, learning_rate=...)``, by an attribute, or because the file is that of
    an algorithm that steers nothing.
    """

    steered: ClassVar[str]
    """Name of the parameter."""

    steering_bounds: ClassVar[tuple[str, str]]
    """Names of the options that are its least and its greatest value."""

    _adapted_from: float | None = None

    @property
    def _follows_schedule(self) -> bool:
        """Whether nothing steers the parameter, so that a schedule may."""
        return False

    @property
    def _first_bounds(self) -> tuple[float, float]:
        """Least and greatest value from which the parameter may start."""
        low, high = (self._number_at(name, 1.0) for name in self.steering_bounds)
        return low, high

    def _within_bounds(self, value: float) -> float:
        low, high = (self._current(name) for name in self.steering_bounds)
        return min(max(value, low), high)

    def _begin_schedules(self) -> None:
        super()._begin_schedules()
        adapted: float = getattr(self, f"adapted_{self.steered}")
        if self._follows_schedule:
            adapted = self._current(self.steered)
        elif adapted and not self._scheduled.keys().isdisjoint(self.steering_bounds):
            adapted = self._within_bounds(adapted)  # which may have closed in on it
        setattr(self, f"adapted_{self.steered}", adapted)

    def _check_options(self) -> None:
        super()._check_options()
        if self._follows_schedule:
            self._adapted_from = None
            setattr(self, f"adapted_{self.steered}", self._current(self.steered))
            return
        given = getattr(self, self.steered)
        low, high = self._first_bounds
        # Whoever loads a model to watch it may replace rates and ranges by zero, as rl_zoo3 does: no base to start from
        if self._adapted_from is not None and _is_switched_off(given) and low > 0:
            return
        base = steered_value(self.steered, given, at_least=low, at_most=high)
        if base != self._adapted_from:
            self._adapted_from = base
            setattr(self, f"adapted_{self.steered}", base)


def _is_switched_off(given: object) -> bool:
    value = given(1.0) if callable(given) else given
    return value == 0
