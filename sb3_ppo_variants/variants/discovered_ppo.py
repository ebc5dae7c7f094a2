"""The drift function found by meta-learning, in the closed form that its authors read off it."""

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
from sb3_ppo_variants.training.update_loop import UpdateLoop
from sb3_ppo_variants.update_parts.array_batch import ArrayBatch
from sb3_ppo_variants.update_parts.minibatch import MiniBatch


class Discovered(UpdateLoop):
    r"""A smooth drift takes the place of the clip: it dampens good actions and pulls back bad ones.

    Objective: :math:`rA - \mathrm{drift}`, with :math:`\alpha` = ``drift_alpha`` and :math:`\beta` = ``drift_beta``:

    .. math::
        A \ge 0:\ \mathrm{relu}\left((r-1)A - \alpha\tanh((r-1)A/\alpha)\right) \qquad
        A < 0:\ \mathrm{relu}\left(A\log r - \beta\tanh(A\log r/\beta)\right)

    In the paper: the drift function of DPO, in two cases by the sign of A; figure 5 plots the slope of the whole
    objective. Its r and A are ``ratio`` and ``advantages``.

    The authors call it DPO; here it is DiscoveredPPO, since DPO has come to mean Direct Preference Optimization. It is
    the closed form read off their learned objective (LPO), whose network is not released; equation and defaults are
    those of the authors' code in purejaxrl, and the paper's. ``clip_range`` only serves ``train/clip_fraction``.

    Known failure mode: the drift is not invariant to the scale of the advantage, so it hardly limits good actions with
    a small one (at r = 1.5 and A = 1 the slope is still 0.94 of its full value). It relies on normalised advantages.

    :param drift_alpha: scale of the drift of good actions, in units of (r - 1) A, > 0; a number or a schedule
    :param drift_beta: scale of the drift of bad actions, in units of A log r, > 0; a number or a schedule
    :raises ValueError: if an own parameter is outside its range, or with ``normalize_advantage=False``

    Source: Lu et al. 2022 (2210.05639), "Discovered Policy Optimisation".
    """

    zoo_config: ClassVar[str] = "discovered_ppo"
    limits_step_by: ClassVar[str] = "discovered drift function"
    own_search_space: ClassVar[SearchSpace] = {
        "drift_alpha": FloatRange(0.5, 8.0, log=True),
        "drift_beta": FloatRange(0.15, 2.4, log=True),
    }
    schedulable: ClassVar[Mapping[str, Range]] = {
        "drift_alpha": Range(above=0),
        "drift_beta": Range(above=0),
    }

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        drift_alpha: float | Schedule = 2.0,
        drift_beta: float | Schedule = 0.6,
        **kwargs: Unpack[PPOKwargs],
    ) -> None:
        self.drift_alpha = drift_alpha
        self.drift_beta = drift_beta
        super().__init__(policy, env, **kwargs)

    def _check_options(self) -> None:
        super()._check_options()
        if not self.normalize_advantage:
            raise ValueError(
                "normalize_advantage=False is not allowed: the drift is made for normalised advantages. "
                "Leave it out, or use ClipPPO."
            )

    def _surrogate(self, batch: MiniBatch) -> th.Tensor:
        return losses.discovered_surrogate(
            batch.log_ratio, batch.ratio, batch.advantages, self._current("drift_alpha"), self._current("drift_beta")
        )

    def _surrogate_slope(self, batch: ArrayBatch) -> FloatArray:
        return losses.discovered_surrogate_slope(
            batch.log_ratio, batch.ratio, batch.advantages, self._current("drift_alpha"), self._current("drift_beta")
        )


class DiscoveredPPO(Discovered, PPO):  # noqa: D101 -- the mixin documents both
    __doc__ = Discovered.__doc__
