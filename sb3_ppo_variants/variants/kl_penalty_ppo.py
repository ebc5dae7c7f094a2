"""KL penalty in place of the clip, with a coefficient that follows the KL measured after each update."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import Schedule
from typing_extensions import Unpack

from sb3_ppo_variants.maths import losses
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.maths.controllers import steer_penalty
from sb3_ppo_variants.search_space import FloatRange, SearchSpace
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs
from sb3_ppo_variants.training.schedules import Range
from sb3_ppo_variants.training.steering import Steered
from sb3_ppo_variants.update_parts.array_batch import ArrayBatch
from sb3_ppo_variants.update_parts.minibatch import MiniBatch
from sb3_ppo_variants.update_parts.statistics import RolloutMeasurement


class KLPenalty(Steered):
    r"""A penalty on the KL replaces the clip; its coefficient follows the KL measured after each update.

    Objective: :math:`rA - \beta\,KL(\pi_{old} \| \pi_{new})`, with the exact KL of each state (k3 only for custom
    distributions without a closed form). After each update, d = mean KL over the rollout:

        d > kl_band * desired_kl: beta * kl_coef_factor;    d < desired_kl / kl_band: beta / kl_coef_factor

    and in between it stays, always within [kl_coef_min, kl_coef_max]. Logged as ``train/kl_coef`` (the one in force
    during the update) and ``train/kl``. It survives saving and loading; to change it in between, set the attribute
    ``adapted_kl_coef``. ``clip_range`` only serves ``train/clip_fraction``. With ``kl_coef=0`` nothing limits the step:
    bit for bit SB3's PPO with a clip range that nothing reaches.

    In the paper: eq. 8 and the rule below it. Its :math:`\beta` and d_targ are ``adapted_kl_coef`` and ``desired_kl``,
    its 1.5 and 2 ``kl_band`` and ``kl_coef_factor``.

    The rule and its numbers are the paper's; the implementations differ from it and from each other (joschu/modular_rl:
    band 1.3 and 0.7, factor 1.5, and a penalty on the KL beyond twice the target; RLlib: band 2, factors 1.5 and 0.5;
    both measure the minibatches' KL in the last epoch). Here the KL is that of the whole rollout after the update.
    The bounds are KLip-PPO's (2606.23932): without them the coefficient can vanish or overflow.

    Known failure modes: one coefficient for all samples binds the mean KL only, so single states can move far; it lags
    by one update, so an early overshoot is answered late (reported to collapse on Ant).

    :param kl_coef: coefficient beta at the start, in [kl_coef_min, kl_coef_max]; 0 turns penalty and controller off;
        with ``kl_coef_factor=1`` it may be a schedule, >= 0
    :param desired_kl: KL per update to steer toward, in nats, > 0; a number or a schedule
    :param kl_coef_factor: by how much one correction multiplies or divides, >= 1; 1 keeps the coefficient; a number or
        a schedule
    :param kl_band: half width of the dead band, as a factor, >= 1; a number or a schedule
    :param kl_coef_min: lower bound of the coefficient, > 0; a number or a schedule
    :param kl_coef_max: upper bound of the coefficient; a number or a schedule
    :raises ValueError: if an own parameter is outside its range

    Source: Schulman et al. 2017 (1707.06347), sec. 4.
    """

    zoo_config: ClassVar[str] = "kl_penalty_ppo"
    steered = "kl_coef"
    steering_bounds = ("kl_coef_min", "kl_coef_max")
    adapted_kl_coef: float

    limits_step_by: ClassVar[str] = "KL penalty with adaptive coefficient"
    own_search_space: ClassVar[SearchSpace] = {
        "kl_coef": FloatRange(0.03, 10.0, log=True),
        "desired_kl": FloatRange(0.003, 0.05, log=True),
    }
    schedulable: ClassVar[Mapping[str, Range]] = {
        "kl_coef": Range(at_least=0),
        "desired_kl": Range(above=0),
        "kl_coef_factor": Range(at_least=1),
        "kl_band": Range(at_least=1),
        "kl_coef_min": Range(above=0),
        "kl_coef_max": Range(at_least="kl_coef_min"),
    }

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        kl_coef: float | Schedule = 1.0,
        desired_kl: float | Schedule = 0.01,
        kl_coef_factor: float | Schedule = 2.0,
        kl_band: float | Schedule = 1.5,
        kl_coef_min: float | Schedule = 1e-4,
        kl_coef_max: float | Schedule = 1e4,
        **kwargs: Unpack[PPOKwargs],
    ) -> None:
        self.kl_coef = kl_coef
        self.desired_kl = desired_kl
        self.kl_coef_factor = kl_coef_factor
        self.kl_band = kl_band
        self.kl_coef_min = kl_coef_min
        self.kl_coef_max = kl_coef_max
        super().__init__(policy, env, **kwargs)

    @property
    def _follows_schedule(self) -> bool:
        return callable(self.kl_coef) and self.kl_coef_factor == 1

    @property
    def _first_bounds(self) -> tuple[float, float]:
        return (0.0, 0.0) if self._current("kl_coef") == 0 else super()._first_bounds

    @property
    def needs_old_distribution(self) -> bool:  # type: ignore[override]
        """Whether minibatches have the old distribution."""
        return self.adapted_kl_coef != 0

    def _surrogate(self, batch: MiniBatch) -> th.Tensor:
        return losses.unclipped_surrogate(batch.ratio, batch.advantages)

    def _surrogate_slope(self, batch: ArrayBatch) -> FloatArray:
        return losses.unclipped_surrogate_slope(batch.ratio, batch.advantages)

    def _penalty(self, batch: MiniBatch) -> th.Tensor | None:
        # At 0 the term is left out: 0 * KL is NaN where the KL overflows
        return self.adapted_kl_coef * batch.kl if self.adapted_kl_coef else None

    def _kl_slope(self, batch: ArrayBatch) -> FloatArray | None:
        return np.full_like(batch.ratio, -self.adapted_kl_coef) if self.adapted_kl_coef else None

    def _after_update(self, measurement: RolloutMeasurement) -> RolloutMeasurement:
        self.logger.record("train/kl_coef", self.adapted_kl_coef)
        if self.adapted_kl_coef and not self._follows_schedule:
            self.adapted_kl_coef = steer_penalty(
                self.adapted_kl_coef,
                measurement.kl,
                self._current("desired_kl"),
                factor=self._current("kl_coef_factor"),
                band=self._current("kl_band"),
                low=self._current("kl_coef_min"),
                high=self._current("kl_coef_max"),
            )
        return super()._after_update(measurement)


class KLPenaltyPPO(KLPenalty, PPO):  # noqa: D101 -- the mixin documents both
    __doc__ = KLPenalty.__doc__
