"""Rollout collection of the array engine: SB3's loop with the policy's part in kernels."""

import math
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.engines.engine import Trainable
from sb3_ppo_variants.engines.gae import compute_returns_and_advantage
from sb3_ppo_variants.engines.kernels.kernels import Kernels
from sb3_ppo_variants.engines.rollout_data import rows_of_numbers
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.update_parts.errors import NonFiniteUpdateError
from sb3_ppo_variants.update_parts.finite import in_the_rollout


def collect_rollouts(  # noqa: PLR0915, PLR0917 -- SB3's loop and signature, kept recognisable
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
    self.policy.set_training_mode(False)
    kernels.bind()
    rollout_buffer.reset()
    callback.on_rollout_start()
    bounds = None
    if isinstance(self.action_space, spaces.Box):
        bounds = (self.action_space.low, self.action_space.high)
    action_shape = (-1, *self.action_space.shape)  # type: ignore[misc]

    n_steps = 0
    observations = _vectors(self._last_obs)
    while n_steps < n_rollout_steps:
        flat_actions, value_array, log_prob_array = kernels.act(rows_of_numbers(observations, kernels.dtype))
        # Callbacks know them as tensors, in SB3's names
        values, log_probs, obs_tensor = map(th.from_numpy, (value_array, log_prob_array, observations))
        # Before the environment sees such an action; an infinite mean leaves the log-probability finite
        if not math.isfinite(log_prob_array.sum() + flat_actions.sum()):
            cause = "log-prob" if np.isfinite(observations).all() else "observation"
            raise NonFiniteUpdateError(cause, in_the_rollout(self.num_timesteps))
        actions = flat_actions.reshape(action_shape)
        clipped_actions = actions if bounds is None else np.clip(actions, *bounds)

        new_obs, rewards, dones, infos = env.step(clipped_actions)

        self.num_timesteps += env.num_envs
        callback.update_locals(locals())
        if not callback.on_step():
            return False
        self._update_info_buffer(infos, dones)

        for idx, done in enumerate(dones.tolist()):
            info = infos[idx]
            if done and info.get("terminal_observation") is not None and info.get("TimeLimit.truncated", False):
                terminal_value = kernels.values(rows_of_numbers(info["terminal_observation"][None], kernels.dtype))[0]
                rewards[idx] += self.gamma * terminal_value

        rollout_buffer.observations[n_steps] = observations
        rollout_buffer.actions[n_steps] = flat_actions
        rollout_buffer.rewards[n_steps] = rewards
        rollout_buffer.episode_starts[n_steps] = self._last_episode_starts
        rollout_buffer.values[n_steps] = value_array[:, 0]
        rollout_buffer.log_probs[n_steps] = log_prob_array
        n_steps += 1
        rollout_buffer.pos = n_steps
        self._last_obs = observations = _vectors(new_obs)
        self._last_episode_starts = dones

    rollout_buffer.full = True
    last_values = kernels.values(rows_of_numbers(observations, kernels.dtype))
    compute_returns_and_advantage(rollout_buffer, last_values, dones)
    callback.update_locals(locals())
    callback.on_rollout_end()
    return True


def _vectors(observations: Any) -> FloatArray:
    """Assert what eligibility has made sure of: one vector of numbers per environment."""
    assert isinstance(observations, np.ndarray)
    return observations
