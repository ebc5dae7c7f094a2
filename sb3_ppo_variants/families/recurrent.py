"""Variants with memory: an LSTM in actor and critic."""

from collections.abc import Generator, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch as th
from sb3_contrib.common.recurrent.buffers import RecurrentRolloutBuffer
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from typing_extensions import Unpack

from sb3_ppo_variants.families.asymmetric import RecurrentAsymmetricMultiInputPolicy
from sb3_ppo_variants.families.family import Family
from sb3_ppo_variants.families.padding import without_padding
from sb3_ppo_variants.families.policies import LstmCnnPolicy, LstmMultiInputPolicy, LstmPolicy
from sb3_ppo_variants.maths import losses
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs
from sb3_ppo_variants.update_parts.minibatch import CriticBatch, MiniBatch

_MEASURE_CHUNK = 1024  # samples per forward pass over the whole rollout, if no sequence is longer


def with_short_names(aliases: Mapping[str, type[BasePolicy]]) -> dict[str, type[BasePolicy]]:
    """Add ``MlpPolicy`` for ``MlpLstmPolicy`` and so on, so that one zoo entry serves a variant and all its forms."""
    return dict(aliases) | {name.replace("Lstm", ""): policy for name, policy in aliases.items()}


class Recurrent(Family):
    """The policy remembers: an LSTM stands before actor and critic, and starts afresh with each episode.

    Stands before sb3-contrib's ``RecurrentPPO``, whose policies, buffers and ``predict(observation, state,
    episode_start)`` stay. Unlike it, ``rollout_buffer_class`` and ``rollout_buffer_kwargs`` are accepted; the class is
    built as sb3-contrib's ``RecurrentRolloutBuffer``.

    A minibatch holds pieces of sequences, each run from the LSTM state that was stored when it was collected. The KL
    over the rollout runs each sequence from its start in the rollout, so what the new parameters make of the memory
    counts in full.

    sb3-contrib takes the LSTM through a minibatch step by step, and so does ``engine="torch"``. Otherwise it is taken
    through whole sequences at once: an update three times as fast, and equal up to float rounding.
    """

    # The short names of all other classes mean the same: there is no policy without memory here
    asymmetric_policy: ClassVar[type[ActorCriticPolicy]] = RecurrentAsymmetricMultiInputPolicy
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = with_short_names(
        {"MlpLstmPolicy": LstmPolicy, "CnnLstmPolicy": LstmCnnPolicy, "MultiInputLstmPolicy": LstmMultiInputPolicy}
    )
    policy: RecurrentActorCriticPolicy
    rollout_buffer: RecurrentRolloutBuffer
    _last_lstm_states: RNNStates | None

    def __init__(self, policy: Any, env: Any, **kwargs: Unpack[PPOKwargs]) -> None:
        buffer_class = kwargs.pop("rollout_buffer_class", None)
        buffer_kwargs = kwargs.pop("rollout_buffer_kwargs", None)
        set_up = kwargs.get("_init_setup_model", True)
        kwargs["_init_setup_model"] = False
        super().__init__(policy, env, **kwargs)
        # RecurrentPPO's constructor has no such arguments
        self.rollout_buffer_class = buffer_class
        self.rollout_buffer_kwargs = buffer_kwargs or {}
        if set_up:
            self._setup_model()

    def _setup_model(self) -> None:
        if self.recompute_advantages != "never":
            raise ValueError(
                f"recompute_advantages={self.recompute_advantages!r} is not possible with memory: the value of an "
                "observation depends on a state that the critic made while it was another. Leave it out."
            )
        super()._setup_model()
        if self.rollout_buffer_class is None and not self.rollout_buffer_kwargs:
            return
        buffer_class: Any = self.rollout_buffer_class or type(self.rollout_buffer)
        self.rollout_buffer = buffer_class(
            self.n_steps,
            self.observation_space,
            self.action_space,
            self.rollout_buffer.hidden_state_shape,
            self.device,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
            n_envs=self.n_envs,
            **self.rollout_buffer_kwargs,
        )

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
        *family_arguments: Any,
    ) -> bool:
        """Collect as sb3-contrib does; squashed actions reach the environment on its own scale."""
        if not self.policy.squash_output:
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps, *family_arguments)
        unscaling = _Unscaling(env, self.policy)
        try:
            return super().collect_rollouts(unscaling, callback, rollout_buffer, n_rollout_steps, *family_arguments)
        finally:
            unscaling.detach()

    def _policy_arguments(self, rollout_data: RolloutBufferSamples) -> dict[str, Any]:
        sequences: Any = rollout_data  # sb3-contrib's samples, which are no subclass of SB3's
        memory = {"lstm_states": sequences.lstm_states, "episode_starts": sequences.episode_starts}
        return super()._policy_arguments(rollout_data) | memory

    def _evaluate(self, rollout_data: RolloutBufferSamples) -> MiniBatch:
        sequences: Any = rollout_data
        # Dropout would draw other numbers
        if self.engine == "auto" and self.policy.lstm_actor.dropout == 0:
            sequences = self._at_once(sequences)
        # As SB3's buffer gives them; sb3-contrib's leaves MultiBinary actions integers, and crashes on them
        sequences = sequences._replace(actions=sequences.actions.float())
        return without_padding(super()._evaluate(sequences), sequences.mask > 1e-8)

    def _evaluate_critic(self, rollout_data: RolloutBufferSamples) -> CriticBatch:
        return self._evaluate(rollout_data)

    def _distribution_of(self, policy: Any, observation: Any) -> Any:
        distribution, _ = policy.get_distribution(observation, **self._no_memory())
        return distribution

    def _no_memory(self) -> dict[str, Any]:
        zeros = th.zeros(self.policy.lstm_hidden_state_shape, device=self.device)
        return {"lstm_states": (zeros, zeros), "episode_starts": th.zeros(1, device=self.device)}

    def _memory(self) -> dict[str, Any]:
        assert self._last_lstm_states is not None
        starts = th.tensor(self._last_episode_starts, dtype=th.float32, device=self.device)
        return {"lstm_states": self._last_lstm_states.vf, "episode_starts": starts}

    def _at_once(self, sequences: Any) -> Any:
        """Return sequences that the LSTM can be taken through in one call."""
        # Of the instance: torch.compile wraps the policy in a class that hands attributes on
        if self.policy._process_sequence is not RecurrentActorCriticPolicy._process_sequence:
            return sequences  # it may understand the start of an episode in another way
        states, starts = forgotten_where_episodes_start(sequences.lstm_states, sequences.episode_starts)
        return sequences._replace(lstm_states=states, episode_starts=starts)

    def _value_loss(self, batch: CriticBatch) -> th.Tensor:
        # SB3's loss of the same value, written as sb3-contrib does: mse_loss rounds its gradient otherwise
        values = losses.clipped_values(batch.values, batch.old_values, batch.clip_range_vf)
        return th.mean((batch.returns - values) ** 2)

    def _rollout_chunks(self) -> Generator[RolloutBufferSamples, None, None]:
        """Yield the rollout in its stored order, cut between sequences only."""
        buffer = self.rollout_buffer
        is_first_step = np.zeros((buffer.buffer_size, buffer.n_envs))
        is_first_step[0] = 1.0
        env_change = buffer.swap_and_flatten(is_first_step)
        starts = np.flatnonzero(np.logical_or(buffer.episode_starts, env_change))
        for begin, end in _chunks(np.append(starts[1:], len(env_change))):
            yield self._at_once(buffer._get_samples(np.arange(begin, end), env_change))


