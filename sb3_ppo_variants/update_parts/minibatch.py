"""What the hooks of a variant see: one minibatch under the current policy, free of masks, padding and buffers."""

from dataclasses import dataclass
from functools import cached_property

import torch as th
from stable_baselines3.common.distributions import Distribution

from sb3_ppo_variants.maths import divergences


@dataclass(frozen=True, eq=False, kw_only=True)
class CriticBatch:
    """What the critic's loss reads of one minibatch. All tensors have shape (batch,).

    :param returns: TD(lambda) targets of the critic
    :param old_values: the critic's predictions when the actions were taken
    :param values: the critic's predictions now (with gradient)
    :param clip_range_vf: clip range of the value function in this update, or None
    """

    returns: th.Tensor
    old_values: th.Tensor
    values: th.Tensor
    clip_range_vf: float | None


@dataclass(frozen=True, eq=False, kw_only=True)
class MiniBatch(CriticBatch):
    """One minibatch, evaluated by the policy being trained. All tensors have shape (batch,) but the actions.

    :param actions: actions taken, shape (batch,) for Discrete spaces, else (batch, action dimensions)
    :param advantages: advantages, normalised over the minibatch if the algorithm does so
    :param returns: TD(lambda) targets of the critic
    :param old_values: the critic's predictions when the actions were taken
    :param old_log_prob: log-probability of the actions under the policy that took them
    :param values: the critic's predictions now (with gradient)
    :param log_prob: log-probability of the actions now (with gradient)
    :param entropy: entropy of the action distribution per state (with gradient); None without a closed form
    :param distribution: action distribution now, one per state
    :param clip_range: clip range of this update
    :param clip_range_vf: clip range of the value function in this update, or None
    :param old_distribution: action distribution of the policy that took the actions, without gradient; only for
        variants that set ``needs_old_distribution``
    """

    actions: th.Tensor
    advantages: th.Tensor
    old_log_prob: th.Tensor
    log_prob: th.Tensor
    entropy: th.Tensor | None
    distribution: Distribution
    clip_range: float
    old_distribution: Distribution | None = None

    @cached_property
    def log_ratio(self) -> th.Tensor:
        """Log of the probability ratio new/old of each action."""
        return self.log_prob - self.old_log_prob

    @cached_property
    def ratio(self) -> th.Tensor:
        """Probability ratio new/old of each action."""
        return th.exp(self.log_ratio)

    @cached_property
    def kl(self) -> th.Tensor:
        """KL(old||new) per state (with gradient): exact, or the k3 estimate where no closed form exists."""
        if self.old_distribution is None:
            raise ValueError("This minibatch has no old distribution: set needs_old_distribution on the variant.")
        if divergences.has_analytic_kl(self.old_distribution):
            return divergences.kl_divergence(self.old_distribution, self.distribution)
        return divergences.k3(self.log_ratio, self.ratio)
