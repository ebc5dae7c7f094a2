"""Quadratic penalty on the probability ratio in place of the clip."""

from typing import ClassVar

import torch as th
from stable_baselines3 import PPO

from sb3_ppo_variants.maths import losses
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.search_space import FloatRange, SearchSpace
from sb3_ppo_variants.training.update_loop import UpdateLoop
from sb3_ppo_variants.update_parts.array_batch import ArrayBatch
from sb3_ppo_variants.update_parts.minibatch import MiniBatch

# Linear schedules end at 0, or just below it, where the penalty is 0/0, or a reward
_SMALLEST_EPSILON = 1e-3


class SimplePolicyOptimization(UpdateLoop):
    r"""A quadratic penalty pulls the ratio toward the edge of the clip range, where PPO's gradient is zero beyond it.

    Objective: :math:`rA - \frac{|A|}{2\epsilon}(r-1)^2`, largest at :math:`r = 1 + \epsilon\,\mathrm{sign}(A)`, with
    :math:`\epsilon` = ``clip_range`` (0.2 in the source) and :math:`|A|` after normalisation, as in the authors' code.
    A schedule works; below 0.001 :math:`\epsilon` is held there.

    In the paper (ICML 2025, version 9 on arXiv): eq. 16 and line 14 of algorithm 1; theorem 5.2 says where the maximum
    lies. Its :math:`r_t(\theta)`, :math:`\hat A_t` and :math:`\epsilon` are ``ratio``, ``advantages`` and
    ``clip_range``.

    This is the method of the ICML 2025 paper and of its code. Versions 3 to 6 on arXiv have another one under the same
    name, which clips the KL; sequential Monte Carlo methods are called SPO as well. The authors' runs also clip the
    value loss (``clip_range_vf``) and let the learning rate fall to 0; here both stay SB3's.

    Known failure mode: the slope has no bound on either side (14 times PPO's at r = 4), so a learning rate that is too
    large for :math:`\epsilon` makes the update oscillate.

    Source: Xie et al. 2025 (2401.16025).
    """

    zoo_config: ClassVar[str] = "spo"
    limits_step_by: ClassVar[str] = "quadratic penalty on the ratio"
    own_search_space: ClassVar[SearchSpace] = {"clip_range": FloatRange(0.05, 0.5, log=True)}

    def _surrogate(self, batch: MiniBatch) -> th.Tensor:
        epsilon = max(batch.clip_range, _SMALLEST_EPSILON)
        return losses.simple_policy_surrogate(batch.ratio, batch.advantages, epsilon)

    def _surrogate_slope(self, batch: ArrayBatch) -> FloatArray:
        epsilon = max(batch.clip_range, _SMALLEST_EPSILON)
        return losses.simple_policy_surrogate_slope(batch.ratio, batch.advantages, epsilon)


class SPO(SimplePolicyOptimization, PPO):  # noqa: D101 -- the mixin documents both
    __doc__ = SimplePolicyOptimization.__doc__
