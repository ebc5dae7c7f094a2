"""Returns learnt on the NumPy engine come from the distribution of SB3's: ten seeds each, two-sample tests."""

from typing import Any

import numpy as np
import pytest
from scipy import stats
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import ClipPPO

SEEDS = 10
SETTINGS: dict[str, dict[str, Any]] = {
    "CartPole-v1": {"total_timesteps": 8192},
    "Pendulum-v1": {"total_timesteps": 32_768, "gamma": 0.9, "learning_rate": 1e-3},
}


def returns_of(cls: type[PPO], env_id: str, seeds: range, **own: Any) -> list[float]:
    """Mean return of the last 20 training episodes, while it still rises: one number for each seed."""
    arguments = SETTINGS[env_id] | own
    total_timesteps = arguments.pop("total_timesteps")
    returns = []
    for seed in seeds:
        env = make_vec_env(env_id, 4, seed=seed)
        model = cls("MlpPolicy", env, n_steps=512, seed=seed, device="cpu", **arguments)
        model.learn(total_timesteps)
        assert model.ep_info_buffer is not None
        returns.append(float(np.mean([episode["r"] for episode in list(model.ep_info_buffer)[-20:]])))
    return returns


@pytest.mark.slow
@pytest.mark.parametrize("env_id", SETTINGS)
def test_returns_are_distributed_as_those_of_sb3(env_id: str) -> None:
    """On seeds of their own, so that the samples are independent: runs of the same seed are the same run for long."""
    sb3 = returns_of(PPO, env_id, range(SEEDS))
    ours = returns_of(ClipPPO, env_id, range(100, 100 + SEEDS), engine="numpy")
    assert stats.mannwhitneyu(sb3, ours).pvalue > 0.01, (sb3, ours)
    assert stats.ks_2samp(sb3, ours).pvalue > 0.01, (sb3, ours)


@pytest.mark.slow
def test_ten_seeds_are_enough_to_notice_a_wrong_step() -> None:
    """The same test tells a run with a third of the learning rate from SB3's defaults."""
    sb3 = returns_of(PPO, "CartPole-v1", range(SEEDS))
    wrong = returns_of(ClipPPO, "CartPole-v1", range(100, 100 + SEEDS), engine="numpy", learning_rate=1e-4)
    assert stats.mannwhitneyu(sb3, wrong).pvalue < 0.01, (sb3, wrong)
