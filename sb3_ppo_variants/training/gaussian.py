"""For variants that work with the mean and standard deviation of the actions."""

from stable_baselines3.common.distributions import (
    DiagGaussianDistribution,
    Distribution,
    SquashedDiagGaussianDistribution,
    StateDependentNoiseDistribution,
)
from torch.distributions import Normal


def check_gaussian(distribution: Distribution, needed_by: str) -> None:
    """Refuse an action distribution that is not a diagonal Gaussian; with gSDE it is one, given the state.

    :param distribution: action distribution of a policy
    :param needed_by: what needs a Gaussian, and the alternative, in words
    :raises ValueError: naming the distribution
    """
    if isinstance(distribution, StateDependentNoiseDistribution):
        is_squashed = distribution.bijector is not None
    else:
        is_squashed = isinstance(distribution, SquashedDiagGaussianDistribution)
    if is_squashed:
        raise ValueError(f"{needed_by}: leave out squash_output in policy_kwargs, which squashes the Gaussian.")
    if not isinstance(distribution, (DiagGaussianDistribution, StateDependentNoiseDistribution)):
        raise ValueError(f"{needed_by}: this policy's actions have a {type(distribution).__name__}.")


def normal_of(distribution: Distribution) -> Normal:
    """Return PyTorch's distribution of a policy that has passed :func:`check_gaussian`."""
    normal = distribution.distribution
    assert isinstance(normal, Normal)
    return normal
