"""At neutral settings the families are sb3-contrib's classes bit for bit: parameters, moments, logs, random draws."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
import torch as th
from families_helpers import LSTM, class_of, make_masked_env
from helpers import DenseExtractor, Run, Setting, assert_same_run, mostly_slow, tensors_of, train
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_ppo_variants import MaskableClipPPO, MaskableRecurrentClipPPO, RecurrentClipPPO
from sb3_ppo_variants.testing import (
    BOX,
    DICT,
    DISCRETE,
    IMAGE,
    MULTI_BINARY,
    MULTI_DISCRETE,
    VECTOR,
    MaskedSpaceEnv,
    make_env,
)

BASES: dict[str, type] = {"Maskable": MaskablePPO, "Recurrent": RecurrentPPO}

# 1 to 3 minibatches an epoch, the last one shorter; two rollouts
SMALL: dict[str, Any] = {"n_steps": 28, "batch_size": 24, "n_epochs": 2, "learning_rate": 3e-3}
SCHEDULES = {"learning_rate": LinearSchedule(3e-3, 1e-3, 1.0), "clip_range": LinearSchedule(0.3, 0.1, 1.0)}
WEIGHTS = {"vf_coef": 0.37, "ent_coef": 0.013, "max_grad_norm": 0.3}
STOP = {"target_kl": 1e-4, "n_epochs": 4}
DENSE = {"features_extractor_class": DenseExtractor}


def setting(family: str, observations: Any, actions: Any, n_envs: int = 1, **kwargs: Any) -> Setting:
    make = make_env if family == "Recurrent" else make_masked_env
    policy = "MultiInput" if observations == DICT else "Cnn" if observations == IMAGE else "Mlp"
    if family == "Recurrent":
        kwargs["policy_kwargs"] = LSTM["policy_kwargs"] | kwargs.get("policy_kwargs", {})
    return Setting(
        lambda: make(observations, actions, n_envs=n_envs),
        SMALL | kwargs,
        f"{policy}{'Lstm' if family == 'Recurrent' else ''}Policy",
        rollouts=2,
    )


def _normalised(make: Callable[[], VecEnv]) -> Callable[[], VecEnv]:
    return lambda: VecNormalize(make())


SETTINGS: dict[tuple[str, str], Setting] = {
    ("Maskable", "discrete, stop"): setting("Maskable", VECTOR, DISCRETE, 2, **STOP),
    ("Maskable", "multi-discrete, weights"): setting("Maskable", VECTOR, MULTI_DISCRETE, **WEIGHTS),
    ("Maskable", "multi-binary, value clip"): setting("Maskable", VECTOR, MULTI_BINARY, clip_range_vf=0.1, vf_coef=0.3),
    ("Maskable", "dict, schedules"): setting("Maskable", DICT, DISCRETE, 2, **SCHEDULES),
    ("Maskable", "image"): setting("Maskable", IMAGE, DISCRETE, n_epochs=1),
    ("Maskable", "raw advantages, shared extractor"): setting(
        "Maskable", VECTOR, DISCRETE, normalize_advantage=False, policy_kwargs=DENSE
    ),
    ("Recurrent", "discrete, stop"): setting("Recurrent", VECTOR, DISCRETE, 2, **STOP),
    ("Recurrent", "multi-discrete, weights"): setting("Recurrent", VECTOR, MULTI_DISCRETE, **WEIGHTS),
    ("Recurrent", "box, value clip"): setting("Recurrent", VECTOR, BOX, clip_range_vf=0.1, vf_coef=0.3),
    ("Recurrent", "dict, schedules"): setting("Recurrent", DICT, DISCRETE, 2, **SCHEDULES),
    ("Recurrent", "state-dependent noise, entropy"): setting(
        "Recurrent", VECTOR, BOX, 2, use_sde=True, sde_sample_freq=4, **WEIGHTS
    ),
    ("Recurrent", "shared LSTM, two layers, raw advantages"): setting(
        "Recurrent",
        VECTOR,
        DISCRETE,
        normalize_advantage=False,
        policy_kwargs={"shared_lstm": True, "enable_critic_lstm": False, "n_lstm_layers": 2} | DENSE,
    ),
    ("Recurrent", "whole rollout, no LSTM for the critic"): setting(
        "Recurrent", VECTOR, BOX, 2, batch_size=None, policy_kwargs={"enable_critic_lstm": False}
    ),
}
SAMPLE = [("Maskable", "discrete, stop"), ("Recurrent", "discrete, stop")]


@cache
def theirs(family: str, name: str) -> Run:
    return train(BASES[family], SETTINGS[family, name])


# What the others vary one of these varies too: they run with the slow tests
@pytest.mark.parametrize(
    ("family", "name"),
    mostly_slow(
        SETTINGS,
        [
            ("Maskable", "discrete, stop"),
            ("Maskable", "dict, schedules"),
            ("Maskable", "multi-binary, value clip"),
            ("Recurrent", "discrete, stop"),
            ("Recurrent", "state-dependent noise, entropy"),
            ("Recurrent", "shared LSTM, two layers, raw advantages"),
            ("Recurrent", "whole rollout, no LSTM for the critic"),
        ],
    ),
)
def test_the_clip_form_is_sb3_contribs_class(family: str, name: str) -> None:
    assert_same_run(train(class_of(family, "ClipPPO"), SETTINGS[family, name]), theirs(family, name))


@pytest.mark.parametrize("family", BASES)
def test_a_stop_binds_in_the_sample(family: str) -> None:
    assert theirs(family, "discrete, stop").model._n_updates < 2 * STOP["n_epochs"]


@pytest.mark.parametrize(("family", "name"), mostly_slow(SAMPLE, SAMPLE[:1]))
@pytest.mark.parametrize(
    ("variant", "neutral"),
    [
        ("AdaptiveClipPPO", {"clip_range_min": 0.2, "clip_range_max": 0.2}),
        ("KLStopPPO", {"max_kl": 1.5 * STOP["target_kl"], "target_kl": None}),
        ("AdaptiveLRPPO", {"lr_factor": 1.0}),
        ("TrulyPPO", {"trigger": "ratio", "rollback_coef": 0.0}),
    ],
)
def test_other_variants_at_their_neutral_settings_are_it_too(
    family: str, name: str, variant: str, neutral: dict[str, Any]
) -> None:
    assert_same_run(train(class_of(family, variant), SETTINGS[family, name], **neutral), theirs(family, name))


@pytest.mark.parametrize("family", BASES)
def test_an_accepted_trust_region_update_is_sb3_contribs(family: str) -> None:
    once = setting(family, VECTOR, DISCRETE)
    one_rollout = Setting(once.env, once.kwargs, once.policy, rollouts=1)
    ours = train(class_of(family, "TrustRegionPPO"), one_rollout, max_kl=1e9)
    assert ours.logs[-1]["train/step_fraction"] == 1.0
    assert_same_run(ours, train(BASES[family], one_rollout))


def test_vec_normalize_and_masks_left_out() -> None:
    plain = setting("Recurrent", VECTOR, BOX, 2, n_epochs=1)
    normalised = Setting(_normalised(plain.env), plain.kwargs, plain.policy, rollouts=2)
    assert_same_run(train(RecurrentClipPPO, normalised), train(RecurrentPPO, normalised))


def test_masks_can_be_left_out() -> None:
    unmasked = Setting(lambda: make_env(VECTOR, DISCRETE), SMALL, "MlpPolicy", rollouts=2)
    runs = []
    for cls in (MaskableClipPPO, MaskablePPO):

        class Unmasked(cls):  # type: ignore[misc, valid-type]
            def learn(self, *arguments: Any, **keywords: Any) -> Any:
                return super().learn(*arguments, use_masking=False, **keywords)

        runs.append(train(Unmasked, unmasked))
    assert_same_run(*runs)


@pytest.mark.parametrize(
    ("observations", "actions"),
    mostly_slow([(VECTOR, DISCRETE), (DICT, MULTI_DISCRETE)], [(DICT, MULTI_DISCRETE)]),
)
def test_where_all_actions_are_valid_masks_and_memory_are_memory_alone(observations: Any, actions: Any) -> None:
    memory = setting("Recurrent", observations, actions, 2)
    env = partial(make_env, observations, actions, n_envs=2, env_class=partial(MaskedSpaceEnv, valid=1.0))
    both = train(MaskableRecurrentClipPPO, Setting(env, memory.kwargs, memory.policy, rollouts=2))
    alone = train(RecurrentPPO, Setting(env, memory.kwargs, memory.policy, rollouts=2))
    assert th.equal(both.random_states[0], alone.random_states[0])
    ours, theirs = tensors_of(both.model), tensors_of(alone.model)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():  # masked distributions round otherwise
        assert th.allclose(ours[name], tensor, rtol=1e-5, atol=1e-6), name


_DRAWN = {
    "n_steps": st.integers(4, 24),
    "batch_size": st.integers(2, 24),
    "n_epochs": st.integers(1, 2),
    "learning_rate": st.floats(1e-4, 1e-2),
    "gae_lambda": st.floats(0.0, 1.0),
    "clip_range": st.floats(0.01, 0.5),
    "clip_range_vf": st.none() | st.floats(0.01, 1.0),
    "normalize_advantage": st.booleans(),
    "ent_coef": st.just(0.0) | st.floats(1e-4, 0.1),
    "vf_coef": st.floats(0.0, 1.0),
    "target_kl": st.none() | st.floats(1e-5, 0.01),
    "seed": st.integers(0, 1000),
}


# Shrinking a failure would take many minutes: the drawn setting itself is small enough to read
@pytest.mark.slow
@pytest.mark.parametrize("family", BASES)
@given(
    observations=st.sampled_from([VECTOR, DICT]),
    actions=st.sampled_from([DISCRETE, MULTI_DISCRETE]),
    n_envs=st.integers(1, 3),
    kwargs=st.fixed_dictionaries(_DRAWN),
)
@settings(max_examples=10, deadline=None, derandomize=True, phases=[Phase.generate])
def test_the_clip_form_is_sb3_contribs_class_on_drawn_settings(
    family: str, observations: Any, actions: Any, n_envs: int, kwargs: dict[str, Any]
) -> None:
    while (kwargs["n_steps"] * n_envs) % kwargs["batch_size"] == 1:
        kwargs["batch_size"] += 1  # theirs crashes on a minibatch of one sample
    drawn = setting(family, observations, actions, n_envs, **kwargs)
    assert_same_run(train(class_of(family, "ClipPPO"), drawn), train(BASES[family], drawn))
