"""Masked and recurrent forms solve sb3-contrib's test environments as well as its own classes do, on three seeds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete, InvalidActionEnvMultiBinary, InvalidActionEnvMultiDiscrete
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, sync_envs_normalization

from sb3_ppo_variants.evaluation import evaluate_policy
from sb3_ppo_variants.registry import get_algorithm

SEEDS = (1, 2, 3)
EPISODES = 20
# Wider than the defaults, so that they get there within the budget of the others
VARIANTS: Mapping[str, dict[str, Any]] = {
    "clip_ppo": {},
    "adaptive_clip_ppo": {},
    "kl_stop_ppo": {"max_kl": 0.03},
    "trust_region_ppo": {"max_kl": 0.03},
}


@dataclass(frozen=True)
class Task:
    """An environment, how to learn in it, and when it counts as solved.

    :param env: makes one copy
    :param family: prefix of the ids that learn in it
    :param theirs: sb3-contrib's class for it
    :param steps: training budget
    :param solved: least mean return of each run: the threshold of sb3-contrib's own tests
    :param maximum: the best possible return
    :param kwargs: arguments of all models
    :param ours: arguments of this package's models
    """

    env: Callable[[], gym.Env[Any, Any]]
    family: str
    theirs: type[OnPolicyAlgorithm]
    steps: int
    solved: float
    maximum: float
    kwargs: Mapping[str, Any]
    ours: Mapping[str, Any]

    def make_env(self, n_envs: int, seed: int, training: bool) -> VecEnv:
        env = make_vec_env(self.env, n_envs=n_envs, seed=seed)
        for index, space in enumerate(env.get_attr("action_space")):
            space.seed(1000 * seed + index)  # the masked environments draw their states from it
        if self.family == "recurrent":
            return VecNormalize(env, training=training, norm_reward=training)
        return env


def without_velocities() -> gym.Env[Any, Any]:
    """CartPole-v1 as one sees it on a single photograph."""
    seen = gym.spaces.Box(-np.inf, np.inf, (2,), dtype=np.float32)
    return gym.wrappers.TransformObservation(gym.make("CartPole-v1"), lambda full: full[[0, 2]], seen)


def masked(env: Callable[..., gym.Env[Any, Any]], **arguments: Any) -> Task:
    kwargs = {"gamma": 0.4, "n_steps": 64, "batch_size": 128, "learning_rate": 3e-3}
    return Task(partial(env, **arguments), "maskable", MaskablePPO, 16_384, 90.0, 100.0, kwargs, {})


TASKS: Mapping[str, Task] = {
    "Discrete": masked(InvalidActionEnvDiscrete, dim=70, n_invalid_actions=55),
    "MultiDiscrete": masked(InvalidActionEnvMultiDiscrete, dims=[8, 8], n_invalid_actions=8),
    "MultiBinary": masked(InvalidActionEnvMultiBinary, dims=6, n_invalid_actions=3),
    "CartPole without velocities": Task(
        without_velocities,
        "recurrent",
        RecurrentPPO,
        steps=102_400,
        solved=450.0,
        maximum=500.0,
        kwargs={
            "n_steps": 32,
            "learning_rate": 2e-3,
            "batch_size": 256,
            "n_epochs": 5,
            "policy_kwargs": {"net_arch": [], "lstm_hidden_size": 32, "ortho_init": False},
        },
        ours={"engine": "auto"},
    ),
}


def score(task: Task, cls: type[OnPolicyAlgorithm], seed: int, **kwargs: Any) -> float:
    """Train, and return the mean return of deterministic episodes in other copies of the environment."""
    policy = "MlpLstmPolicy" if task.family == "recurrent" else "MlpPolicy"
    env = task.make_env(32 if task.family == "recurrent" else 8, seed, training=True)
    model = cls(policy, env, seed=seed, device="cpu", **task.kwargs, **kwargs)
    model.learn(task.steps)
    test_env = task.make_env(EPISODES, 1000 + seed, training=False)
    if isinstance(test_env, VecNormalize):
        sync_envs_normalization(env, test_env)
    returns, _ = evaluate_policy(model, test_env, n_eval_episodes=EPISODES, return_episode_rewards=True)
    assert len(returns) == EPISODES
    return float(np.mean(returns))


@cache
def scores_of_theirs(name: str) -> list[float]:
    return [score(TASKS[name], TASKS[name].theirs, seed) for seed in SEEDS]


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", TASKS)
def test_a_form_solves_the_task_as_well_as_sb3_contribs_class(name: str, variant: str) -> None:
    task = TASKS[name]
    cls = get_algorithm(f"{task.family}_{variant}").cls
    ours, theirs = [score(task, cls, seed, **task.ours, **VARIANTS[variant]) for seed in SEEDS], scores_of_theirs(name)
    print(f"{name}, {cls.__name__}: {ours}; {task.theirs.__name__}: {theirs}")
    assert min(ours) >= task.solved
    # One action in a hundred may still be wrong
    assert np.mean(ours) >= np.mean(theirs) - 0.01 * task.maximum, (ours, theirs)
