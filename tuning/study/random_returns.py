"""Measure what a random policy earns: the zero of the normalised score.

``python -m sb3_ppo_variants.tuning.study.random_returns CartPole-v1`` prints the mean return with its
standard error. The table in scales.py holds what this printed.
"""

import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


def random_returns(env_id: str, *, episodes: int, seed: int = 0) -> np.ndarray:
    """Return of each episode in which every action is drawn uniformly from the action space.

    Where the environment has a method ``action_masks``, from the valid actions.

    :param env_id: a registered environment
    :param episodes: number of episodes, >= 1
    :param seed: of the environment (first reset only) and of the action space
    :return: raw undiscounted returns, shape (episodes,)
    """
    env = gymnasium.make(env_id)
    env.action_space.seed(seed)
    env.reset(seed=seed)
    returns = np.array([_episode(env) for _ in range(episodes)])
    env.close()
    return returns


def _episode(env: gymnasium.Env) -> float:
    env.reset()
    total, done = 0.0, False
    while not done:
        _, reward, terminated, truncated, _ = env.step(_action(env))
        total += float(reward)
        done = terminated or truncated
    return total


def _action(env: gymnasium.Env) -> Any:
    space = env.action_space
    if not env.has_wrapper_attr("action_masks"):
        return space.sample()
    masks = np.asarray(env.get_wrapper_attr("action_masks")()).ravel()
    if isinstance(space, spaces.Discrete):
        return space.start + space.np_random.choice(np.flatnonzero(masks))
    assert isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)), "masks are for discrete actions"
    sizes = space.nvec.ravel() if isinstance(space, spaces.MultiDiscrete) else np.full(np.prod(space.shape), 2)
    valid = (np.flatnonzero(part) for part in np.split(masks, np.cumsum(sizes)[:-1]))
    return np.array([space.np_random.choice(part) for part in valid], dtype=space.dtype).reshape(space.shape)


def main(env_ids: list[str], episodes: int = 1000) -> None:
    """Print one line for each environment."""
    for env_id in env_ids:
        returns = random_returns(env_id, episodes=episodes)
        error = returns.std(ddof=1) / np.sqrt(episodes)
        print(f"{env_id}: {returns.mean():.4g} +- {error:.2g} ({episodes} episodes)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
