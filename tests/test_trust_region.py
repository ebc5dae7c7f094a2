"""TrustRegionPPO's promise: after every update KL(old||new) over the rollout is bounded, or the actor is old."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from helpers import Audit, BatchNormExtractor, DenseExtractor, audited, mostly_slow
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants import TrustRegionPPO
from sb3_ppo_variants.testing import BOX, DISCRETE, IMAGE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, make_env

MAX_KL = 0.01

ENVIRONMENTS: dict[str, Callable[[], VecEnv]] = {
    "CartPole-v1": lambda: make_vec_env("CartPole-v1", seed=0),
    "Pendulum-v1": lambda: make_vec_env("Pendulum-v1", seed=0),
    "MultiDiscrete": lambda: make_env(VECTOR, MULTI_DISCRETE),
    "MultiBinary": lambda: make_env(VECTOR, MULTI_BINARY),
}


def is_critics(name: str) -> bool:
    return name.startswith(("value_net", "mlp_extractor.value_net"))


def actor_is_old(audit: Audit) -> bool:
    return all(is_critics(name) for name in audit.changed)


def fraction_of(audit: Audit) -> float:
    return audit.logs["train/step_fraction"]


def audits_of(env: VecEnv, policy: str = "MlpPolicy", rollouts: int = 4, **kwargs: Any) -> list[Audit]:
    small: dict[str, Any] = {"n_steps": 96, "batch_size": 32, "n_epochs": 3, "max_kl": MAX_KL, "device": "cpu"}
    model = audited(TrustRegionPPO)(policy, env, **(small | kwargs))
    model.learn(rollouts * model.n_steps * model.n_envs)
    assert len(model.audits) == rollouts
    return model.audits


def assert_promise(audits: list[Audit], max_kl: float = MAX_KL) -> None:
    for audit in audits:
        # No slack for the KL; the surrogate's sign is decided in float32
        within = audit.kl <= max_kl and audit.gain >= -1e-6
        assert within or actor_is_old(audit), audit


@pytest.mark.parametrize(
    ("name", "engine", "seed"),
    mostly_slow(
        [(name, engine, seed) for name in ENVIRONMENTS for seed, engine in enumerate(("torch", "numpy"))],
        [("CartPole-v1", "numpy", 1), ("Pendulum-v1", "torch", 0), ("MultiBinary", "numpy", 1)],
    ),
)
def test_the_promise_holds_at_any_learning_rate(name: str, seed: int, engine: str) -> None:
    audits = {
        rate: audits_of(ENVIRONMENTS[name](), learning_rate=rate, seed=seed, engine=engine)
        for rate in (3e-4, 1e-2, 1.0)
    }
    everything = [audit for rate in audits for audit in audits[rate]]
    assert_promise(everything)
    assert any(fraction_of(audit) > 0 and not actor_is_old(audit) for audit in everything), "nothing was ever accepted"
    rolled_back = [audit for audit in audits[1.0] if fraction_of(audit) == 0]
    assert rolled_back, "a learning rate of 1.0 was never rolled back"
    for audit in rolled_back:
        assert actor_is_old(audit)
        assert audit.changed, "the critic keeps its training on a rollback"


@pytest.mark.parametrize(
    ("extractor", "rate"),
    mostly_slow(
        itertools.product([DenseExtractor, BatchNormExtractor], [3e-4, 1e-2, 1.0]),
        [(DenseExtractor, 1e-2), (BatchNormExtractor, 1.0)],
    ),
)
def test_shared_parameters_and_running_statistics_follow_the_actor(extractor: type, rate: float) -> None:
    shared = {"features_extractor_class": extractor}
    audits = audits_of(make_env(VECTOR, BOX), learning_rate=rate, policy_kwargs=shared, seed=0)
    assert_promise(audits)
    if rate == 1.0:
        assert any(fraction_of(audit) == 0 for audit in audits)
    for audit in audits:
        if fraction_of(audit) == 0:
            assert audit.changed, "the critic's own parameters keep their training"
            assert all(is_critics(name) for name in audit.changed), "shared tensors follow the actor"


@pytest.mark.parametrize("rate", mostly_slow([3e-4, 1.0], [1.0]))
def test_the_promise_holds_on_images(rate: float) -> None:
    audits = audits_of(make_env(IMAGE, DISCRETE), "CnnPolicy", 3, learning_rate=rate, n_steps=64, batch_size=32, seed=0)
    assert_promise(audits)
    assert any(fraction_of(audit) == 0 for audit in audits) or rate < 1.0


def test_a_separate_critic_extractor_keeps_its_training() -> None:
    separate = {"features_extractor_class": DenseExtractor, "share_features_extractor": False}
    (audit, *_) = audits_of(make_env(VECTOR, BOX), learning_rate=1.0, policy_kwargs=separate, seed=0)
    assert fraction_of(audit) == 0
    assert any(name.startswith("vf_features_extractor") for name in audit.changed)
    assert not any(name.startswith("pi_features_extractor") for name in audit.changed)


@pytest.mark.parametrize(
    ("name", "engine", "max_kl", "rate"),
    mostly_slow(
        [
            ("CartPole-v1", "torch", 1e-6, 1e-4),
            ("CartPole-v1", "numpy", 1e-6, 1e-4),
            ("Pendulum-v1", "torch", 1e-5, 1e-3),
            ("Pendulum-v1", "numpy", 1e-2, 1e-2),
        ],
        [("CartPole-v1", "numpy", 1e-6, 1e-4)],
    ),
)
def test_the_bound_is_met_when_the_step_lands_right_at_it(name: str, engine: str, max_kl: float, rate: float) -> None:
    tight = {"shrink_factor": 0.99, "max_backtracks": 300, "n_epochs": 1, "n_steps": 64, "batch_size": 16}
    kwargs = {"max_kl": max_kl, "learning_rate": rate, "engine": engine}
    audits = audits_of(ENVIRONMENTS[name](), rollouts=3, seed=0, **tight, **kwargs)
    assert_promise(audits, max_kl)
    assert max(audit.kl for audit in audits) > 0.95 * max_kl, "no step came near the bound"


def test_backtracks_are_counted_and_a_shrunken_step_is_kept() -> None:
    env = make_env(VECTOR, BOX)
    audits = audits_of(env, learning_rate=0.02, shrink_factor=0.5, max_backtracks=20, rollouts=6, seed=0)
    assert_promise(audits)
    shrunken = [audit for audit in audits if 0 < fraction_of(audit) < 1]
    assert shrunken
    for audit in shrunken:
        assert fraction_of(audit) in {0.5**k for k in range(1, 21)}


def test_no_backtracks_means_all_or_nothing() -> None:
    audits = audits_of(make_env(VECTOR, BOX), learning_rate=0.02, max_backtracks=0, seed=0)
    assert_promise(audits)
    assert {fraction_of(audit) for audit in audits} <= {0.0, 1.0}
    assert 0.0 in {fraction_of(audit) for audit in audits}
