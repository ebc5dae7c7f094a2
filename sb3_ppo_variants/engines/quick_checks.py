"""SB3's action distributions with PyTorch's checks of their parameters in one."""

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch as th
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from torch.distributions import Bernoulli, Categorical, Normal

# Each class makes PyTorch's distribution as SB3's does, unchecked. If a parameter is bad, SB3's makes it, and PyTorch
# says what is wrong. An overflow of the sum costs the time that the checks take, and nothing else.


class _Categorical(CategoricalDistribution):
    def proba_distribution(self, action_logits: th.Tensor) -> "_Categorical":
        if not _sum_is_finite(action_logits):
            return super().proba_distribution(action_logits)
        self.distribution = Categorical(logits=action_logits, validate_args=False)
        return self


class _MultiCategorical(MultiCategoricalDistribution):
    def proba_distribution(self, action_logits: th.Tensor) -> "_MultiCategorical":
        if not _sum_is_finite(action_logits):
            return super().proba_distribution(action_logits)
        parts = th.split(action_logits, list(self.action_dims), dim=1)
        self.distribution = [Categorical(logits=part, validate_args=False) for part in parts]
        return self


class _Bernoulli(BernoulliDistribution):
    def proba_distribution(self, action_logits: th.Tensor) -> "_Bernoulli":
        if not _sum_is_finite(action_logits):
            return super().proba_distribution(action_logits)
        self.distribution = Bernoulli(logits=action_logits, validate_args=False)
        return self


class _DiagGaussian(DiagGaussianDistribution):
    def proba_distribution(self, mean_actions: th.Tensor, log_std: th.Tensor) -> "_DiagGaussian":
        action_std = th.ones_like(mean_actions) * log_std.exp()
        # Neither a mean nor a deviation that is not a number, nor a deviation of zero, leaves the quotient finite
        if not _sum_is_finite(mean_actions.detach() / action_std.detach()):
            return super().proba_distribution(mean_actions, log_std)
        self.distribution = Normal(mean_actions, action_std, validate_args=False)
        return self


_QUICK: dict[type, Any] = {
    CategoricalDistribution: _Categorical,
    MultiCategoricalDistribution: _MultiCategorical,
    BernoulliDistribution: _Bernoulli,
    DiagGaussianDistribution: _DiagGaussian,
}


@contextmanager
def quick_checks(policy: Any) -> Generator[None, None, None]:
    """Let a policy check the parameters of its action distribution with one sum inside the ``with`` block.

    PyTorch checks them, and each action, one by one, which takes a fifth of the time of a rollout in one environment.
    What is computed, and the error when a parameter is bad, stay the same.

    :param policy: any; one whose ``action_dist`` is not exactly one of SB3's stays as it is
    """
    checked: Any = getattr(policy, "action_dist", None)
    quick_class = _QUICK.get(type(checked))
    if quick_class is None:
        yield
        return
    policy.action_dist = quick = quick_class.__new__(quick_class)
    vars(quick).update(vars(checked))
    try:
        yield
    finally:
        if policy.action_dist is quick:
            vars(checked).update(vars(quick))
            policy.action_dist = checked


def _sum_is_finite(tensor: th.Tensor) -> bool:
    return math.isfinite(tensor.detach().sum().item())
