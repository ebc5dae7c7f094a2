"""Generalised advantage estimation over a filled rollout buffer."""

from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.buffers import RolloutBuffer

from sb3_ppo_variants.maths.arrays import FloatArray


def advantages_of(  # noqa: PLR0917 -- what GAE is a function of
    rewards: FloatArray,
    values: FloatArray,
    episode_starts: FloatArray,
    last_values: FloatArray,
    dones: npt.NDArray[Any],
    gamma: float,
    gae_lambda: float,
) -> FloatArray:
    r"""Return the advantages of a rollout, equal to those of SB3's buffer bit for bit.

    :math:`\delta_t = r_t + \gamma V_{t+1} n_{t+1} - V_t` for all steps at once, then
    :math:`A_t = \delta_t + \gamma \lambda n_{t+1} A_{t+1}` backwards, where n is 0 after an episode's end.

    :param rewards: shape (steps, environments)
    :param values: value of each step's observation, shape (steps, environments)
    :param episode_starts: 1 where a step is the first of an episode, shape (steps, environments)
    :param last_values: value of the observation after the last step, shape (environments,)
    :param dones: whether the last step ended an episode, shape (environments,)
    :param gamma: discount factor
    :param gae_lambda: 0 trusts the values, 1 the rewards
    :return: shape (steps, environments)

    Source: Schulman et al. 2016 (1506.02438), eq. 16.
    """
    continues = np.empty_like(episode_starts)
    np.subtract(1.0, episode_starts[1:], out=continues[:-1])
    continues[-1] = 1.0 - dones.astype(np.float32)
    next_values = np.empty_like(values)
    next_values[:-1] = values[1:]
    next_values[-1] = last_values

    advantages: FloatArray = rewards + gamma * next_values * continues - values
    decay = gamma * gae_lambda * continues
    for step in range(len(advantages) - 2, -1, -1):
        advantages[step] += decay[step] * advantages[step + 1]
    return advantages


def compute_returns_and_advantage(buffer: RolloutBuffer, last_values: FloatArray, dones: FloatArray) -> None:
    """Fill ``buffer.advantages`` and ``buffer.returns``, equal to SB3's own method bit for bit.

    :param buffer: a filled rollout buffer, shape (steps, environments)
    :param last_values: value of the observation after the last step, shape (environments,)
    :param dones: whether the last step ended an episode, shape (environments,)
    """
    buffer.advantages[...] = advantages_of(
        buffer.rewards, buffer.values, buffer.episode_starts, last_values, dones, buffer.gamma, buffer.gae_lambda
    )
    buffer.returns = buffer.advantages + buffer.values
