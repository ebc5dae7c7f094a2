"""The actions of SB3's ``predict`` for a plain MLP policy, in less time.

The networks are called as SB3 calls them, on the parameters of this moment, so their outputs have SB3's bits, and so
have the actions: what is left out are copies, walks through all modules, and the checks of PyTorch's distributions.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import nn

from sb3_ppo_variants.engines.quick_checks import has_quick_form, quick_distribution
from sb3_ppo_variants.maths.arrays import FloatArray, is_finite

# What SB3's predict calls of a policy; a user may have replaced one on the object
_METHODS = frozenset(
    {
        "predict",
        "obs_to_tensor",
        "_predict",
        "get_distribution",
        "extract_features",
        "_get_action_dist_from_latent",
        "unscale_action",
    }
)
_IMAGE_DIMENSIONS = 3
# Layers that compute the same in training and in evaluation
_WITHOUT_MODE = frozenset({nn.Linear, nn.Tanh, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.Sigmoid, nn.GELU})
# Logits that differ by less may be equally probable in float32: SB3 then takes the first, and of coins tails
_TIE = 1e-5
# exp of less is no longer a positive float32
_LEAST_LOG_STD = -80.0


def quick_actions(policy: Any, observation: Any, deterministic: bool) -> npt.NDArray[Any] | None:
    """Return the actions of ``policy.predict``, bit for bit, or None where SB3 itself has to look.

    Looked at anew in each call, since anything may have replaced a part of the policy: its type and those of its
    parts, hooks, methods, device. A sampled action takes from PyTorch's generator what SB3's takes.

    :param policy: any policy
    :param observation: as ``predict`` takes it
    :param deterministic: the likeliest action instead of a drawn one
    :raises ValueError: SB3's, if the policy's outputs are not numbers
    """
    if type(observation) is not np.ndarray or observation.size == 0 or not _is_plain(policy):
        return None
    shape = policy.observation_space.shape
    is_single = observation.shape == shape
    if not is_single and observation.shape[1:] != shape:
        return None
    if policy.training:
        policy.set_training_mode(False)
    with th.no_grad():
        # np.array: PyTorch takes neither negative strides nor, without a warning, memory that must not be written
        rows = th.from_numpy(np.array(observation).reshape(-1, *shape)).float().flatten(1)
        outputs = policy.action_net(policy.mlp_extractor.policy_net(rows))
        actions = _likeliest(policy, outputs.numpy()) if deterministic else None
        if actions is None:
            actions = _distribution(policy, outputs).get_actions(deterministic=deterministic).numpy()
    return _as_sb3_returns_them(actions, policy.action_space, is_single)


def _is_plain(policy: Any) -> bool:
    """Tell whether a policy computes its actions from a flat observation with layers that know no training mode."""
    if type(policy) is not ActorCriticPolicy or not vars(policy).keys().isdisjoint(_METHODS):
        return False
    space, extractor, networks = policy.observation_space, policy.pi_features_extractor, policy.mlp_extractor
    return (
        type(space) is spaces.Box
        and 0 < len(space.shape) != _IMAGE_DIMENSIONS
        and type(extractor) is FlattenExtractor
        and not any(
            module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
            for module in (extractor, extractor.flatten)
        )
        and type(networks) is MlpExtractor
        and "forward_actor" not in vars(networks)
        and type(policy.action_net) is nn.Linear
        and policy.action_net.weight.is_cpu
        and all(type(layer) in _WITHOUT_MODE for layer in networks.policy_net)
        and has_quick_form(policy.action_dist)
        and not policy.squash_output
    )


def _likeliest(policy: Any, outputs: FloatArray) -> npt.NDArray[Any] | None:
    """Return the modes of the action distributions, shape (B, ...); None where rounding or PyTorch's checks decide."""
    if not is_finite(outputs):
        return None
    distribution = policy.action_dist
    if isinstance(distribution, CategoricalDistribution):
        return _argmax(outputs)
    if isinstance(distribution, MultiCategoricalDistribution):
        ends = np.cumsum(distribution.action_dims)[:-1]
        columns = [_argmax(part) for part in np.split(outputs, ends, axis=1)]
        known = [column for column in columns if column is not None]
        return np.stack(known, axis=1) if len(known) == len(columns) else None
    if isinstance(distribution, BernoulliDistribution):
        return None if (np.abs(outputs) < _TIE).any() else (outputs > 0).astype(outputs.dtype)
    return outputs if bool((policy.log_std.numpy(force=True) > _LEAST_LOG_STD).all()) else None


def _argmax(logits: FloatArray) -> npt.NDArray[np.intp] | None:
    best = np.maximum.reduce(logits, axis=1, keepdims=True)
    return logits.argmax(axis=1) if np.count_nonzero(logits >= best - _TIE) == len(logits) else None


def _distribution(policy: Any, outputs: th.Tensor) -> Distribution:
    """Return the distributions that SB3's policy makes of its network's outputs; PyTorch refuses bad ones."""
    quick = quick_distribution(policy.action_dist)
    parameters = (outputs, policy.log_std) if isinstance(quick, DiagGaussianDistribution) else (outputs,)
    made: Distribution = quick.proba_distribution(*parameters)
    return made


def _as_sb3_returns_them(actions: npt.NDArray[Any], space: spaces.Space[Any], is_single: bool) -> npt.NDArray[Any]:
    actions = actions.reshape((-1, *(space.shape or ())))
    if isinstance(space, spaces.Box):
        actions = np.minimum(np.maximum(actions, space.low), space.high)
    return actions.squeeze(axis=0) if is_single else actions
