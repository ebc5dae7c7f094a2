"""Rollout collection of the array engine: SB3's loop with the policy's part in kernels."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.engines.eligibility import why_no_array_policy
from sb3_ppo_variants.engines.engine import Trainable
from sb3_ppo_variants.engines.exploring import exploring
from sb3_ppo_variants.engines.gae import compute_returns_and_advantage
from sb3_ppo_variants.engines.kernels.kernels import Act, Drawn, Kernels
from sb3_ppo_variants.engines.lean_step import LEAN_STEPS, Step, lean_step
from sb3_ppo_variants.engines.rollout_data import rows_of_numbers
from sb3_ppo_variants.engines.untouched import is_untouched
from sb3_ppo_variants.maths.arrays import FloatArray, is_finite
from sb3_ppo_variants.update_parts.errors import NonFiniteUpdateError
from sb3_ppo_variants.update_parts.finite import all_finite, in_the_rollout

# Numbers that are read where they lie; arrays of others go through PyTorch first, which may refuse them
_NUMBERS = (np.dtype(np.float32), np.dtype(np.float64))


def collect_rollouts(  # noqa: C901, PLR0915, PLR0917 -- SB3's loop and signature, kept recognisable
    self: Trainable,
    kernels: Kernels,
    env: VecEnv,
    callback: BaseCallback,
    rollout_buffer: RolloutBuffer,
    n_rollout_steps: int,
) -> bool:
    """Collect one rollout as SB3 does: same actions, rewards, callbacks and their ``locals()``.

    The first parameter is called ``self`` because callbacks read ``locals["self"]``.

    :param self: the model
    :param kernels: its arithmetic
    :param env: the training environment
    :param callback: called at each step and at the beginning and end of the rollout
    :param rollout_buffer: the buffer to fill
    :param n_rollout_steps: number of steps per environment
    :return: False if the callback ended training
    :raises NonFiniteUpdateError: if an observation or the policy's outputs are not finite
    """
    assert self._last_obs is not None, "No previous observation was provided"
    self.policy.set_training_mode(False)
    rollout_buffer.reset()
    callback.on_rollout_start()
    kernels.unbind()
    step = lean_step(env)
    has_readers = not (is_untouched(callback, ConvertCallback) and callback.callback is None)
    is_discrete = isinstance(self.action_space, spaces.Discrete)
    bounds = _bounds(self.action_space, env.num_envs)
    action_shape = (-1, *self.action_space.shape)  # type: ignore[misc]

    n_steps = 0
    act = None if has_readers else _quick_act(self, kernels, step, rollout_buffer, n_rollout_steps)
    if act is not None:
        new_obs, dones = _collect_quickly(self, kernels, act, step, callback, rollout_buffer, bounds, action_shape)
        n_steps = n_rollout_steps
    while n_steps < n_rollout_steps:
        observations = _as_array(self._last_obs, self)
        if has_readers or n_steps == 0:  # without a callback, parameters stay where they are
            is_of_now = _is_of_now(kernels, self)
        flat_actions, value_array, log_prob_array, are_finite = (
            kernels.act(observations, _noise(self, rollout_buffer))
            if is_of_now
            else _act_in_torch(self, observations, rollout_buffer)
        )
        if not are_finite:  # before the environment sees such an action
            raise _non_finite(self)
        actions = clipped_actions = flat_actions.reshape(action_shape)
        if bounds is not None:
            clipped_actions = _clipped(flat_actions, bounds).reshape(action_shape)

        new_obs, rewards, dones, infos = step(clipped_actions)

        self.num_timesteps += env.num_envs
        if has_readers:
            # Callbacks know them as tensors, in SB3's names
            obs_tensor, log_probs = th.from_numpy(observations), th.from_numpy(log_prob_array)
            values = th.from_numpy(value_array[:, None])
            callback.update_locals(locals())
        if not callback.on_step():
            return False
        self._update_info_buffer(infos, dones)
        n_steps += 1

        for idx, done in enumerate(dones):
            if done and _is_cut_off(infos[idx]):
                terminal_obs, terminal_value = _add_terminal_value(self, kernels, rewards, idx, infos[idx])

        starts = self._last_episode_starts
        _add(rollout_buffer, self._last_obs, flat_actions, rewards, starts, value_array, log_prob_array)
        self._last_obs = new_obs
        self._last_episode_starts = dones

    values = _values(self, kernels, _as_tensor(new_obs, self))
    compute_returns_and_advantage(rollout_buffer, values.numpy().ravel(), dones)
    if has_readers:
        if is_discrete:
            actions = actions.reshape(-1, 1)
        callback.update_locals(locals())
    callback.on_rollout_end()
    return True


def _quick_act(
    self: Trainable, kernels: Kernels, step: Step, rollout_buffer: RolloutBuffer, n_rollout_steps: int
) -> Act | None:
    """Return what writes into the buffer's rows, where nothing about a rollout is unusual.

    Nothing but the step then looks at what is in between, whose arrays are known, and nobody keeps the actions.
    """
    last_obs = self._last_obs
    is_usual = (
        isinstance(step, LEAN_STEPS)
        and type(self.action_space) in (spaces.Box, spaces.Discrete)
        and rollout_buffer.buffer_size == n_rollout_steps
        and isinstance(last_obs, np.ndarray)
        and rollout_buffer.n_envs == len(last_obs)
        and last_obs is _as_array(last_obs, self)
        and last_obs.dtype in (np.float32, rollout_buffer.observations.dtype)
        and _is_of_now(kernels, self)
    )
    return kernels.act_within(rollout_buffer) if is_usual else None


def _collect_quickly(  # noqa: PLR0917
    self: Trainable,
    kernels: Kernels,
    act: Act,
    step: Step,
    callback: BaseCallback,
    buffer: RolloutBuffer,
    bounds: tuple[FloatArray, FloatArray] | None,
    action_shape: tuple[int, ...],
) -> tuple[Any, Any]:
    """Fill the buffer as :func:`collect_rollouts` does; return the last observations, and which episodes are over."""
    observations, drawn, rewards_of, starts = buffer.observations, buffer.actions, buffer.rewards, buffer.episode_starts
    noise = self.exploration_noise
    new_obs, dones = self._last_obs, self._last_episode_starts
    for pos in range(buffer.buffer_size):
        observations[pos] = new_obs
        starts[pos] = dones
        if not act(pos, None if noise is None else noise.at(pos)):
            raise _non_finite(self)
        actions = drawn[pos, :, 0] if bounds is None else _clipped(drawn[pos], bounds).reshape(action_shape)
        new_obs, rewards, dones, infos = step(actions)
        self.num_timesteps += buffer.n_envs
        callback.on_step()
        self._update_info_buffer(infos, dones)
        for idx, done in enumerate(dones.tolist()):
            if done and _is_cut_off(infos[idx]):
                _add_terminal_value(self, kernels, rewards, idx, infos[idx])
        rewards_of[pos] = rewards
        buffer.pos = pos + 1
        self._last_obs = new_obs
        self._last_episode_starts = dones
    buffer.full = True
    return new_obs, dones


def _non_finite(self: Trainable) -> NonFiniteUpdateError:
    cause = "log-prob" if all_finite(self._last_obs) else "observation"
    return NonFiniteUpdateError(cause, in_the_rollout(self.num_timesteps))


def _is_cut_off(info: Any) -> bool:
    """Tell whether an episode that is over was cut off; an environment may leave what is said of it out."""
    return info.get("terminal_observation") is not None and info.get("TimeLimit.truncated", False)


def _add_terminal_value(self: Trainable, kernels: Kernels, rewards: Any, idx: int, info: Any) -> tuple[Any, th.Tensor]:
    """Add the value of the observation at which an episode was cut off to its reward, discounted; return both."""
    terminal_obs = self.policy.obs_to_tensor(info["terminal_observation"])[0]
    terminal_value = _values(self, kernels, terminal_obs)[0]
    rewards[idx] += self.gamma * terminal_value
    return terminal_obs, terminal_value


def _as_array(observations: Any, self: Trainable) -> FloatArray:
    """Return the policy's input as the array behind the tensor that SB3 would make of it.

    :param observations: what the environment returned
    :param self: the model
    """
    is_usual = (
        type(observations) is np.ndarray
        and observations.dtype in _NUMBERS
        and observations.shape[1:] == self.policy.observation_space.shape
        and observations.flags.c_contiguous
    )
    return observations if is_usual else _as_tensor(observations, self).numpy()


def _as_tensor(observations: Any, self: Trainable) -> Any:
    """Return the policy's input as SB3 makes it; an unusual one goes through SB3's policy first, for its checks."""
    space = self.policy.observation_space
    if isinstance(observations, np.ndarray) and observations.shape[1:] == space.shape:
        return th.from_numpy(observations)
    tensor: Any = obs_as_tensor(observations, self.device)
    with th.no_grad():
        self.policy.predict_values(tensor)
    return tensor


def _bounds(space: spaces.Space[Any], n_envs: int) -> tuple[FloatArray, FloatArray] | None:
    """Return the least and the largest actions of all environments, shape (B, D); None where actions have no bounds.

    Repeated for each environment: NumPy takes longer where it has to broadcast.
    """
    if not isinstance(space, spaces.Box):
        return None
    low, high = (np.tile(bound.ravel(), (n_envs, 1)) for bound in (space.low, space.high))
    return low, high


def _clipped(actions: FloatArray, bounds: tuple[FloatArray, FloatArray]) -> FloatArray:
    return np.minimum(np.maximum(actions, bounds[0]), bounds[1])


def _noise(self: Trainable, rollout_buffer: RolloutBuffer) -> FloatArray | None:
    return None if self.exploration_noise is None else self.exploration_noise.at(rollout_buffer.pos)


def _act_in_torch(self: Trainable, observations: FloatArray, rollout_buffer: RolloutBuffer) -> Drawn:
    """Draw an action per row as SB3 does, where the kernels do not compute what the policy does."""
    with th.no_grad(), exploring(self, rollout_buffer):
        actions, values, log_probs = (part.numpy() for part in self.policy(th.from_numpy(observations)))
    are_finite = is_finite(log_probs) and is_finite(actions)
    return Drawn(actions.reshape(len(actions), -1), values[:, 0], log_probs, are_finite)


def _values(self: Trainable, kernels: Kernels, observations: Any) -> th.Tensor:
    """Return the critic's values in SB3's form, shape (B, 1)."""
    if not _is_of_now(kernels, self):
        with th.no_grad():
            values: th.Tensor = self.policy.predict_values(observations)
        return values
    return th.from_numpy(kernels.values(rows_of_numbers(observations.numpy(), kernels.dtype))[:, None])


def _is_of_now(kernels: Kernels, self: Trainable) -> bool:
    """Tell whether kernels compute what the policy does: a callback may have moved its parameters, or replaced it.

    Looked at closely as the rollout begins. Of layers, hooks and methods that are exchanged within it, with the
    parameters where they are, only the next rollout takes notice: to look at each in every step takes too long.
    """
    if kernels.is_bound(self.policy):
        return True
    if why_no_array_policy(self.policy) is not None or not kernels.fits(self.policy, self.critic_optimizer):
        return False
    kernels.bind()
    return True


def _add(  # noqa: PLR0917 -- the order of ``buffer.add``
    buffer: RolloutBuffer,
    obs: Any,
    actions: FloatArray,
    rewards: Any,
    episode_starts: Any,
    values: FloatArray,
    log_probs: FloatArray,
) -> None:
    """Do what ``buffer.add`` does, without its copies.

    :param actions: shape (B, D)
    :param values: shape (B,)
    """
    pos = buffer.pos
    actions = actions.reshape(buffer.n_envs, buffer.action_dim)
    buffer.observations[pos] = np.asarray(obs)
    buffer.actions[pos] = actions
    buffer.rewards[pos] = np.asarray(rewards)
    buffer.episode_starts[pos] = np.asarray(episode_starts)
    buffer.values[pos] = values
    buffer.log_probs[pos] = log_probs
    buffer.pos = pos + 1
    if buffer.pos == buffer.buffer_size:
        buffer.full = True
