"""Which models array engines can run: those whose every part they know by its exact type."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import nn

from sb3_ppo_variants.engines.batched_adam import PLAIN_SETTINGS, is_watched
from sb3_ppo_variants.engines.engine import Trainable
from sb3_ppo_variants.engines.hook_slopes import stands_beside, why_no_slopes
from sb3_ppo_variants.engines.kernels.activations import activation_of
from sb3_ppo_variants.engines.kernels.heads import KNOWN
from sb3_ppo_variants.engines.quick_checks import DISTRIBUTION_METHODS
from sb3_ppo_variants.engines.untouched import is_untouched

# What SB3's rollout and update call of a policy and of its networks; a user may have replaced one on the object
_METHODS = (
    *("forward", "evaluate_actions", "extract_features", "get_distribution", "predict_values"),
    *("_get_action_dist_from_latent", "_predict", "forward_actor", "forward_critic"),
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# Hooks of the loop that engines read off the model's class; a user may have replaced one on the object
_LOOP_HOOKS = ("_surrogate", "_surrogate_slope", "_penalty", "_kl_slope", "_value_loss", "_value_loss_slope")
_TORCH_ONLY = ("_evaluate", "_evaluate_critic", "_losses", "_normalised")


def why_no_arrays(model: Trainable) -> str | None:
    """Return why no array engine can run a model, or None if one can that has kernels for its policy.

    Exact types throughout: a subclass may compute anything.

    :param model: a model that has been set up
    """
    return next(_reasons(model), None)


def why_no_array_policy(policy: ActorCriticPolicy) -> str | None:
    """Return why kernels cannot compute a policy's actions and values, or None if some can.

    :param policy: any policy
    """
    if policy.device.type != "cpu":
        return f"the device is {policy.device}, not the CPU"
    return next(_policy_reasons(policy), None)


def why_no_array_parts(model: OnPolicyAlgorithm) -> str | None:
    """Return why kernels cannot compute or train a model's policy, whatever its algorithm does, or None if some can.

    :param model: a model of any algorithm that has been set up
    """
    return next(_part_reasons(model), None)


def _reasons(model: Trainable) -> Iterator[str]:
    yield from _algorithm_reasons(type(model))
    yield from _replaced("the model", model, (*_LOOP_HOOKS, *_TORCH_ONLY, "_minibatch", "_mean_noise"))
    yield from _part_reasons(model)
    hooks = why_no_slopes(model)
    if hooks is not None:
        yield hooks


def _part_reasons(model: Trainable | OnPolicyAlgorithm) -> Iterator[str]:
    """Look at device, rollout buffer, policy and optimizer."""
    if model.device.type != "cpu":
        yield f"the device is {model.device}, not the CPU"
    if type(model.rollout_buffer) is not RolloutBuffer:
        yield f"the rollout buffer is a {type(model.rollout_buffer).__name__}, not SB3's RolloutBuffer"
    elif not is_untouched(model.rollout_buffer, RolloutBuffer):
        yield "a method of the rollout buffer has been replaced"
    yield from _policy_reasons(model.policy)
    if isinstance(model.policy, ActorCriticPolicy):
        yield from _optimizer_reasons(model.policy)


def _algorithm_reasons(cls: type) -> Iterator[str]:
    if not stands_beside(cls, "_minibatch", "_mean_noise"):
        yield f"{cls.__name__} overrides _minibatch without its array form _mean_noise"
    for method in _TORCH_ONLY:
        if len(_owners(cls, method)) > 1:
            yield f"{cls.__name__} overrides {method}, which only the PyTorch engine calls"


def _owners(cls: type, attribute: str) -> list[type]:
    """Return the classes that define an attribute, the one that rules first, the loop itself last."""
    return [parent for parent in cls.__mro__ if attribute in vars(parent)]


def _policy_reasons(policy: ActorCriticPolicy) -> Iterator[str]:
    if type(policy) is not ActorCriticPolicy:
        yield f"the policy is a {type(policy).__name__}, not SB3's MlpPolicy"
        return
    if type(policy.action_dist) not in KNOWN:
        yield f"the action distribution is a {type(policy.action_dist).__name__}"
    space = policy.observation_space
    if not isinstance(space, spaces.Box) or (policy.normalize_images and is_image_space(space)):
        yield f"observations are {space}, not vectors of numbers"
    for extractor in (policy.features_extractor, policy.pi_features_extractor, policy.vf_features_extractor):
        if type(extractor) is not FlattenExtractor:
            yield f"the features extractor is a {type(extractor).__name__}, not a FlattenExtractor"
    if type(policy.mlp_extractor) is not MlpExtractor:
        yield f"the MLP extractor is a {type(policy.mlp_extractor).__name__}, not SB3's MlpExtractor"
        return
    networks = policy.mlp_extractor
    actor, critic = [*networks.policy_net, policy.action_net], [*networks.value_net, policy.value_net]
    for network in (actor, critic):
        yield from _network_reasons(network)
    yield from _parameter_reasons(policy, [*actor, *critic])
    if any(any(getattr(module, hooks) for hooks in _HOOKS) for module in policy.modules()):
        yield "a module of the policy has hooks"
    yield from _replaced("the policy", policy, _METHODS)
    yield from _replaced("the policy's MLP extractor", policy.mlp_extractor, _METHODS)
    yield from _replaced("the action distribution", policy.action_dist, DISTRIBUTION_METHODS)
    for module in policy.modules():
        yield from _replaced(f"a {type(module).__name__} of the policy", module, ("forward",))


def _replaced(owner: str, instance: Any, methods: Iterable[str]) -> Iterator[str]:
    for name in methods:
        if name in vars(instance):
            yield f"{name} of {owner} has been replaced"


def _network_reasons(network: Sequence[nn.Module]) -> Iterator[str]:
    for index, module in enumerate(network):
        expected_linear = index % 2 == 0
        if expected_linear and (type(module) is not nn.Linear or module.bias is None):
            yield f"the network has a {type(module).__name__} where the engine expects a Linear with bias"
        if not expected_linear and activation_of(module) is None:
            yield f"the engine does not know the activation {type(module).__name__}"


def _parameter_reasons(policy: ActorCriticPolicy, modules: Iterable[nn.Module]) -> Iterator[str]:
    own = [parameter for module in modules for parameter in module.parameters()]
    log_std = getattr(policy, "log_std", None)
    if isinstance(log_std, nn.Parameter):
        own.append(log_std)
    elif log_std is not None:
        yield "log_std of the policy is no parameter"
    names = {id(parameter) for parameter in own}
    if len(names) < len(own):
        yield "layers of the policy share parameters"
    if names != {id(parameter) for parameter in policy.parameters()}:
        yield "the policy has parameters beside those of its networks"
    if any(parameter.is_shared() for parameter in own):  # type: ignore[no-untyped-call]
        yield "the parameters lie in memory that processes share"


def _optimizer_reasons(policy: ActorCriticPolicy) -> Iterator[str]:
    optimizer = policy.optimizer
    parameters = list(policy.parameters())
    if any(not p.requires_grad or p._backward_hooks or p._post_accumulate_grad_hooks for p in parameters):
        yield "a parameter of the policy is frozen or has a gradient hook"
    if len({p.dtype for p in parameters}) > 1 or parameters[0].dtype not in (th.float32, th.float64):
        yield "the parameters are not all float32, or all float64"
    if type(optimizer) is not th.optim.Adam:
        yield f"the optimizer is a {type(optimizer).__name__}, not torch.optim.Adam"
        return
    its_own = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if len(optimizer.param_groups) != 1 or its_own != {id(p) for p in parameters}:
        yield "the optimizer has several parameter groups, or other parameters than the policy"
    if is_watched(optimizer):
        yield "the optimizer's steps are watched: it has hooks, or a scheduler"
    settings = optimizer.param_groups[0]
    changed = [name for name, default in PLAIN_SETTINGS.items() if settings.get(name, default) != default]
    if changed:
        yield f"Adam has {', '.join(changed)} set"
