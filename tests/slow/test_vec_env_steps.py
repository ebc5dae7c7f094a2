"""GymVectorEnv against DummyVecEnv over 10,000 steps of five environments, in each manner of resetting."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from helpers import differing, tensors_of
from stable_baselines3.common.env_util import make_vec_env
from vector_envs import assert_same_steps

from sb3_ppo_variants import ClipPPO
from sb3_ppo_variants.vec_env import GymVectorEnv

pytestmark = pytest.mark.slow
ENVIRONMENTS = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "LunarLander-v3", "Hopper-v5"]
STEPS = 10_000
N_ENVS = 4


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
@pytest.mark.parametrize("mode", AutoresetMode)
def test_ten_thousand_steps_are_those_of_dummy_vec_env(env_id: str, mode: AutoresetMode) -> None:
    make = partial(gym.make, env_id)
    ours = GymVectorEnv(SyncVectorEnv([make] * N_ENVS, autoreset_mode=mode))
    ours.seed(3)
    assert assert_same_steps(ours, make_vec_env(env_id, N_ENVS, seed=3), STEPS // N_ENVS)


def test_ten_thousand_steps_of_other_processes_are_those_of_dummy_vec_env() -> None:
    ours = GymVectorEnv(AsyncVectorEnv([partial(gym.make, "LunarLander-v3")] * N_ENVS))
    ours.seed(3)
    assert assert_same_steps(ours, make_vec_env("LunarLander-v3", N_ENVS, seed=3), STEPS // N_ENVS)


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_a_model_learns_the_same_bits_from_ten_thousand_steps(env_id: str) -> None:
    arguments: dict[str, Any] = {"n_steps": 500, "batch_size": 500, "n_epochs": 2, "seed": 3, "device": "cpu"}
    models = [
        ClipPPO("MlpPolicy", env, **arguments).learn(STEPS)
        for env in (gym.make_vec(env_id, N_ENVS, "sync"), make_vec_env(env_id, N_ENVS))
    ]
    assert differing(tensors_of(models[0]), tensors_of(models[1])) == []
    # The last rollout, with the values of episodes that a time limit cut
    np.testing.assert_array_equal(models[0].rollout_buffer.rewards, models[1].rollout_buffer.rewards)
