"""SB3's action distributions with PyTorch's checks of their parameters in one."""

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch as th
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
)
from torch.distributions import Bernoulli, Categorical, Normal

_Unchecked = Callable[..., Any]
"""Makes PyTorch's distribution as one of SB3's does, unchecked, or returns None where a parameter may be bad.

An overflow of the sum that it takes costs the time of PyTorch's checks, and nothing else.
"""


def _categorical(_: Distribution, action_logits: th.Tensor) -> Categorical | None:
    return Categorical(logits=action_logits, validate_args=False) if _sum_is_finite(action_logits) else None


def _multi_categorical(of: MultiCategoricalDistribution, action_logits: th.Tensor) -> list[Categorical] | None:
    if not _sum_is_finite(action_logits):
        return None
    parts = th.split(action_logits, list(of.action_dims), dim=1)
    return [Categorical(logits=part, validate_args=False) for part in parts]


def _bernoulli(_: Distribution, action_logits: th.Tensor) -> Bernoulli | None:
    return Bernoulli(logits=action_logits, validate_args=False) if _sum_is_finite(action_logits) else None


def _diag_gaussian(_: Distribution, mean_actions: th.Tensor, log_std: th.Tensor) -> Normal | None:
    action_std = th.ones_like(mean_actions) * log_std.exp()
    # Neither a mean nor a deviation that is not a number, nor a deviation of zero, leaves the quotient finite
    if not _sum_is_finite(mean_actions.detach() / action_std.detach()):
        return None
    return Normal(mean_actions, action_std, validate_args=False)


def _quick(checked: type[Distribution], unchecked: _Unchecked) -> type[Distribution]:
    """Return one of SB3's classes with a distribution made unchecked; where it may be bad, PyTorch says what is."""

    def proba_distribution(self: Any, *parameters: th.Tensor, **named: th.Tensor) -> Any:
        made = unchecked(self, *parameters, **named)
        if made is None:
            return checked.proba_distribution(self, *parameters, **named)
        self.distribution = made
        return self

    return type(f"Quick{checked.__name__}", (checked,), {"proba_distribution": proba_distribution})


_QUICK: dict[type, Any] = {
    checked: _quick(checked, unchecked)
    for checked, unchecked in (
        (CategoricalDistribution, _categorical),
        (MultiCategoricalDistribution, _multi_categorical),
        (BernoulliDistribution, _bernoulli),
        (DiagGaussianDistribution, _diag_gaussian),
    )
}

DISTRIBUTION_METHODS = (
    *("proba_distribution", "log_prob", "entropy", "sample", "mode"),
    *("get_actions", "actions_from_params", "log_prob_from_params"),
)
"""What SB3 calls of an action distribution."""


def has_quick_form(checked: Any) -> bool:
    """Tell whether a distribution is exactly one of SB3's, with its own methods.

    :param checked: a policy's ``action_dist``
    """
    return type(checked) in _QUICK and vars(checked).keys().isdisjoint(DISTRIBUTION_METHODS)


def quick_distribution(checked: Any) -> Any:
    """Return a copy of one of SB3's distributions that checks its parameters with one sum.

    :param checked: one that :func:`has_quick_form`
    """
    quick_class = _QUICK[type(checked)]
    quick = quick_class.__new__(quick_class)
    vars(quick).update(vars(checked))
    return quick


@contextmanager
def quick_checks(policy: Any) -> Generator[None, None, None]:
    """Let a policy check the parameters of its action distribution with one sum inside the ``with`` block.

    PyTorch checks them, and each action, one by one, which takes a fifth of the time of a rollout in one environment.
    What is computed, and the error when a parameter is bad, stay the same.

    :param policy: any; one whose ``action_dist`` has no quick form stays as it is
    """
    checked: Any = getattr(policy, "action_dist", None)
    if not has_quick_form(checked):
        yield
        return
    policy.action_dist = quick = quick_distribution(checked)
    try:
        yield
    finally:
        if policy.action_dist is quick:
            vars(checked).update(vars(quick))
            policy.action_dist = checked


def _sum_is_finite(tensor: th.Tensor) -> bool:
    return math.isfinite(tensor.detach().sum().item())
