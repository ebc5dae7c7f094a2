"""At its neutral setting every variant is SB3's PPO bit for bit: parameters, moments, logs and random draws."""

from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import SETTINGS, LogRecorder, Run, Setting, assert_same_run, mostly_slow, ppo, sb3s_bits, train
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import nn

from sb3_ppo_variants import AdaptiveClipPPO, ClipPPO, KLStopPPO, TrustRegionPPO
from sb3_ppo_variants.registry import VARIANTS
from sb3_ppo_variants.testing import BOX, DICT, DISCRETE, IMAGE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, make_env
from sb3_ppo_variants.update_parts.statistics import RolloutMeasurement

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")

SAMPLE = ["discrete", "dense extractor, shared", "dict, multi-discrete"]
# What a variant adds to ClipPPO does not depend on the spaces: the others with the slow tests
on_the_sample = pytest.mark.parametrize("name", mostly_slow(SAMPLE, ["discrete"]))


class KeepsTheOldPolicy(ClipPPO):
    """Evaluates the old policy for every minibatch, and does nothing with it."""

    needs_old_distribution = True


# What the others vary one of these varies too: they run with the slow tests
@pytest.mark.parametrize(
    "name",
    mostly_slow(
        SETTINGS,
        [
            "discrete",
            "entropy and value weights",
            "image, separate extractors",
            "batch normalisation and dropout",
            "dict, multi-discrete",
            "multi-binary, raw advantages",
            "state-dependent noise, value clip",
            "schedules",
            "last minibatch of one sample",
            "VecNormalize",
            "target_kl",
        ],
    ),
)
def test_clip_ppo_is_ppo(name: str) -> None:
    assert_same_run(train(ClipPPO, SETTINGS[name]), ppo(name))


@pytest.mark.parametrize(
    "name",
    mostly_slow(
        [*SAMPLE, "batch normalisation and dropout", "state-dependent noise, value clip"],
        ["discrete", "batch normalisation and dropout", "state-dependent noise, value clip"],
    ),
)
def test_a_frozen_old_policy_that_is_not_used_changes_nothing(name: str) -> None:
    assert_same_run(train(KeepsTheOldPolicy, SETTINGS[name]), ppo(name))


@on_the_sample
def test_a_symmetric_clip_range_high_is_ppo(name: str) -> None:
    assert_same_run(train(ClipPPO, SETTINGS[name], clip_range_high=0.2), ppo(name))


@on_the_sample
def test_a_dual_clip_out_of_reach_is_ppo(name: str) -> None:
    assert_same_run(train(ClipPPO, SETTINGS[name], dual_clip=1e9), ppo(name))


@on_the_sample
def test_an_adaptive_clip_without_room_is_ppo(name: str) -> None:
    ours = train(AdaptiveClipPPO, SETTINGS[name], clip_range_min=0.2, clip_range_max=0.2)
    assert_same_run(ours, ppo(name))


@pytest.mark.parametrize(("name", "stop_at"), list(zip(SAMPLE, ["minibatch", "epoch", "rollout"], strict=True)))
def test_a_kl_stop_out_of_reach_is_ppo(name: str, stop_at: str) -> None:
    assert_same_run(train(KLStopPPO, SETTINGS[name], max_kl=1e9, stop_at=stop_at), ppo(name))


@pytest.mark.parametrize(
    "name",
    mostly_slow([*SAMPLE, "state-dependent noise, value clip", "multi-binary, raw advantages"], ["discrete"]),
)
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


class AcceptsEverything(TrustRegionPPO):
    def _is_within(self, measurement: RolloutMeasurement) -> bool:
        return True


@pytest.mark.parametrize(
    "name",
    mostly_slow([*SAMPLE, "batch normalisation and dropout"], ["discrete", "batch normalisation and dropout"]),
)
def test_accepted_trust_region_updates_are_ppos(name: str) -> None:
    ours = train(AcceptsEverything, SETTINGS[name], max_kl=1e9)
    assert ours.logs[-1]["train/step_fraction"] == 1.0
    assert_same_run(ours, ppo(name))


# Plain gradient descent: Adam's first step is as long for a gradient that is nothing but rounding
_ONE_STEP = {"n_epochs": 1, "batch_size": 64, "policy_kwargs": {"optimizer_class": th.optim.SGD}, "learning_rate": 1e-3}


@pytest.mark.parametrize("algorithm_id", [name for name in VARIANTS if name != "rpo"])  # its ratio is never 1
def test_the_first_step_of_every_variant_is_ppos(algorithm_id: str) -> None:
    actions = BOX if list(VARIANTS).index(algorithm_id) % 2 else DISCRETE
    setting = Setting(lambda: make_env(VECTOR, actions), _ONE_STEP, rollouts=1)
    ours, theirs = (train(cls, setting).model for cls in (VARIANTS[algorithm_id].cls, PPO))
    untrained = PPO("MlpPolicy", setting.env(), seed=11, device="cpu")
    for parameter, expected, before in zip(
        ours.policy.parameters(), theirs.policy.parameters(), untrained.policy.parameters(), strict=True
    ):
        assert not th.equal(expected, before)
        # Of the step itself, not of the parameter
        th.testing.assert_close(parameter - before, expected - before, rtol=1e-3, atol=1e-8)


# Whatever the tests do not list: drawn settings ----------------------------------------------------------------------


class StopAfter(BaseCallback):
    """Ends the training after some steps, and draws random numbers as a callback may."""

    def __init__(self, steps: float) -> None:
        super().__init__()
        self.steps = steps

    def _on_step(self) -> bool:
        return self.n_calls < self.steps

    def _on_rollout_end(self) -> None:
        np.random.rand()
        th.rand(1)


