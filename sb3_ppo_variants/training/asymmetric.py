"""Policies whose actor and critic see different parts of Dict observations."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from stable_baselines3.common.type_aliases import Schedule

if TYPE_CHECKING:  # the mixin is type-checked as one of the policies that it stands before
    _Base = ActorCriticPolicy
else:
    _Base = object

_KEYS = ("actor_keys", "critic_keys")


class AsymmetricKeys(_Base):
    """Stands before a policy of SB3 or sb3-contrib for Dict observations: its actor and critic see some keys each.

    A privileged critic: ``policy_kwargs=dict(actor_keys=["camera"])`` keeps from the actor what only a simulator
    knows, and the critic sees everything. ``predict`` needs the actor's keys alone. Actor and critic have a features
    extractor each, built for a Dict space of their keys and given nothing else, so one of a user's own works too.

    With ``VecNormalize``, set its ``norm_obs_keys`` to the actor's keys to normalise observations that have no others.

    :param observation_space: a Dict space
    :param action_space: as the policy's that follows
    :param lr_schedule: as the policy's that follows
    :param actor_keys: what the actor sees, at least one key; None: all
    :param critic_keys: what the critic sees, at least one key; None: all
    :param share_features_extractor: whether actor and critic have one, for which both must have the same keys
    :param policy_arguments: those of the policy that follows
    :raises ValueError: if there is no such key, or the extractor or the LSTM is to be shared between different keys

    Source: Pinto et al. 2018 (1710.06542), "Asymmetric Actor Critic for Image-Based Robot Learning".
    """

    observation_space: spaces.Dict

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        actor_keys: Sequence[str] | None = None,
        critic_keys: Sequence[str] | None = None,
        share_features_extractor: bool = False,
        **policy_arguments: Any,
    ) -> None:
        self.actor_keys = _checked("actor_keys", actor_keys, observation_space)
        self.critic_keys = _checked("critic_keys", critic_keys, observation_space)
        if policy_arguments.get("shared_lstm"):
            raise ValueError("actor_keys and critic_keys need an LSTM each: leave shared_lstm out.")
        if share_features_extractor and self.actor_keys != self.critic_keys:
            raise ValueError(
                f"actor_keys={self.actor_keys} and critic_keys={self.critic_keys} differ, so actor and critic cannot "
                "share a features extractor: leave share_features_extractor out."
            )
        policy_arguments["share_features_extractor"] = share_features_extractor
        super().__init__(observation_space, action_space, lr_schedule, **policy_arguments)

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """Return the actor's features extractor, which is asked for first, and then the critic's."""
        whose, keys = ("critic", self.critic_keys) if self.features_extractor else ("actor", self.actor_keys)
        space = spaces.Dict({key: self.observation_space[key] for key in keys})
        extractor: BaseFeaturesExtractor = self.features_extractor_class(space, **self.features_extractor_kwargs)
        extractor.register_forward_pre_hook(partial(_only, whose, keys))
        return extractor

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()
        dim = self.vf_features_extractor.features_dim
        critic = MlpExtractor(dim, net_arch=self.net_arch, activation_fn=self.activation_fn, device=self.device)
        self.mlp_extractor.value_net, self.mlp_extractor.latent_dim_vf = critic.value_net, critic.latent_dim_vf

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {"actor_keys": self.actor_keys, "critic_keys": self.critic_keys}
        return super()._get_constructor_parameters() | own | {"share_features_extractor": self.share_features_extractor}


class AsymmetricMultiInputPolicy(AsymmetricKeys, MultiInputActorCriticPolicy):
    """SB3's policy for Dict observations with :class:`AsymmetricKeys`."""


def policy_with_keys(
    policy_class: type[BasePolicy], policy_kwargs: Mapping[str, Any], asymmetric: type[BasePolicy]
) -> type[BasePolicy]:
    """Return the policy class that understands the arguments: another one where they name keys.

    :param policy_class: what the user asks for
    :param policy_kwargs: its arguments
    :param asymmetric: an :class:`AsymmetricKeys` before the policy for Dict observations
    :raises ValueError: if keys are named for a policy that has none
    """
    named = [name for name in _KEYS if name in policy_kwargs]
    if not named or issubclass(policy_class, AsymmetricKeys):
        return policy_class
    known = asymmetric.__bases__[-1]
    if policy_class is not known:
        raise ValueError(
            f"{' and '.join(named)} in policy_kwargs choose among the keys of Dict observations, and "
            f"{policy_class.__name__} is no policy for them: use 'MultiInputPolicy', or a subclass of "
            f"{asymmetric.__name__}."
        )
    return asymmetric


def _checked(name: str, keys: Sequence[str] | None, space: spaces.Space[Any]) -> tuple[str, ...]:
    """Return keys in the order of the space, all of them for None."""
    if not isinstance(space, spaces.Dict):
        raise ValueError(f"{name} choose among the keys of Dict observations, and the observations are {space}.")
    if keys is None:
        return tuple(space.spaces)
    if isinstance(keys, str) or not isinstance(keys, Sequence) or not keys:
        raise ValueError(f"{name}={keys!r} is not allowed: give a list of at least one key of {list(space.spaces)}.")
    for key in keys:
        if key not in space.spaces:
            near = get_close_matches(str(key), space.spaces, n=3)
            hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
            raise ValueError(f"{name} has no key {key!r} to choose: {hint}The keys are {list(space.spaces)}.")
    return tuple(key for key in space.spaces if key in keys)


def _only(
    whose: str, keys: tuple[str, ...], _extractor: th.nn.Module, arguments: tuple[dict[str, th.Tensor]]
) -> tuple[dict[str, th.Tensor]]:
    """Return the part of an observation that a features extractor is for."""
    (observation,) = arguments
    missing = [key for key in keys if key not in observation]
    if missing:
        raise ValueError(f"The observation has the keys {list(observation)}, and the {whose} sees {missing} too.")
    return ({key: observation[key] for key in keys},)
