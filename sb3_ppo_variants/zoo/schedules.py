"""Schedules in a zoo entry: SB3's three become schedule objects, a variant's own parameters follow a callback."""

from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from sb3_ppo_variants.entries.schedules import SCHEDULE_KEYS, resolve_schedule
from sb3_ppo_variants.registry import Algorithm

_ALMOST_ZERO = 1e-6  # of the start: a falling schedule gets there, but not to 0, before the last update


class FallingParameters(BaseCallback):
    """Let own parameters of a variant fall linearly to 0 over the run, as ``lin_x`` of rl-zoo says.

    Variants keep own parameters as plain attributes and read them in every update, so each rollout sets them anew.

    :param starts: parameter name -> value at the start of the run
    """

    def __init__(self, starts: Mapping[str, float]) -> None:
        super().__init__()
        self.starts = dict(starts)

    def _on_rollout_start(self) -> None:
        # SB3 updates its own progress after the rollout, and then it can be 0, where a limit makes no sense
        progress = max(_ALMOST_ZERO, 1.0 - self.model.num_timesteps / self.model._total_timesteps)
        for name, start in self.starts.items():
            setattr(self.model, name, start * progress)
            self.logger.record(f"train/{name}", start * progress)

    def _on_step(self) -> bool:
        return True


def resolve_schedules(
    algorithm: Algorithm, hyperparameters: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Replace every ``lin_x`` and ``const_x`` of a zoo entry.

    :param algorithm: whose hyperparameters these are
    :param hyperparameters: a zoo entry
    :return: the entry with schedule objects and plain numbers, and own parameter -> start of those that fall
    :raises ValueError: if a text is no schedule, or the parameter cannot have one
    """
    resolved, falling = dict(hyperparameters), {}
    for key, value in hyperparameters.items():
        if key in SCHEDULE_KEYS:
            resolved[key] = resolve_schedule(value, key)
        elif isinstance(value, str) and value.startswith(("lin_", "const_")):
            resolved[key] = _start(algorithm, key, value)
            if value.startswith("lin_"):
                falling[key] = resolved[key]
    own = {key: resolved[key] for key in algorithm.own_parameters if key in resolved}
    for key in falling:
        _check_fall(algorithm, own, key)
    return resolved, falling


def _start(algorithm: Algorithm, key: str, text: str) -> float:
    """Read x of ``lin_x`` for an own parameter."""
    numbers = [name for name, default in algorithm.own_parameters.items() if default is None or type(default) is float]
    if key not in numbers:
        possible = ", ".join([*SCHEDULE_KEYS, *numbers])
        raise ValueError(f"{key} of {algorithm.id} cannot be a schedule ({text!r}): only {possible} can.")
    start = resolve_schedule(text, key)(1.0)
    assert isinstance(start, float)
    return start


def _check_fall(algorithm: Algorithm, own: Mapping[str, Any], key: str) -> None:
    """Refuse a fall that the class's own checks do not allow, or that would do nothing."""
    if hasattr(_without_environment(algorithm, own), f"adapted_{key}"):
        raise ValueError(f"{key} of {algorithm.id} cannot fall by a schedule: its controller only starts from it.")
    try:
        _without_environment(algorithm, {**own, key: own[key] * _ALMOST_ZERO})
    except ValueError as error:
        raise ValueError(f"{key}: lin_{own[key]:g} of {algorithm.id} falls to 0, but {error}") from error


def _without_environment(algorithm: Algorithm, own: Mapping[str, Any]) -> Any:
    """Run what the constructor checks of own parameters, and build nothing."""
    constructor: Any = algorithm.cls
    return constructor("MlpPolicy", None, _init_setup_model=False, **own)
