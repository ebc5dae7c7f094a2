"""Generalised advantage estimation over a filled rollout buffer."""

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer

from sb3_ppo_variants.maths.arrays import FloatArray


def compute_returns_and_advantage(buffer: RolloutBuffer, last_values: FloatArray, dones: FloatArray) -> None:
    r"""Fill ``buffer.advantages`` and ``buffer.returns``, equal to SB3's own method bit for bit.

    :math:`\delta_t = r_t + \gamma V_{t+1} n_{t+1} - V_t` for all steps at once, then
    :math:`A_t = \delta_t + \gamma \lambda n_{t+1} A_{t+1}` backwards, where n is 0 after an episode's end.

    :param buffer: a filled rollout buffer, shape (steps, environments)
    :param last_values: value of the observation after the last step, shape (environments,)
    :param dones: whether the last step ended an episode, shape (environments,)

    Source: Schulman et al. 2016 (1506.02438), eq. 16.
    """
    continues = np.empty_like(buffer.episode_starts)
    np.subtract(1.0, buffer.episode_starts[1:], out=continues[:-1])
    continues[-1] = 1.0 - dones.astype(np.float32)
    next_values = np.empty_like(buffer.values)
    next_values[:-1] = buffer.values[1:]
    next_values[-1] = last_values

    advantages = buffer.rewards + buffer.gamma * next_values * continues - buffer.values
    decay = buffer.gamma * buffer.gae_lambda * continues
    for step in range(len(advantages) - 2, -1, -1):
        advantages[step] += decay[step] * advantages[step + 1]
    buffer.advantages = advantages
    buffer.returns = advantages + buffer.values
