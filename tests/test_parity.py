"""At its neutral setting every variant is SB3's PPO bit for bit: parameters, moments, logs and random draws."""

from functools import cache
from typing import Any

import pytest
from helpers import SETTINGS, Run, Setting, assert_same_run, train
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO

from sb3_ppo_variants import AdaptiveClipPPO, ClipPPO, KLStopPPO, TrustRegionPPO
from sb3_ppo_variants.testing import BOX, DICT, DISCRETE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, make_env

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")

SAMPLE = ["discrete", "dense extractor, shared", "dict, multi-discrete"]


class KeepsTheOldPolicy(ClipPPO):
    """Evaluates the old policy for every minibatch, and does nothing with it."""

    needs_old_distribution = True


@cache
def sb3(name: str) -> Run:
    return train(PPO, SETTINGS[name])


@pytest.mark.parametrize("name", SETTINGS)
def test_clip_ppo_is_ppo(name: str) -> None:
    assert_same_run(train(ClipPPO, SETTINGS[name]), sb3(name))


@pytest.mark.parametrize("name", [*SAMPLE, "batch normalisation and dropout", "state-dependent noise, value clip"])
def test_a_frozen_old_policy_that_is_not_used_changes_nothing(name: str) -> None:
    assert_same_run(train(KeepsTheOldPolicy, SETTINGS[name]), sb3(name))


@pytest.mark.parametrize("name", SAMPLE)
def test_a_symmetric_clip_range_high_is_ppo(name: str) -> None:
    assert_same_run(train(ClipPPO, SETTINGS[name], clip_range_high=0.2), sb3(name))


@pytest.mark.parametrize("name", SAMPLE)
def test_a_dual_clip_out_of_reach_is_ppo(name: str) -> None:
    assert_same_run(train(ClipPPO, SETTINGS[name], dual_clip=1e9), sb3(name))


@pytest.mark.parametrize("name", SAMPLE)
def test_an_adaptive_clip_without_room_is_ppo(name: str) -> None:
    ours = train(AdaptiveClipPPO, SETTINGS[name], clip_range_min=0.2, clip_range_max=0.2)
    assert_same_run(ours, sb3(name))


@pytest.mark.parametrize("stop_at", ["minibatch", "epoch", "rollout"])
@pytest.mark.parametrize("name", SAMPLE)
def test_a_kl_stop_out_of_reach_is_ppo(name: str, stop_at: str) -> None:
    assert_same_run(train(KLStopPPO, SETTINGS[name], max_kl=1e9, stop_at=stop_at), sb3(name))


@pytest.mark.parametrize("name", [*SAMPLE, "state-dependent noise, value clip", "multi-binary, raw advantages"])
def test_kl_stop_at_minibatch_is_target_kl(name: str) -> None:
    setting, target_kl, hot = SETTINGS[name], 2e-3, {"learning_rate": 5e-3, "n_epochs": 6}
    theirs = train(PPO, setting, target_kl=target_kl, **hot)
    assert 3 <= theirs.model._n_updates < 6 * setting.rollouts, "the stop must bind, but not at once"
    assert_same_run(train(KLStopPPO, setting, max_kl=1.5 * target_kl, stop_at="minibatch", **hot), theirs)


@pytest.mark.parametrize("cls", [ClipPPO, AdaptiveClipPPO, KLStopPPO, TrustRegionPPO])
def test_target_kl_keeps_its_meaning_in_every_variant(cls: type[PPO]) -> None:
    # One update, and bounds out of reach, so that nothing but target_kl acts
    setting = Setting(SETTINGS["target_kl"].env, SETTINGS["target_kl"].kwargs, rollouts=1)
    own: dict[str, Any] = {} if cls in (ClipPPO, AdaptiveClipPPO) else {"max_kl": 1e9}
    theirs = train(PPO, setting, n_epochs=10)
    assert theirs.model._n_updates < 10
    ours = train(cls, setting, n_epochs=10, **own)
    assert ours.logs[-1].get("train/step_fraction", 1.0) == 1.0
    assert_same_run(ours, theirs)


@pytest.mark.parametrize("name", [*SAMPLE, "batch normalisation and dropout"])
def test_an_accepted_trust_region_update_is_ppos(name: str) -> None:
    setting = Setting(SETTINGS[name].env, SETTINGS[name].kwargs, SETTINGS[name].policy, rollouts=1)
    ours = train(TrustRegionPPO, setting, max_kl=1e9)
    assert ours.logs[-1]["train/step_fraction"] == 1.0
    assert_same_run(ours, train(PPO, setting))


_KWARGS = {
    "n_steps": st.integers(8, 40),
    "batch_size": st.integers(2, 64),
    "n_epochs": st.integers(1, 3),
    "learning_rate": st.floats(1e-4, 1e-2),
    "gamma": st.floats(0.5, 1.0),
    "gae_lambda": st.floats(0.0, 1.0),
    "clip_range": st.floats(0.01, 0.5),
    "clip_range_vf": st.none() | st.floats(0.01, 1.0),
    "normalize_advantage": st.booleans(),
    "ent_coef": st.just(0.0) | st.floats(1e-4, 0.1),
    "vf_coef": st.floats(0.0, 1.0),
    "max_grad_norm": st.floats(0.1, 10.0),
    "target_kl": st.none() | st.floats(1e-4, 0.05),
    "seed": st.integers(0, 1000),
}


# Shrinking a failure would take many minutes: the drawn setting itself is small enough to read
@given(
    observations=st.sampled_from([VECTOR, DICT]),
    actions=st.sampled_from([BOX, DISCRETE, MULTI_DISCRETE, MULTI_BINARY]),
    n_envs=st.integers(1, 3),
    use_sde=st.booleans(),
    kwargs=st.fixed_dictionaries(_KWARGS),
)
@settings(max_examples=20, deadline=None, derandomize=True, phases=[Phase.generate])
def test_clip_ppo_is_ppo_on_drawn_settings(
    observations: Any, actions: Any, n_envs: int, use_sde: bool, kwargs: dict[str, Any]
) -> None:
    policy = "MultiInputPolicy" if observations == DICT else "MlpPolicy"
    kwargs = kwargs | {"use_sde": use_sde and actions == BOX}
    setting = Setting(lambda: make_env(observations, actions, n_envs=n_envs), kwargs, policy, rollouts=2)
    assert_same_run(train(ClipPPO, setting), train(PPO, setting))
