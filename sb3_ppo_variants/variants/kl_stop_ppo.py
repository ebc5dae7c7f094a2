"""Early stop on KL, with a choice of estimator and moment."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import Schedule
from typing_extensions import Unpack

from sb3_ppo_variants.search_space import Choice, FloatRange, SearchSpace
from sb3_ppo_variants.training.checks import check_choice
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs
from sb3_ppo_variants.training.schedules import Range
from sb3_ppo_variants.training.update_loop import StopPoint, UpdateLoop
from sb3_ppo_variants.update_parts.statistics import UpdateStatistics
from sb3_ppo_variants.update_parts.stop import Stop, StopRule


class KLStop(UpdateLoop):
    r"""The updates on a rollout end as soon as the policy has moved by ``max_kl``; the clip stays on.

    ============  ============================================  ==================  ================================
    ``stop_at``   what is compared with ``max_kl`` (factor 1)   when                what is left
    ============  ============================================  ==================  ================================
    "minibatch"   k3 estimate on the minibatch                  before its step     all steps before it
    "epoch"       mean of the epoch's k3 estimates, each        after the epoch     all steps, the last one included
                  taken before its minibatch's step
    "rollout"     exact KL(old||new), mean over the rollout     after the epoch     all steps, the last one included
                  (k3 where no closed form exists)
    ============  ============================================  ==================  ================================

    ``KLStopPPO(max_kl=1.5 * x, stop_at="minibatch")`` is SB3's ``target_kl=x``, bit for bit: SB3 stops at 1.5 times its
    target. Nothing is undone, so the KL of an update can end above ``max_kl`` (by one step, or one epoch);
    TrustRegionPPO is the variant that never exceeds it. A minibatch estimate is noisy: one outlier stops the rollout.

    No paper defines the stop, and code bases differ: Spinning Up takes mean log(old / new) over the whole batch before
    each full-batch step, with factor 1.5; CleanRL k3 on the last minibatch after each epoch, with factor 1. We follow
    SB3 in "minibatch"; the other two modes and the default of 0.02 are our choice.

    In Spinning Up the stop is the actor's alone: ``stop_critic=False``, or ``critic_epochs`` (see UpdateLoop).

    Logs ``train/stop_epoch`` and the rule's number, ``train/stop_reason``, when it stops.

    :param max_kl: the bound itself, in nats, > 0; a number or a schedule
    :param stop_at: what is measured and when, see above
    :raises ValueError: if an own parameter is outside its range

    Sources: Schulman et al., the "kl" stop of OpenAI's Spinning Up (actor only); SB3's ``target_kl``; Schulman,
    "Approximating KL Divergence" (2020) for k3.
    """

    zoo_config: ClassVar[str] = "kl_stop_ppo"
    limits_step_by: ClassVar[str] = "early stop on KL"
    own_search_space: ClassVar[SearchSpace] = {
        "clip_range": FloatRange(0.1, 0.4),
        "max_kl": FloatRange(0.005, 0.1, log=True),
        "stop_at": Choice(("minibatch", "epoch", "rollout")),
    }
    schedulable: ClassVar[Mapping[str, Range]] = {
        "max_kl": Range(above=0),
    }

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        max_kl: float | Schedule = 0.02,
        stop_at: Literal["minibatch", "epoch", "rollout"] = "minibatch",
        **kwargs: Unpack[PPOKwargs],
    ) -> None:
        self.max_kl = max_kl
        self.stop_at = stop_at
        super().__init__(policy, env, **kwargs)

    def _check_options(self) -> None:
        super()._check_options()
        check_choice("stop_at", self.stop_at, ("minibatch", "epoch", "rollout"))

    def _should_stop(self, point: StopPoint, stats: UpdateStatistics) -> Stop | str | None:
        if point == "before_step" and self.stop_at == "minibatch":
            if stats.minibatch_kl > self._current("max_kl"):
                return Stop(StopRule.MINIBATCH_KL, f"minibatch KL {stats.minibatch_kl:.4g} above max_kl")
        elif point == "after_epoch" and self.stop_at == "epoch":
            if stats.epoch_kl > self._current("max_kl"):
                return Stop(StopRule.EPOCH_KL, f"epoch KL {stats.epoch_kl:.4g} above max_kl")
        elif point == "after_epoch" and self.stop_at == "rollout":
            kl = self._measure_rollout().kl
            if kl > self._current("max_kl"):
                return Stop(StopRule.ROLLOUT_KL, f"rollout KL {kl:.4g} above max_kl")
        return super()._should_stop(point, stats)


class KLStopPPO(KLStop, PPO):  # noqa: D101 -- the mixin documents both
    __doc__ = KLStop.__doc__
