"""Every registered variant solves CartPole-v1 and Pendulum-v1 with its registered hyperparameters, on three seeds."""

import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize, sync_envs_normalization

from sb3_ppo_variants.experiment import Experiment, registered_envs
from sb3_ppo_variants.registry import VARIANTS

THRESHOLDS = {"CartPole-v1": 475.0, "Pendulum-v1": -200.0}
EPISODES = 50
RUNS = [
    (algorithm_id, env_id)
    for env_id in THRESHOLDS
    for algorithm_id in VARIANTS
    if env_id in registered_envs(algorithm_id)
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("algorithm_id", "env_id"), RUNS)
def test_it_solves_the_environment(algorithm_id: str, env_id: str, seed: int) -> None:
    experiment = Experiment.from_zoo(algorithm_id, env_id)
    env = experiment.make_env(seed=seed)
    model = experiment.make_model(env, seed=seed, device="cpu", engine="auto")
    model.learn(experiment.n_timesteps)
    test_env = experiment.make_env(seed=1000 + seed, n_envs=1, training=False)
    if isinstance(test_env, VecNormalize):
        sync_envs_normalization(env, test_env)
    returns, _ = evaluate_policy(model, test_env, n_eval_episodes=EPISODES, return_episode_rewards=True)
    assert len(returns) == EPISODES
    assert np.mean(returns) >= THRESHOLDS[env_id], returns
