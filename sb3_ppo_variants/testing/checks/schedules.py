"""Options that take a number or a schedule."""

from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule

from sb3_ppo_variants.testing.requirements import learn, require, require_equal_tensors, tensors_of
from sb3_ppo_variants.testing.variant import Variant
from sb3_ppo_variants.training.schedules import Range, schedulable_options
from sb3_ppo_variants.training.steering import Steered
from sb3_ppo_variants.training.update_loop import UpdateLoop


def check_schedules(variant: Variant) -> None:
    """Every option in ``schedulable`` follows a schedule: the bits are those of numbers that are set at each update."""
    schedules = _schedules(variant.make())
    scheduled = learn(variant.make(**schedules))
    logged = scheduled.logger.name_to_value
    missing = [name for name in schedules if logged.get(f"train/{name}") != schedules[name](0.0)]
    require(not missing, f"train/{', train/'.join(missing)} is not what the schedule of that name gives")
    numbers: dict[str, Any] = {name: schedule(1.0) for name, schedule in schedules.items()}
    by_hand = variant.make(**numbers)
    learn(by_hand, callback=_SetNumbers(schedules))
    require_equal_tensors(tensors_of(scheduled), tensors_of(by_hand), "with schedules, and with their numbers set")


class _SetNumbers(BaseCallback):
    """Set options to what their schedules give, before each update."""

    def __init__(self, schedules: Mapping[str, LinearSchedule]) -> None:
        super().__init__()
        self.schedules = schedules

    def _on_rollout_end(self) -> None:
        progress = 1.0 - self.model.num_timesteps / self.model._total_timesteps
        for name, schedule in self.schedules.items():
            setattr(self.model, name, schedule(progress))

    def _on_step(self) -> bool:
        return True


def _schedules(model: UpdateLoop) -> dict[str, Any]:
    """Return a schedule for each option that can have one beside the model's other options."""
    steered = model.steered if isinstance(model, Steered) else None
    no_use = {steered} | ({"critic_learning_rate"} if model.critic_epochs is None else set())
    options = schedulable_options(type(model))
    return {name: _schedule(limits, model._current(name)) for name, limits in options.items() if name not in no_use}


def _schedule(limits: Range, value: Any) -> LinearSchedule:
    least = max(limits.above, limits.at_least) if isinstance(limits.at_least, (int, float)) else limits.above
    if not value:
        value = max(least, 0.0) + 0.5
    return LinearSchedule(value, value * (0.9 if value * 0.9 > least else 1.1), 1.0)
