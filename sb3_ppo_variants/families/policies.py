"""LSTM policies: sb3-contrib's, which here read MultiDiscrete observations too, and the same with action masks."""

from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch as th
from sb3_contrib.common.maskable.distributions import (
    MaskableDistribution,
    MaybeMasks,
    make_masked_proba_distribution,
)
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import (
    RecurrentActorCriticCnnPolicy,
    RecurrentActorCriticPolicy,
    RecurrentMultiInputActorCriticPolicy,
)
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule


class LstmPolicy(RecurrentActorCriticPolicy):
    """sb3-contrib's LSTM policy; derive your own from it, or from the two below, for MultiDiscrete observations."""

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """Return the features extractor, with the number of features in the type that PyTorch's LSTM asks for."""
        extractor = super().make_features_extractor()
        # SB3 adds up the sizes of a MultiDiscrete space, which are integers of NumPy's
        extractor._features_dim = int(extractor.features_dim)
        return extractor


class LstmCnnPolicy(LstmPolicy, RecurrentActorCriticCnnPolicy):
    """The same for images."""


class LstmMultiInputPolicy(LstmPolicy, RecurrentMultiInputActorCriticPolicy):
    """The same for Dict observations."""


class MaskableRecurrentActorCriticPolicy(LstmPolicy):
    """sb3-contrib's LSTM policy, with a distribution from which masks take invalid actions.

    Each method takes masks in addition, as the last argument; without them all actions are valid. Arguments of the
    constructor: those of sb3-contrib's ``RecurrentActorCriticPolicy``.
    """

    action_dist: MaskableDistribution
    _masks: MaybeMasks = None

    def _build(self, lr_schedule: Schedule) -> None:
        self.action_dist = make_masked_proba_distribution(self.action_space)
        # It needs nothing of its class: SB3's own, which would follow, knows no masked distributions
        MaskableActorCriticPolicy._build(self, lr_schedule)  # type: ignore[arg-type]

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor) -> MaskableDistribution:
        distribution = self.action_dist.proba_distribution(action_logits=self.action_net(latent_pi))
        if self._masks is not None:
            distribution.apply_masking(self._masks)
        return distribution

    @contextmanager
    def _masked_by(self, action_masks: MaybeMasks) -> Generator[None, None, None]:
        """Apply masks to every distribution made in the ``with`` block: sb3-contrib's methods make them half-way.

        A method called without masks by another one keeps that one's.
        """
        outer = self._masks
        self._masks = outer if action_masks is None else action_masks
        try:
            yield
        finally:
            self._masks = outer

    def forward(  # type: ignore[override]
        self,
        obs: th.Tensor,
        lstm_states: RNNStates,
        episode_starts: th.Tensor,
        deterministic: bool = False,
        action_masks: MaybeMasks = None,
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor, RNNStates]:
        """Return valid actions, values, log-probabilities and the next states of the memory."""
        with self._masked_by(action_masks):
            return super().forward(obs, lstm_states, episode_starts, deterministic)

    def evaluate_actions(  # type: ignore[override]
        self,
        obs: th.Tensor,
        actions: th.Tensor,
        lstm_states: RNNStates,
        episode_starts: th.Tensor,
        action_masks: MaybeMasks = None,
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Return values, log-probabilities of the actions and entropies."""
        with self._masked_by(action_masks):
            return super().evaluate_actions(obs, actions, lstm_states, episode_starts)

    def get_distribution(  # type: ignore[override]
        self,
        obs: th.Tensor,
        lstm_states: tuple[th.Tensor, th.Tensor],
        episode_starts: th.Tensor,
        action_masks: MaybeMasks = None,
    ) -> tuple[Distribution, tuple[th.Tensor, ...]]:
        """Return the action distribution and the next states of the actor's memory."""
        with self._masked_by(action_masks):
            return super().get_distribution(obs, lstm_states, episode_starts)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Return actions and the next state of the memory, as arrays."""
        with self._masked_by(action_masks):
            return super().predict(observation, state, episode_start, deterministic)


class MaskableRecurrentActorCriticCnnPolicy(MaskableRecurrentActorCriticPolicy, RecurrentActorCriticCnnPolicy):
    """The same for images."""


class MaskableRecurrentMultiInputActorCriticPolicy(
    MaskableRecurrentActorCriticPolicy, RecurrentMultiInputActorCriticPolicy
):
    """The same for Dict observations."""
