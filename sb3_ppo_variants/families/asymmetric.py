"""Policies with action masks, memory, or both, whose actor and critic see different parts of Dict observations."""

from typing import Any

from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from sb3_ppo_variants.families.policies import (
    LstmMultiInputPolicy,
    LstmPolicy,
    MaskableRecurrentMultiInputActorCriticPolicy,
)
from sb3_ppo_variants.training.asymmetric import AsymmetricKeys


class RecurrentAsymmetricKeys(AsymmetricKeys, LstmPolicy):
    """:class:`AsymmetricKeys` where an LSTM follows each features extractor; arguments are the same."""

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        **policy_arguments: Any,
    ) -> None:
        super().__init__(observation_space, action_space, lr_schedule, **policy_arguments)
        # sb3-contrib has made them for what the actor sees
        dim, actor = int(self.vf_features_extractor.features_dim), self.lstm_actor
        if self.enable_critic_lstm:
            self.lstm_critic = nn.LSTM(dim, actor.hidden_size, num_layers=actor.num_layers, **self.lstm_kwargs)
        else:
            self.critic = nn.Linear(dim, actor.hidden_size)
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def _build_mlp_extractor(self) -> None:
        RecurrentActorCriticPolicy._build_mlp_extractor(self)  # behind the LSTMs, whose outputs have one size


class MaskableAsymmetricMultiInputPolicy(AsymmetricKeys, MaskableMultiInputActorCriticPolicy):  # type: ignore[misc]
    """sb3-contrib's policy with action masks for Dict observations with :class:`AsymmetricKeys`."""


class RecurrentAsymmetricMultiInputPolicy(RecurrentAsymmetricKeys, LstmMultiInputPolicy):
    """sb3-contrib's policy with memory for Dict observations with :class:`AsymmetricKeys`."""


class MaskableRecurrentAsymmetricMultiInputPolicy(
    RecurrentAsymmetricKeys, MaskableRecurrentMultiInputActorCriticPolicy
):
    """The policy with action masks and memory for Dict observations with :class:`AsymmetricKeys`."""
