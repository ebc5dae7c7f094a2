r"""Divergences between the policy that collected the rollout (old) and the policy being trained (new).

The package measures :math:`KL(\pi_{old} \| \pi_{new})` throughout: states and actions come from the old policy.
"""

import copy
from typing import TypeVar

import torch as th
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.distributions import kl_divergence as sb3_kl_divergence
from torch.distributions import Bernoulli, Categorical, Normal
from torch.distributions import Distribution as TorchDistribution

from sb3_ppo_variants.maths.arrays import FloatArray

TensorOrArray = TypeVar("TensorOrArray", th.Tensor, FloatArray)


def k3(log_ratio: TensorOrArray, ratio: TensorOrArray) -> TensorOrArray:
    """Estimate KL(old||new) per sample as (r - 1) - log r.

    Unbiased under actions of the old policy, and never negative.

    :param log_ratio: log pi_new(a|s) - log pi_old(a|s), shape (batch,)
    :param ratio: exp(log_ratio), shape (batch,)
    :return: estimate per sample in nats, shape (batch,)

    Source: Schulman, "Approximating KL Divergence" (2020), estimator k3.
    """
    return (ratio - 1) - log_ratio


def has_analytic_kl(distribution: Distribution) -> bool:
    """Tell whether :func:`kl_divergence` knows a closed form for this action distribution.

    True for every distribution of SB3 and sb3-contrib; a custom one that PyTorch knows no closed form of
    makes the callers fall back to :func:`k3`.
    """
    try:
        kl_divergence(distribution, distribution)
    except (NotImplementedError, AttributeError, AssertionError):
        return False
    return True


def kl_divergence(old: Distribution, new: Distribution) -> th.Tensor:
    """Return the exact KL(old||new) per state, summed over action dimensions.

    A tanh-squashed Gaussian has the KL of its Gaussian before squashing, since a bijection leaves the KL unchanged;
    so squashed and state-dependent noise need no estimator. Actions that a mask rules out have probability 0 on both
    sides, and add nothing.

    :param old: distributions of the old policy, one per state
    :param new: distributions of the new policy for the same states
    :return: KL in nats, shape (batch,)
    """
    # sb3-contrib's masked MultiCategorical, which SB3's function does not know; without masks nobody imports it
    if hasattr(old, "distributions"):
        assert hasattr(new, "distributions")
        pairs = zip(old.distributions, new.distributions, strict=True)
        return th.stack([th.distributions.kl_divergence(*pair) for pair in pairs], dim=1).sum(dim=1)
    per_dimension = sb3_kl_divergence(old, new)
    return per_dimension.reshape(per_dimension.shape[0], -1).sum(dim=1)


def in_float64(distribution: Distribution) -> Distribution:
    """Return an action distribution in float64, in which a KL near zero keeps its digits.

    :param distribution: any; parts that are not PyTorch's Normal, Categorical or Bernoulli keep their precision
    """
    raised = copy.copy(distribution)
    for name in ("distribution", "distributions"):  # sb3-contrib's masked MultiCategorical has the plural
        inner = getattr(distribution, name, None)
        if isinstance(inner, list):
            setattr(raised, name, [_part_in_float64(part) for part in inner])
        elif inner is not None:
            setattr(raised, name, _part_in_float64(inner))
    return raised


def _part_in_float64(part: TorchDistribution) -> TorchDistribution:
    if isinstance(part, Normal):
        return Normal(part.loc.double(), part.scale.double())
    if isinstance(part, (Categorical, Bernoulli)):
        kind = Categorical if isinstance(part, Categorical) else Bernoulli
        return kind(logits=part.logits.double())
    return part
