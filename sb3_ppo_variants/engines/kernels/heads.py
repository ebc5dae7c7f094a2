"""Which action distribution of SB3's has which form on arrays."""

from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_ppo_variants.engines.kernels.discrete_heads import BernoulliHead, CategoricalHead, MultiCategoricalHead
from sb3_ppo_variants.engines.kernels.gaussian_head import DiagGaussianHead
from sb3_ppo_variants.engines.kernels.head import Head
from sb3_ppo_variants.engines.kernels.layout import ParameterGroup

KNOWN = (CategoricalDistribution, DiagGaussianDistribution, MultiCategoricalDistribution, BernoulliDistribution)
"""SB3's distributions that have a form on arrays; by exact type, since a subclass may compute anything."""


def head_of(policy: ActorCriticPolicy, group: ParameterGroup) -> Head:
    """Return a policy's action distribution on arrays.

    :param policy: its distribution is one of :data:`KNOWN`
    :param group: the actor's parameters, among which is a Gaussian's log standard deviation
    """
    distribution = policy.action_dist
    if isinstance(distribution, CategoricalDistribution):
        return CategoricalHead(distribution.action_dim)
    if isinstance(distribution, MultiCategoricalDistribution):
        return MultiCategoricalHead(distribution.action_dims)
    if isinstance(distribution, BernoulliDistribution):
        return BernoulliHead()
    log_std = policy.get_parameter("log_std")
    return DiagGaussianHead(group.value(log_std), group.gradient(log_std))
