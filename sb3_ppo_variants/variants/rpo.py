"""Clipped ratio with a uniformly perturbed mean, which keeps the entropy of Gaussian policies up."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import RolloutBufferSamples, Schedule
from torch.distributions import Normal
from typing_extensions import Unpack

from sb3_ppo_variants.search_space import FloatRange, SearchSpace
from sb3_ppo_variants.training.gaussian import check_gaussian, normal_of
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs
from sb3_ppo_variants.training.schedules import Range
from sb3_ppo_variants.training.update_loop import UpdateLoop
from sb3_ppo_variants.update_parts.minibatch import MiniBatch


class RobustPolicyOptimization(UpdateLoop):
    r"""PPO, but each update sees the mean of the Gaussian shifted at random.

    Objective: PPO's clipped one, with log-probabilities under :math:`N(\mu + z, \sigma)`,
    :math:`z \sim U(-\alpha, \alpha)` for each sample and dimension, drawn anew for each minibatch from PyTorch's
    generator. Old log-probabilities are not perturbed, so ratios differ from 1 from the first step on. Actions are
    collected, and ``train/kl`` is measured, without perturbation; ``train/approx_kl``, ``train/clip_fraction`` and the
    test of ``target_kl`` include it. The entropy of a Gaussian does not depend on its mean.

    In the paper: algorithm 1, the step that perturbs the mean. Its z and :math:`\alpha` are ``noise`` and
    ``rpo_alpha``; the objective is eq. 7 of Schulman et al. 2017 (1707.06347).

    ``rpo_alpha=0`` draws nothing and is SB3's PPO, bit for bit.

    Paper and code (CleanRL's, by the paper's author) agree. alpha is in the units of the action, not of its standard
    deviation. 0.5 is known to fail on Ant and to hurt on Hopper; CleanRL's documentation gives 0.01 for these,
    InvertedDoublePendulum, Reacher and Pusher, and so do the registered hyperparameters.

    :param rpo_alpha: half width of the perturbation, in units of the action, >= 0; a number or a schedule
    :raises ValueError: if ``rpo_alpha`` is outside its range, or the policy's actions are not Gaussian (discrete
        actions, ``squash_output``)

    Source: Rahman and Xue 2022 (2212.07536), "Robust Policy Optimization in Deep Reinforcement Learning".
    """

    zoo_config: ClassVar[str] = "rpo"
    limits_step_by: ClassVar[str] = "clipped ratio with a randomly shifted mean"
    own_search_space: ClassVar[SearchSpace] = {
        "clip_range": FloatRange(0.1, 0.4),
        "rpo_alpha": FloatRange(0.005, 0.5, log=True),
    }
    schedulable: ClassVar[Mapping[str, Range]] = {
        "rpo_alpha": Range(at_least=0),
    }

    def __init__(
        self, policy: Any, env: Any, *, rpo_alpha: float | Schedule = 0.5, **kwargs: Unpack[PPOKwargs]
    ) -> None:
        self.rpo_alpha = rpo_alpha
        super().__init__(policy, env, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        check_gaussian(self.policy.action_dist, "RPO shifts the mean of a Gaussian (else use ClipPPO)")

    def _minibatch(self, rollout_data: RolloutBufferSamples) -> MiniBatch:
        batch = super()._minibatch(rollout_data)
        normal = normal_of(batch.distribution)
        noise = self._mean_noise(tuple(normal.mean.shape))
        if noise is None:
            return batch
        shifted = copy.copy(batch.distribution)
        shifted.distribution = Normal(normal.mean + noise, normal.stddev)
        return replace(batch, log_prob=shifted.log_prob(batch.actions), distribution=shifted)

    def _mean_noise(self, shape: tuple[int, ...]) -> th.Tensor | None:
        alpha = self._current("rpo_alpha")
        return th.empty(shape, device=self.device).uniform_(-alpha, alpha) if alpha else None


class RPO(RobustPolicyOptimization, PPO):  # noqa: D101 -- the mixin documents both
    __doc__ = RobustPolicyOptimization.__doc__
