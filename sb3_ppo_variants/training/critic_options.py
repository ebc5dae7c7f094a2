"""The critic's options: a mixin under the loop that checks them, and keeps the critic's own optimizer."""

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.type_aliases import RolloutBufferSamples, Schedule
from stable_baselines3.common.utils import obs_as_tensor, update_learning_rate

from sb3_ppo_variants.engines.engine import CriticSettings
from sb3_ppo_variants.training.checks import check_choice, check_count, check_number
from sb3_ppo_variants.training.exploration import Exploration
from sb3_ppo_variants.training.schedules import Range, ScheduledOptions
from sb3_ppo_variants.update_parts.minibatch import CriticBatch

_OPTIMIZER = "critic_optimizer"
_NEED_EPOCHS = (
    "critic_batch_size",
    "critic_learning_rate",
    "critic_gae_lambda",
    "critic_max_grad_norm",
    "critic_first",
)


class Truncation(NamedTuple):
    """An episode that a time limit cut off in the rollout.

    :param step: index of its last step in the rollout
    :param env: index of its environment
    :param observation: what it would have gone on from
    """

    step: int
    env: int
    observation: Any


class CriticOptions(ScheduledOptions, Exploration):
    """How the critic is trained: with the actor, as SB3 does, or on its own. Documented in :class:`UpdateLoop`."""

    stop_critic: bool = True
    critic_epochs: int | None = None
    critic_batch_size: int | None = None
    critic_learning_rate: float | Schedule | None = None
    critic_gae_lambda: float | None = None
    critic_max_grad_norm: float | None = None
    critic_first: bool = False
    recompute_advantages: Literal["never", "epoch"] = "never"

    schedulable: ClassVar[Mapping[str, Range]] = {"critic_learning_rate": Range(at_least=0, optional=True)}

    critic_optimizer: th.optim.Optimizer | None = None
    _truncations: tuple[Truncation, ...] = ()

    def _check_options(self) -> None:
        super()._check_options()
        check_choice("stop_critic", self.stop_critic, (True, False))
        check_choice("critic_first", self.critic_first, (True, False))
        check_choice("recompute_advantages", self.recompute_advantages, ("never", "epoch"))
        if self.critic_epochs is None:
            for name in _NEED_EPOCHS:
                if getattr(self, name) not in (None, False):
                    raise ValueError(
                        f"{name}={getattr(self, name)!r} is about a critic that is trained on its own: give "
                        f"critic_epochs, the number of its passes over a rollout, or leave {name} out."
                    )
            return
        check_count("critic_epochs", self.critic_epochs, at_least=1)
        if self.critic_batch_size is not None:
            check_count("critic_batch_size", self.critic_batch_size, at_least=1)
        if self.critic_gae_lambda is not None:
            check_number("critic_gae_lambda", self.critic_gae_lambda, at_least=0, at_most=1)
        if self.critic_max_grad_norm not in (None, math.inf):
            check_number("critic_max_grad_norm", self.critic_max_grad_norm, above=0)

    def _setup_model(self) -> None:
        super()._setup_model()
        self.critic_optimizer = None
        self._prepare_critic()

    def _prepare_critic(self) -> None:
        """Check that the critic can be trained as the options say, and make its optimizer where it has none yet.

        :raises ValueError: if actor and critic share parameters, or the buffer's returns cannot be computed again
        """
        if self.critic_epochs is None:
            self.critic_optimizer = None
        buffer = type(self.rollout_buffer)
        other_gae = self.critic_gae_lambda is not None or self.recompute_advantages != "never"
        if other_gae and buffer.compute_returns_and_advantage is not RolloutBuffer.compute_returns_and_advantage:
            raise ValueError(
                f"{buffer.__name__} computes its returns in its own way, so they cannot be computed again: leave out "
                "critic_gae_lambda and recompute_advantages."
            )
        if not self.stop_critic or self.critic_epochs is not None:
            critic = self._critic_parameters()
            if self.critic_epochs is not None and self.critic_optimizer is None:
                optimizer_class: Any = self.policy.optimizer_class
                self.critic_optimizer = optimizer_class(critic, lr=self.lr_schedule(1), **self.policy.optimizer_kwargs)

    def _critic_parameters(self) -> list[th.nn.Parameter]:
        """Return the parameters that the critic's values depend on, found by differentiating them.

        :raises ValueError: if the actor depends on some of them too
        """
        policy = self.policy
        parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        was_training = policy.training
        policy.set_training_mode(False)  # dropout would draw random numbers
        try:
            # Differentiating an LSTM in evaluation mode is refused by cuDNN
            with th.enable_grad(), th.backends.cudnn.flags(enabled=False):
                observation, _ = policy.obs_to_tensor(_zeros(self.observation_space))
                values = policy.predict_values(observation, **self._no_memory())
                distribution = self._distribution_of(policy, observation)
                log_prob = distribution.log_prob(distribution.mode().detach())
            critic, actor = (
                {
                    id(parameter)
                    for parameter, gradient in zip(
                        parameters, th.autograd.grad(outputs.sum(), parameters, allow_unused=True), strict=True
                    )
                    if gradient is not None
                }
                for outputs in (values, log_prob)
            )
        finally:
            policy.set_training_mode(was_training)
        if critic & actor:
            raise ValueError(
                "Actor and critic share parameters, so the critic cannot be trained apart from the actor: pass "
                "policy_kwargs=dict(share_features_extractor=False), or leave out critic_epochs and stop_critic=False."
            )
        return [parameter for parameter in parameters if id(parameter) in critic]

    def _distribution_of(self, policy: ActorCriticPolicy, observation: Any) -> Any:
        """Return the action distribution for some observations without memory; families have more arguments."""
        return policy.get_distribution(observation)

    def _no_memory(self) -> dict[str, Any]:
        """Return what the policy needs beside one observation at the start of an episode."""
        return {}

    def _before_rollout(self) -> None:
        self._truncations = ()
        super()._before_rollout()

    # One update -----------------------------------------------------------------------------------------------------

    def _critic_settings(self) -> CriticSettings:
        """Return how the critic's passes over this rollout are made; its rate is that of this update."""
        assert self.critic_optimizer is not None
        rate = self._current("critic_learning_rate")
        if rate is None:
            rate = self.policy.optimizer.param_groups[0]["lr"]
        update_learning_rate(self.critic_optimizer, rate)
        return CriticSettings(
            optimizer=self.critic_optimizer,
            batch_size=self.batch_size if self.critic_batch_size is None else self.critic_batch_size,
            max_grad_norm=self.max_grad_norm if self.critic_max_grad_norm is None else self.critic_max_grad_norm,
        )

    def _evaluate_critic(self, rollout_data: RolloutBufferSamples) -> CriticBatch:
        """Evaluate the critic alone on rollout data; families with memory override it to take padding away."""
        return CriticBatch(
            returns=rollout_data.returns,
            old_values=rollout_data.old_values,
            values=self.policy.predict_values(rollout_data.observations).flatten(),
            clip_range_vf=self._current_clip_range_vf(),
        )

    def _current_clip_range_vf(self) -> float | None:
        """Return the value function's clip range of this update."""
        if self.clip_range_vf is None:
            return None
        return self.clip_range_vf(self._current_progress_remaining)  # type: ignore[operator]

    @th.no_grad()
    def _last_values(self) -> np.ndarray:
        """Return the critic's values of the observations after the rollout, shape (environments,)."""
        assert self._last_obs is not None
        return self._values_now(obs_as_tensor(self._last_obs, self.device), self._memory())

    def _memory(self) -> dict[str, Any]:
        """Return what the policy needs beside the observations after the rollout."""
        return {}

    @th.no_grad()
    def _truncated_values(self) -> np.ndarray:
        """Return the critic's values of the observations at which time limits cut episodes off."""
        if not self._truncations:
            return np.empty(0, np.float32)
        single: list[Any] = [self.policy.obs_to_tensor(truncation.observation)[0] for truncation in self._truncations]
        if isinstance(single[0], dict):
            observations: Any = {key: th.cat([observation[key] for observation in single]) for key in single[0]}
        else:
            observations = th.cat(single)
        return self._values_now(observations, {})

    def _values_now(self, observations: Any, memory: dict[str, Any]) -> np.ndarray:
        was_training = self.policy.training
        self.policy.set_training_mode(False)
        try:
            values: np.ndarray = self.policy.predict_values(observations, **memory).flatten().cpu().numpy()
        finally:
            self.policy.set_training_mode(was_training)
        return values

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: np.ndarray | None = None) -> None:
        """Keep SB3's episode statistics, and remember where a time limit ended an episode.

        SB3 calls it at each step, before the step is added to the buffer.
        """
        super()._update_info_buffer(infos, dones)
        if self.recompute_advantages == "never" or dones is None:
            return
        for env in np.flatnonzero(dones):
            terminal = infos[env].get("terminal_observation")
            if terminal is not None and infos[env].get("TimeLimit.truncated", False):
                # The environment may use its array again
                self._truncations += (Truncation(self.rollout_buffer.pos, int(env), copy.deepcopy(terminal)),)

    # Saved and loaded -----------------------------------------------------------------------------------------------

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, tensors = super()._get_torch_save_params()
        return (modules if self.critic_optimizer is None else [*modules, _OPTIMIZER]), tensors

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), _OPTIMIZER, "_truncations"]

    def set_parameters(  # noqa: D102 -- see SB3Seams
        self,
        load_path_or_dict: str | dict[str, Any],
        exact_match: bool = True,
        device: th.device | str = "auto",
    ) -> None:
        parameters = load_path_or_dict
        if not isinstance(parameters, dict):
            _, parameters, _ = load_from_zip_file(parameters, device=device, load_data=False)
        if self.critic_optimizer is None:
            # From a model whose critic was trained on its own: without critic_epochs there is no use for its moments
            parameters = {name: state for name, state in parameters.items() if name != _OPTIMIZER}
        elif exact_match:
            # From a model whose critic was trained with the actor: the moments begin afresh
            parameters = {_OPTIMIZER: self.critic_optimizer.state_dict()} | parameters
        super().set_parameters(parameters, exact_match, device)


def _zeros(space: spaces.Space[Any]) -> Any:
    """Return an observation of zeros as an environment would give it: sampling would draw a random number."""
    if isinstance(space, spaces.Dict):
        return {name: _zeros(part) for name, part in space.spaces.items()}
    return np.zeros(space.shape or (), space.dtype)