def forgotten_where_episodes_start(states: RNNStates, starts: th.Tensor) -> tuple[RNNStates, th.Tensor]:
    """Reset the memory of sequences that begin with an episode, so that nothing is left to reset on the way.

    sb3-contrib's policies take the LSTM through such sequences in one call, and step by step through all others.

    :param states: of actor and critic before each sequence, shape (layers, sequences, hidden size) each
    :param starts: 1 where an episode starts, shape (sequences * length,)
    :return: what gives the same outputs; the arguments themselves if an episode starts within a sequence
    """
    n_sequences = states.pi[0].shape[1]
    by_sequence = starts.reshape(n_sequences, -1)
    if by_sequence[:, 1:].any():
        return states, starts
    kept = (1.0 - by_sequence[:, 0]).view(1, n_sequences, 1)
    pi, vf = ((kept * hidden, kept * cell) for hidden, cell in states)
    return RNNStates(pi, vf), th.zeros_like(starts)


def _chunks(ends: npt.NDArray[np.int64]) -> Generator[tuple[int, int], None, None]:
    """Yield begin and end of chunks of whole sequences: as many as fit, one at least.

    :param ends: where each sequence ends, ascending
    """
    begin = 0
    while begin < ends[-1]:
        ahead = ends[ends > begin]
        fitting = ahead[ahead <= begin + _MEASURE_CHUNK]
        end = int(fitting[-1] if len(fitting) else ahead[0])
        yield begin, end
        begin = end


class _Unscaling(VecEnvWrapper):
    """Take the policy's last squashed actions to the environment's scale.

    sb3-contrib's loop clips what the policy gave, which is between -1 and 1, to the environment's bounds, and steps
    with that. The clipped actions may have lost what is needed here, so the policy's own are taken.
    """

    def __init__(self, venv: VecEnv, policy: BasePolicy) -> None:
        super().__init__(venv)
        self._policy = policy
        self._hook = policy.register_forward_hook(self._keep)

    def _keep(self, _module: th.nn.Module, _arguments: Any, outputs: tuple[th.Tensor, ...]) -> None:
        self._squashed = outputs[0].cpu().numpy()

    def detach(self) -> None:
        """Leave the policy as it was."""
        self._hook.remove()

    def reset(self) -> VecEnvObs:
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:  # noqa: ARG002 -- see the class
        self.venv.step_async(self._policy.unscale_action(self._squashed))

    def step_wait(self) -> VecEnvStepReturn:
        return self.venv.step_wait()
