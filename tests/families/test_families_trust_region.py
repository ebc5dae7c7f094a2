"""The promise of TrustRegionPPO with masks, with memory, and with both; the KL that every family measures."""

from collections.abc import Callable
from typing import Any

import pytest
import torch as th
from families_audit import Audit, audited
from families_helpers import class_of, make_masked_env, make_model
from helpers import mostly_slow
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.testing import BOX, DISCRETE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, make_env

CASES: dict[str, tuple[str, Callable[[], VecEnv], dict[str, Any]]] = {
    "masked Discrete": ("Maskable", lambda: make_masked_env(VECTOR, DISCRETE, 2), {}),
    "masked MultiDiscrete": ("Maskable", lambda: make_masked_env(VECTOR, MULTI_DISCRETE, 2), {}),
    "masked MultiBinary": ("Maskable", lambda: make_masked_env(VECTOR, MULTI_BINARY, 2), {}),
    "recurrent Discrete": ("Recurrent", lambda: make_env(VECTOR, DISCRETE, n_envs=2), {}),
    "recurrent MultiBinary": ("Recurrent", lambda: make_env(VECTOR, MULTI_BINARY, n_envs=2), {}),
    "recurrent Box": ("Recurrent", lambda: make_env(VECTOR, BOX, n_envs=2), {}),
    "recurrent gSDE": ("Recurrent", lambda: make_env(VECTOR, BOX, n_envs=2), {"use_sde": True}),
    "masked recurrent Discrete": ("MaskableRecurrent", lambda: make_masked_env(VECTOR, DISCRETE, 2), {}),
    "masked recurrent MultiDiscrete": ("MaskableRecurrent", lambda: make_masked_env(VECTOR, MULTI_DISCRETE, 2), {}),
}
# One of each family; the others with the slow tests
_ALWAYS = ("masked MultiDiscrete", "recurrent Box", "masked recurrent Discrete")


def _cases(always: tuple[str, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", mostly_slow(CASES, always))


cases = _cases(_ALWAYS)


def audits_of(name: str, variant: str = "TrustRegionPPO", **arguments: Any) -> list[Audit]:
    family, env, kwargs = CASES[name]
    model = make_model(audited(class_of(family, variant)), env(), **(kwargs | arguments))
    model.learn(3 * model.n_steps * model.n_envs)
    assert len(model.audits) == 3
    return model.audits


def actor_is_old(audit: Audit) -> bool:
    critics = ("value_net", "mlp_extractor.value_net", "lstm_critic")
    return all(name.startswith(critics) for name in audit.changed)


@_cases(("masked MultiDiscrete", "recurrent Box"))
def test_the_measured_kl_is_what_a_walk_through_the_rollout_finds(name: str) -> None:
    for audit in audits_of(name, "ClipPPO", learning_rate=0.02):
        assert audit.kl > 1e-3
        assert audit.logs["train/kl"] == pytest.approx(audit.kl, rel=1e-4)


@_cases(_ALWAYS[-1:])
@given(
    learning_rate=st.sampled_from([1e-4, 1e-3, 1e-2, 0.1, 1.0, 30.0]),
    max_kl=st.sampled_from([1e-6, 1e-3, 0.03]),
    kwargs=st.fixed_dictionaries(
        {
            "n_steps": st.integers(5, 24),
            "batch_size": st.integers(2, 24),
            "n_epochs": st.integers(1, 3),
            "max_backtracks": st.integers(0, 12),
            "seed": st.integers(0, 1000),
        }
    ),
)
@settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.generate])
def test_the_kl_is_never_above_the_bound(name: str, learning_rate: float, max_kl: float, kwargs: Any) -> None:
    for audit in audits_of(name, learning_rate=learning_rate, max_kl=max_kl, **kwargs):
        # No slack for the KL; the surrogate's sign is decided in float32
        assert (audit.kl <= max_kl and audit.gain >= -1e-6) or actor_is_old(audit), audit


@_cases(_ALWAYS[-1:])
def test_steps_are_accepted_shrunken_and_rolled_back(name: str) -> None:
    def fractions(rate: float, backtracks: int) -> list[float]:
        audits = audits_of(name, learning_rate=rate, max_backtracks=backtracks)
        assert all(actor_is_old(audit) == (audit.logs["train/step_fraction"] == 0) for audit in audits)
        assert all(audit.changed for audit in audits), "the critic keeps its training on a rollback"
        return [audit.logs["train/step_fraction"] for audit in audits]

    assert 1.0 in fractions(1e-3, 10)
    assert any(0 < fraction < 1 for fraction in fractions(0.03, 40))
    assert 0.0 in fractions(1.0, 0)


@pytest.mark.parametrize("family", ["Recurrent", "MaskableRecurrent"])
def test_cudnn_is_never_asked_to_differentiate_an_lstm_in_evaluation_mode(family: str) -> None:
    """It refuses to, and a GPU is where it would."""
    env = make_env(VECTOR, DISCRETE) if family == "Recurrent" else make_masked_env(VECTOR, DISCRETE)
    model = make_model(class_of(family, "TrustRegionPPO"), env, learning_rate=1.0, max_backtracks=2)
    differentiated = []

    def note(lstm: th.nn.LSTM, *_: Any) -> None:
        if th.is_grad_enabled() and not lstm.training:
            differentiated.append(th.backends.cudnn.enabled)

    for lstm in (model.policy.lstm_actor, model.policy.lstm_critic):
        lstm.register_forward_hook(note)
    model.learn(32)
    assert model.logger.name_to_value["train/backtracks"] > 0
    assert differentiated
    assert not any(differentiated)
    assert th.backends.cudnn.enabled, "for everything else"
