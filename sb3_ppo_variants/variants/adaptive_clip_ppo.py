"""Clip range steered by the KL measured after each update."""

from collections.abc import Mapping
from typing import Any, ClassVar

from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import Schedule
from typing_extensions import Unpack

from sb3_ppo_variants.maths.controllers import steer_step_size
from sb3_ppo_variants.search_space import FloatRange, SearchSpace
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs
from sb3_ppo_variants.training.schedules import Range
from sb3_ppo_variants.training.steering import Steered
from sb3_ppo_variants.update_parts.statistics import RolloutMeasurement

_DEAD_BAND = 1.5


class AdaptiveClip(Steered):
    r"""The clip range follows the KL: the same :math:`\epsilon` allows a different KL in every action space.

    After each update, d = mean exact KL(old||new) over the rollout:

        d > 1.5 desired_kl: clip range / clip_factor;    d < desired_kl / 1.5: clip range * clip_factor

    and in between it stays, always within [clip_range_min, clip_range_max]. Logged as ``train/clip_range`` (the
    one in force during the update) and ``train/kl``. It survives saving and loading; to change it in between, set the
    attribute ``adapted_clip_range``.

    This is this package's own construction: no published method that controls the clip range by measured KL is known.
    It mirrors the KL-adaptive learning rate (AdaptiveLRPPO); defaults and bounds are our choice.

    Known failure mode: the KL has causes besides the clip range (learning rate, epochs); where those rule, the
    clip range runs to one of its bounds.

    :param desired_kl: KL per update to steer toward, in nats, > 0; a number or a schedule
    :param clip_factor: by how much one correction divides or multiplies, > 1; a number or a schedule
    :param clip_range_min: lower bound of the clip range, > 0; a number or a schedule
    :param clip_range_max: upper bound of the clip range, < 1. SB3's ``clip_range`` is the start and must be constant; a
        number or a schedule
    :raises ValueError: if a parameter is outside its range or ``clip_range`` is a schedule that changes
    """

    zoo_config: ClassVar[str] = "adaptive_clip_ppo"
    steered = "clip_range"
    steering_bounds = ("clip_range_min", "clip_range_max")
    adapted_clip_range: float

    limits_step_by: ClassVar[str] = "clip range steered by measured KL"
    own_search_space: ClassVar[SearchSpace] = {
        "desired_kl": FloatRange(0.003, 0.05, log=True),
        "clip_factor": FloatRange(1.1, 2.0),
    }
    schedulable: ClassVar[Mapping[str, Range]] = {
        "desired_kl": Range(above=0),
        "clip_factor": Range(above=1),
        "clip_range_min": Range(above=0),
        "clip_range_max": Range(at_least="clip_range_min", below=1),
    }

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        desired_kl: float | Schedule = 0.01,
        clip_factor: float | Schedule = 1.5,
        clip_range_min: float | Schedule = 0.02,
        clip_range_max: float | Schedule = 0.5,
        **kwargs: Unpack[PPOKwargs],
    ) -> None:
        self.desired_kl = desired_kl
        self.clip_factor = clip_factor
        self.clip_range_min = clip_range_min
        self.clip_range_max = clip_range_max
        super().__init__(policy, env, **kwargs)

    def _current_clip_range(self) -> float:
        return self.adapted_clip_range

    def _after_update(self, measurement: RolloutMeasurement) -> RolloutMeasurement:
        self.adapted_clip_range = steer_step_size(
            self.adapted_clip_range,
            measurement.kl,
            self._current("desired_kl"),
            factor=self._current("clip_factor"),
            band=_DEAD_BAND,
            low=self._current("clip_range_min"),
            high=self._current("clip_range_max"),
        )
        return measurement


class AdaptiveClipPPO(AdaptiveClip, PPO):  # noqa: D101 -- the mixin documents both
    __doc__ = AdaptiveClip.__doc__
