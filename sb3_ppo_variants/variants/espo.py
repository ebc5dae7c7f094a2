"""No clip; the updates end once the ratios have moved far enough."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import Schedule
from typing_extensions import Unpack

from sb3_ppo_variants.maths import losses
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.search_space import FloatRange, SearchSpace
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs
from sb3_ppo_variants.training.schedules import Range
from sb3_ppo_variants.training.update_loop import StopPoint, UpdateLoop
from sb3_ppo_variants.update_parts.array_batch import ArrayBatch
from sb3_ppo_variants.update_parts.minibatch import MiniBatch
from sb3_ppo_variants.update_parts.statistics import UpdateStatistics
from sb3_ppo_variants.update_parts.stop import Stop, StopRule


class RatioDeviationStop(UpdateLoop):
    r"""No clip: the updates on a rollout end once the mean ratio deviation is large.

    Objective: :math:`rA`. After each optimizer step, d = mean :math:`|r - 1|` over the minibatch of that step, with the
    ratios as they were evaluated for it, before it. Once d > ``max_ratio_deviation`` all updates on this rollout end,
    the critic's too. d estimates twice the total variation between old and new policy, so the bound does not
    depend on batch size or action space. The last step is kept, and ``n_epochs`` passes are the most: to let the stop
    decide, give more epochs than PPO has.

    In the paper: the mean of :math:`|r - 1|`, whose bound :math:`\delta` ends the optimisation epochs of an iteration;
    they are ``deviation`` and ``max_ratio_deviation`` here. The objective is PPO's before clipping (eq. 6 of Schulman
    et al. 2017, 1707.06347).

    The paper's own code is not public. RL-X's, which we follow in the moment of the test, draws each minibatch afresh
    (at most 300 of 64 samples) where we go through the rollout in epochs, offers the median beside the mean, and
    steps both optimizers twice on each minibatch, which we take for a slip. ``clip_range`` only serves
    ``train/clip_fraction``. Two later papers of 2025 and 2026 use the name ESPO for other methods.

    Logs ``train/stop_epoch`` and the rule's number, ``train/stop_reason``, when it stops.

    Known failure modes: without a clip, one step too large goes through; small minibatches estimate d with noise, and
    a last minibatch of a few samples can end an update by itself.

    :param max_ratio_deviation: bound on mean abs(r - 1), > 0; a number or a schedule
    :raises ValueError: if ``max_ratio_deviation`` is outside its range

    Source: Sun et al. 2022 (2202.00079), "You May Not Need Ratio Clipping in PPO".
    """

    zoo_config: ClassVar[str] = "espo"
    limits_step_by: ClassVar[str] = "early stop on mean ratio deviation"
    own_search_space: ClassVar[SearchSpace] = {"max_ratio_deviation": FloatRange(0.05, 0.5, log=True)}
    schedulable: ClassVar[Mapping[str, Range]] = {
        "max_ratio_deviation": Range(above=0),
    }

    def __init__(
        self, policy: Any, env: Any, *, max_ratio_deviation: float | Schedule = 0.25, **kwargs: Unpack[PPOKwargs]
    ) -> None:
        self.max_ratio_deviation = max_ratio_deviation
        super().__init__(policy, env, **kwargs)

    def _surrogate(self, batch: MiniBatch) -> th.Tensor:
        return losses.unclipped_surrogate(batch.ratio, batch.advantages)

    def _surrogate_slope(self, batch: ArrayBatch) -> FloatArray:
        return losses.unclipped_surrogate_slope(batch.ratio, batch.advantages)

    def _should_stop(self, point: StopPoint, stats: UpdateStatistics) -> Stop | str | None:
        if point == "after_step":
            assert stats.batch is not None
            ratio: Any = stats.batch.ratio  # a tensor, or an array on the NumPy engine
            deviation: float = abs(ratio - 1).mean().item()
            if deviation > self._current("max_ratio_deviation"):
                return Stop(StopRule.RATIO_DEVIATION, f"mean ratio deviation {deviation:.4g} above max_ratio_deviation")
        return super()._should_stop(point, stats)


class ESPO(RatioDeviationStop, PPO):  # noqa: D101 -- the mixin documents both
    __doc__ = RatioDeviationStop.__doc__
