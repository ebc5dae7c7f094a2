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

    _adapted_from: float | None = None

    @property
    def _steering_bounds(self) -> tuple[float, float]:
        """Least and greatest value of the parameter."""
        raise NotImplementedError

    def _check_options(self) -> None:
        super()._check_options()
        given = getattr(self, self.steered)
        low, high = self._steering_bounds
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
