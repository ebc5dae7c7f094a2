"""SB3's PPO and sb3-contrib's TRPO on arrays: the same runs; what a rollout leaves alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import BOX, DICT, DISCRETE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, mostly_slow
from sb3_contrib import TRPO
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ppo_variants.baselines import on_arrays
from sb3_ppo_variants.testing import make_env

BUFFER = ("observations", "actions", "rewards", "episode_starts", "values", "log_probs", "advantages", "returns")


def trained(cls: Any, env: Any, rollouts: int = 2, **arguments: Any) -> Any:
    settings = {"n_steps": 64, "batch_size": 32, "seed": 5, "device": "cpu"} | arguments
    model = cls("MlpPolicy", env, **settings)
    return model.learn(rollouts * 64 * model.n_envs)


def assert_same_run(ours: Any, theirs: Any) -> None:
    for name in BUFFER:
        a, b = (getattr(model.rollout_buffer, name) for model in (ours, theirs))
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=name)
    pairs = zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True)
    assert max(float((a - b).detach().abs().max()) for a, b in pairs) < 1e-4
    assert th.equal(*(model.random_state for model in (ours, theirs)))


@pytest.mark.parametrize(
    ("cls", "actions"),
    mostly_slow(
        [(PPO, BOX), (PPO, MULTI_DISCRETE), (TRPO, MULTI_BINARY), (TRPO, DISCRETE)],
        [(PPO, BOX), (TRPO, DISCRETE)],
    ),
    ids=str,
)
def test_a_run_is_that_of_the_class(cls: Any, actions: Any) -> None:
    models = []
    for kind in (on_arrays(cls), cls):
        model = trained(kind, make_env(VECTOR, actions, n_envs=2))
        model.random_state = th.get_rng_state()
        models.append(model)
    assert_same_run(*models)
    assert models[0].engine_in_use != "torch"
    assert isinstance(models[0], cls)


def test_normalised_observations_and_time_limits_are_those_of_the_class() -> None:
    models = []
    for kind in (on_arrays(TRPO), TRPO):
        env = VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=1), gamma=0.9)
        model = trained(kind, env, 4, gamma=0.9)
        model.random_state = th.get_rng_state()
        models.append(model)
    assert_same_run(*models)
    assert np.allclose(*(model.env.obs_rms.mean for model in models), rtol=1e-4)


def test_a_rollout_leaves_memory_and_optimizer_alone() -> None:
    model = on_arrays(TRPO)("MlpPolicy", make_env(), n_steps=64, batch_size=32, seed=5, device="cpu")
    addresses = [parameter.data_ptr() for parameter in model.policy.parameters()]
    model._setup_learn(64)
    model.collect_rollouts(model.env, _no_callback(model), model.rollout_buffer, 64)
    assert [parameter.data_ptr() for parameter in model.policy.parameters()] == addresses
    assert not model.policy.optimizer.state


def _no_callback(model: Any) -> Any:
    return model._init_callback(None)


def test_parameters_of_each_rollouts_beginning_count() -> None:
    """TRPO moves its actor by giving parameters new memory."""
    model = on_arrays(TRPO)("MlpPolicy", make_env(), n_steps=64, batch_size=32, seed=5, device="cpu")
    model.learn(64)
    for parameter in model.policy.parameters():
        parameter.data = parameter.data * 3 + 0.1
    model.collect_rollouts(model.env, _no_callback(model), model.rollout_buffer, 64)
    observations = th.as_tensor(model.rollout_buffer.observations[:, 0])
    with th.no_grad():
        values = model.policy.predict_values(observations).numpy()
    np.testing.assert_allclose(model.rollout_buffer.values, values, rtol=1e-4, atol=1e-5)


def test_what_kernels_do_not_know_is_left_to_the_class() -> None:
    model = on_arrays(PPO)("MultiInputPolicy", make_env(DICT), n_steps=64, batch_size=32, seed=5)
    assert model.learn(64).engine_in_use == "torch"
    model.predict(DICT.sample())


def test_a_saved_model_is_one_of_the_class(tmp_path: Path) -> None:
    model = trained(on_arrays(PPO), make_env(), 1)
    model.save(tmp_path / "model")
    observation = VECTOR.sample()
    loaded = PPO.load(tmp_path / "model", device="cpu")
    assert loaded.predict(observation, deterministic=True)[0] == model.predict(observation, deterministic=True)[0]
    assert "_kernels" not in vars(loaded)