def _choices(**options: Any) -> dict[str, Any]:
    """Return the options, or some of them."""
    return st.fixed_dictionaries({}, optional=options)


_SCHEDULES = st.sampled_from(
    [float, lambda x: LinearSchedule(x, 0.1 * x, 0.7), lambda x: lambda left: x * (0.5 + left)]
)
_OPTIMIZERS: list[tuple[type[th.optim.Optimizer], dict[str, Any]]] = [
    (th.optim.Adam, {"weight_decay": 0.1, "eps": 1e-3}),
    (th.optim.Adam, {"betas": (0.8, 0.9), "amsgrad": True}),
    (th.optim.AdamW, {"weight_decay": 0.01}),
    (th.optim.RMSprop, {"alpha": 0.9}),
    (th.optim.SGD, {"momentum": 0.9}),
]
_KWARGS = {
    "n_steps": st.integers(8, 40),
    "batch_size": st.integers(2, 64),
    "n_epochs": st.integers(1, 3),
    "learning_rate": st.floats(1e-4, 1e-2),
    "gamma": st.floats(0.5, 1.0),
    "gae_lambda": st.floats(0.0, 1.0),
    "clip_range": st.floats(0.01, 0.5),
    "normalize_advantage": st.booleans(),
    "ent_coef": st.just(0.0) | st.floats(1e-4, 0.1),
    "vf_coef": st.floats(0.0, 1.0),
    "max_grad_norm": st.floats(0.1, 10.0),
    "seed": st.integers(0, 1000),
}
_POLICY_KWARGS = _choices(
    net_arch=st.sampled_from([[], [8], {"pi": [8], "vf": [16, 4]}, {"pi": [], "vf": [8]}]),
    activation_fn=st.sampled_from([nn.ReLU, nn.ELU]),
    share_features_extractor=st.booleans(),
    ortho_init=st.booleans(),
    log_std_init=st.floats(-1.0, 0.5),
)
_PART = st.fixed_dictionaries(
    {"rollouts": st.integers(1, 2), "reset": st.booleans(), "stop_after": st.just(np.inf) | st.integers(1, 60)}
)


def train_in_parts(cls: type[PPO], setting: Setting, parts: list[dict[str, Any]], **arguments: Any) -> Run:
    """Train for two rollouts, then as often as there are parts, each with its own end."""
    model = cls(setting.policy, setting.env(), device="cpu", **sb3s_bits(cls), **setting.kwargs, **arguments)
    logs: list[dict[str, Any]] = []
    for part in [{"rollouts": 2, "reset": True, "stop_after": np.inf}, *parts]:
        recorder = LogRecorder()
        model.set_logger(Logger(None, [recorder]))
        steps = part["rollouts"] * model.n_steps * model.n_envs
        model.learn(steps, callback=StopAfter(part["stop_after"]), reset_num_timesteps=part["reset"])
        logs += [*recorder.dumps, dict(model.logger.name_to_value)]
    return Run(model, logs, (th.get_rng_state(), np.random.get_state()))


# Shrinking a failure would take many minutes: the drawn setting itself is small enough to read
@given(
    observations=st.sampled_from([VECTOR, VECTOR, DICT, IMAGE]),
    actions=st.sampled_from([BOX, DISCRETE, MULTI_DISCRETE, MULTI_BINARY]),
    n_envs=st.integers(1, 3),
    normalised=st.booleans(),
    sde=st.booleans(),
    kwargs=st.fixed_dictionaries(_KWARGS, optional={"clip_range_vf": st.floats(0.01, 1.0)}),
    schedules=st.fixed_dictionaries(dict.fromkeys(("learning_rate", "clip_range", "clip_range_vf"), _SCHEDULES)),
    policy_kwargs=_POLICY_KWARGS,
    optimizer=st.none() | st.sampled_from(_OPTIMIZERS),
    target_kl=st.none() | st.floats(1e-4, 0.05),
    parts=st.lists(_PART, max_size=2),
)
@settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.generate])
def test_clip_ppo_and_kl_stop_ppo_are_ppo_on_drawn_settings(
    *, observations: Any, actions: Any, n_envs: int, normalised: bool, sde: bool, kwargs: dict[str, Any],
    schedules: dict[str, Any], policy_kwargs: dict[str, Any], optimizer: Any, target_kl: float | None, parts: Any,
) -> None:  # fmt: skip
    def env() -> VecEnv:
        plain = make_env(observations, actions, n_envs=n_envs)
        return VecNormalize(plain) if normalised and observations == VECTOR else plain

    if optimizer is not None:
        policy_kwargs = policy_kwargs | {"optimizer_class": optimizer[0], "optimizer_kwargs": optimizer[1]}
    scheduled = {name: make(kwargs[name]) for name, make in schedules.items() if name in kwargs}
    policy = "MultiInputPolicy" if observations == DICT else "CnnPolicy" if observations == IMAGE else "MlpPolicy"
    own = {"use_sde": sde and actions == BOX, "policy_kwargs": policy_kwargs}
    setting = Setting(env, kwargs | scheduled | own, policy)
    theirs = train_in_parts(PPO, setting, parts, target_kl=target_kl)
    assert_same_run(train_in_parts(ClipPPO, setting, parts, target_kl=target_kl), theirs)
    if target_kl is not None:
        assert_same_run(train_in_parts(KLStopPPO, setting, parts, max_kl=1.5 * target_kl), theirs)
