"""Clipped ratio: SB3's PPO itself, with asymmetric clip, dual clip and the pessimistic value loss as options."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import Schedule
from typing_extensions import Unpack

from sb3_ppo_variants.maths import losses
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.search_space import Choice, FloatRange, SearchSpace
from sb3_ppo_variants.training.checks import check_choice
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs
from sb3_ppo_variants.training.schedules import Range
from sb3_ppo_variants.training.update_loop import UpdateLoop
from sb3_ppo_variants.update_parts.array_batch import ArrayBatch
from sb3_ppo_variants.update_parts.minibatch import CriticBatch, MiniBatch


class Clip(UpdateLoop):
    r"""Nothing differs from PPO by default: with ``engine="torch"`` SB3's parameters, moments and logs, bit for bit.

    Objective: :math:`\min(rA, \mathrm{clamp}(r, 1-\epsilon, 1+\epsilon_{high})A)`, and where :math:`A<0`
    with dual clip no less than :math:`cA`.

    In the papers: eq. 7 of Schulman et al., whose :math:`r_t(\theta)`, :math:`\hat A_t` and :math:`\epsilon` are
    ``ratio``, ``advantages`` and ``clip_range``; eq. 10 of Yu et al. for two bounds, whose
    :math:`\epsilon_{low}` and :math:`\epsilon_{high}` are ``clip_range`` and ``clip_range_high``; eq. 5 of Ye et al.
    for dual clip, whose c is ``dual_clip``.

    The paper has neither normalised advantages nor clipped gradients and values; SB3 has, and we follow SB3, whose
    defaults these are. Its clipped value loss is not that of OpenAI baselines, see ``value_clip``.

    Known failure modes: nothing pulls a ratio back once it is outside, and clipping the ratio does not bound the KL.

    :param clip_range_high: clip range above 1 when it differs from ``clip_range`` below 1, > 0; larger values keep more
        entropy (0.28 beside 0.2 in the source). ``train/clip_fraction`` counts by ``clip_range``, as in SB3; a number
        or a schedule
    :param dual_clip: c > 1, ratio from which a bad action's objective stays flat (3 in the source); None: no bound; a
        number or a schedule
    :param value_clip: with ``clip_range_vf``, "sb3" takes the clipped value alone, "max" the larger of both errors
    :raises ValueError: if an own parameter is outside its range

    Sources: Schulman et al. 2017 (1707.06347), sec. 3. Asymmetric clip: Yu et al. 2025 (2503.14476), sec. 3.1.
    Dual clip: Ye et al. 2020 (1912.09729). Value clip "max": OpenAI baselines' PPO2.
    """

    zoo_config: ClassVar[str] = "clip_ppo"
    limits_step_by: ClassVar[str] = "clipped ratio"
    own_search_space: ClassVar[SearchSpace] = {
        "clip_range": FloatRange(0.1, 0.4),
        "clip_range_high": Choice((None, 0.28, 0.4)),
        "dual_clip": Choice((None, 3.0)),
    }
    schedulable: ClassVar[Mapping[str, Range]] = {
        "clip_range_high": Range(above=0, optional=True),
        "dual_clip": Range(above=1, optional=True),
    }

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        clip_range_high: float | Schedule | None = None,
        dual_clip: float | Schedule | None = None,
        value_clip: Literal["sb3", "max"] = "sb3",
        **kwargs: Unpack[PPOKwargs],
    ) -> None:
        self.clip_range_high = clip_range_high
        self.dual_clip = dual_clip
        self.value_clip = value_clip
        super().__init__(policy, env, **kwargs)

    def _check_options(self) -> None:
        super()._check_options()
        check_choice("value_clip", self.value_clip, ("sb3", "max"))
        if self.value_clip == "max" and self.clip_range_vf is None:
            raise ValueError("value_clip='max' has no effect without clip_range_vf: set clip_range_vf as well.")

    def _surrogate(self, batch: MiniBatch) -> th.Tensor:
        high, dual_clip = self._current("clip_range_high"), self._current("dual_clip")
        high = batch.clip_range if high is None else high
        surrogate = losses.clipped_surrogate(batch.ratio, batch.advantages, batch.clip_range, high)
        if dual_clip is None:
            return surrogate
        return losses.dual_clip(surrogate, batch.advantages, dual_clip)

    def _surrogate_slope(self, batch: ArrayBatch) -> FloatArray:
        high, dual_clip = self._current("clip_range_high"), self._current("dual_clip")
        high = batch.clip_range if high is None else high
        slope = losses.clipped_surrogate_slope(batch.ratio, batch.advantages, batch.clip_range, high)
        if dual_clip is None:
            return slope
        return losses.dual_clip_slope(slope, batch.ratio, batch.advantages, dual_clip)

    def _value_loss(self, batch: CriticBatch) -> th.Tensor:
        if self.value_clip == "sb3" or batch.clip_range_vf is None:
            return super()._value_loss(batch)
        return losses.max_clipped_value_loss(batch.values, batch.old_values, batch.returns, batch.clip_range_vf)

    def _value_loss_slope(
        self, values: FloatArray, old_values: FloatArray, returns: FloatArray, clip_range_vf: float | None
    ) -> FloatArray:
        if self.value_clip == "sb3" or clip_range_vf is None:
            return super()._value_loss_slope(values, old_values, returns, clip_range_vf)
        return losses.max_clipped_value_loss_slope(values, old_values, returns, clip_range_vf)


class ClipPPO(Clip, PPO):  # noqa: D101 -- the mixin documents both
    __doc__ = Clip.__doc__
