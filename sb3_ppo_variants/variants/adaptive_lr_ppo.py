"""Learning rate steered by measured KL."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import update_learning_rate
from typing_extensions import Unpack

from sb3_ppo_variants.maths.controllers import steer_step_size
from sb3_ppo_variants.search_space import Choice, FloatRange, SearchSpace
from sb3_ppo_variants.training.checks import check_choice
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs
from sb3_ppo_variants.training.schedules import Range
from sb3_ppo_variants.training.steering import Steered
from sb3_ppo_variants.training.update_loop import StopPoint
from sb3_ppo_variants.update_parts.statistics import RolloutMeasurement, UpdateStatistics
from sb3_ppo_variants.update_parts.stop import Stop

_DEAD_BAND = 2.0


class AdaptiveLR(Steered):
    r"""The learning rate follows the KL; the clip stays on.

    With d = KL(old||new), where old is the policy that collected the rollout, so that d grows from epoch to epoch:

        d > 2 desired_kl: rate / lr_factor;    0 < d < desired_kl / 2: rate * lr_factor

    and in between it stays, always within [lr_min, lr_max]. The first minibatch of a rollout, whose KL is zero but for
    rounding, has no say.

    ===============  ======================================================  ===========================
    ``adapt_every``  d                                                       when
    ===============  ======================================================  ===========================
    "minibatch"      exact KL, mean over the minibatch                       before each step, as rsl_rl
    "epoch"          exact KL, mean over the rollout                         after each epoch
    "rollout"        exact KL, mean over the rollout                         after the update
    ===============  ======================================================  ===========================

    With "minibatch" and "epoch" the rate rises early in an update, while d is still small, and falls late. It settles
    where the two balance, so d passes through ``desired_kl`` on the way and ends above it: at about 2.5 times it with
    ten epochs if d grows linearly. With "rollout" ``desired_kl`` is the KL of the whole update.

    Logs ``train/learning_rate``, the rate at the start of the update. The rate takes the place of SB3's schedule and
    survives saving and loading; to change it in between, set the attribute ``adapted_learning_rate``.

    In rsl_rl's code: ``PPO.update``, the block under ``self.schedule == "adaptive"``. Its ``kl_mean``, ``desired_kl``
    and ``learning_rate`` are d, ``desired_kl`` and ``adapted_learning_rate`` here, its 2 and 1.5 the band and
    ``lr_factor``, its 1e-5 and 1e-2 ``lr_min`` and ``lr_max``.

    Heess et al. steer the coefficient of a KL penalty by this rule; applied to the learning rate it is found in code
    alone. We follow rsl_rl, numbers included, except in ``adapt_every``: it adapts at every minibatch (few and large
    there; with SB3's many small ones a noisy KL makes the rate chatter between its bounds, hence the default). rl_games
    measures the KL against the previous epoch's policy; SBX takes the k3 estimate after the step, and raises the rate
    at zero.

    Known failure modes: the critic's rate moves with the actor's, though the KL says nothing about it; where the clip
    or ``target_kl`` already hold the KL below the band, the rate runs to ``lr_max``.

    :param desired_kl: KL to steer toward, in nats, > 0; a number or a schedule
    :param lr_factor: by how much one correction divides or multiplies, >= 1; 1 keeps the rate; a number or a schedule
    :param lr_min: lower bound of the rate, > 0; a number or a schedule
    :param lr_max: upper bound of the rate. SB3's ``learning_rate`` is the start and must be constant; a number or a
        schedule
    :param adapt_every: when the KL is measured, see above
    :raises ValueError: if a parameter is outside its range or ``learning_rate`` is a schedule that changes

    Sources: ``update`` in rsl_rl's ``ppo.py`` (schedule "adaptive"); the rule from Heess et al. 2017 (1707.02286).
    """

    zoo_config: ClassVar[str] = "adaptive_lr_ppo"
    steered = "learning_rate"
    steering_bounds = ("lr_min", "lr_max")
    adapted_learning_rate: float

    limits_step_by: ClassVar[str] = "learning rate steered by measured KL"
    own_search_space: ClassVar[SearchSpace] = {
        "clip_range": FloatRange(0.1, 0.4),
        "desired_kl": FloatRange(0.003, 0.05, log=True),
        "lr_factor": FloatRange(1.1, 2.0),
        "adapt_every": Choice(("minibatch", "epoch", "rollout")),
    }
    schedulable: ClassVar[Mapping[str, Range]] = {
        "desired_kl": Range(above=0),
        "lr_factor": Range(at_least=1),
        "lr_min": Range(above=0),
        "lr_max": Range(at_least="lr_min"),
    }

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        desired_kl: float | Schedule = 0.01,
        lr_factor: float | Schedule = 1.5,
        lr_min: float | Schedule = 1e-5,
        lr_max: float | Schedule = 1e-2,
        adapt_every: Literal["minibatch", "epoch", "rollout"] = "epoch",
        **kwargs: Unpack[PPOKwargs],
    ) -> None:
        self.desired_kl = desired_kl
        self.lr_factor = lr_factor
        self.lr_min = lr_min
        self.lr_max = lr_max
        self.adapt_every = adapt_every
        super().__init__(policy, env, **kwargs)

    def _check_options(self) -> None:
        check_choice("adapt_every", self.adapt_every, ("minibatch", "epoch", "rollout"))
        super()._check_options()

    @property
    def needs_old_distribution(self) -> bool:  # type: ignore[override]
        """Whether minibatches have the old distribution."""
        return self.adapt_every == "minibatch"

    def set_parameters(  # noqa: D102 -- see SB3Seams
        self,
        load_path_or_dict: str | dict[str, Any],
        exact_match: bool = True,
        device: th.device | str = "auto",
    ) -> None:
        super().set_parameters(load_path_or_dict, exact_match, device)
        # The optimizer's state holds the rate that was reached; a file that is loaded has it as an attribute too
        if not self._is_loading:
            rate = self.policy.optimizer.param_groups[0]["lr"]
            self.adapted_learning_rate = self._within_bounds(rate)

    def _update_learning_rate(self, optimizers: list[th.optim.Optimizer] | th.optim.Optimizer) -> None:
        self.logger.record("train/learning_rate", self.adapted_learning_rate)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            update_learning_rate(optimizer, self.adapted_learning_rate)

    def _should_stop(self, point: StopPoint, stats: UpdateStatistics) -> Stop | str | None:
        if point == "before_step" and self.adapt_every == "minibatch" and (stats.epoch, stats.step) != (0, 0):
            assert stats.batch is not None and stats.batch.kl is not None  # noqa: PT018 -- no test
            self._adapt(float(stats.batch.kl.mean().item()))
        elif point == "after_epoch" and self.adapt_every == "epoch" and stats.epoch + 1 < self.n_epochs:
            self._adapt(self._measure_rollout().kl)
        return super()._should_stop(point, stats)

    def _after_update(self, measurement: RolloutMeasurement) -> RolloutMeasurement:
        # The last epoch of "epoch", finished or stopped by target_kl, is measured here anyway
        if self.adapt_every != "minibatch":
            self._adapt(measurement.kl)
        return super()._after_update(measurement)

    def _adapt(self, kl: float) -> None:
        self.adapted_learning_rate = steer_step_size(
            self.adapted_learning_rate,
            kl,
            self._current("desired_kl"),
            factor=self._current("lr_factor"),
            band=_DEAD_BAND,
            low=self._current("lr_min"),
            high=self._current("lr_max"),
        )
        update_learning_rate(self.policy.optimizer, self.adapted_learning_rate)


class AdaptiveLRPPO(AdaptiveLR, PPO):  # noqa: D101 -- the mixin documents both
    __doc__ = AdaptiveLR.__doc__
