"""AdaptiveLRPPO: the neutral setting, when and on what the rate moves, and who may not overwrite it."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch as th
from helpers import SETTINGS, Setting, assert_same_run, mostly_slow, ppo, train
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sb3_ppo_variants import AdaptiveLRPPO
from sb3_ppo_variants.testing import BOX, DISCRETE, VECTOR, make_env
from sb3_ppo_variants.update_parts.statistics import RolloutMeasurement

MODES = ["minibatch", "epoch", "rollout"]
SAMPLE = [
    "discrete",
    "box",
    "dict, multi-discrete",
    "state-dependent noise, value clip",
    "last minibatch of one sample",
]


class Scripted(AdaptiveLRPPO):
    """Reads the rollout's KL from a list, and keeps the optimizer's rate at each step."""

    kls: list[float]
    measured: int
    rates: list[float]

    def learn_with(self, kls: list[float], rollouts: int = 1) -> "Scripted":
        self.kls, self.measured, self.rates = list(kls), 0, []
        return self.learn(rollouts * self.n_steps)

    def _measure_rollout(self) -> RolloutMeasurement:
        self.measured += 1
        return replace(super()._measure_rollout(), kl=self.kls.pop(0))

    def _should_stop(self, point: Any, stats: Any) -> Any:
        if point == "after_step":  # the rate of the step just taken
            self.rates.append(self.policy.optimizer.param_groups[0]["lr"])
        return super()._should_stop(point, stats)


def scripted(**arguments: Any) -> Scripted:
    defaults = {"n_steps": 32, "batch_size": 16, "n_epochs": 4, "learning_rate": 9e-4, "seed": 0}
    return Scripted("MlpPolicy", make_env(VECTOR, BOX), **(defaults | arguments))


# Every mode, each on a setting of its own; the rest with the slow tests
@pytest.mark.parametrize(
    ("name", "adapt_every"),
    mostly_slow(itertools.product(SAMPLE, MODES), list(zip(["discrete", "box", SAMPLE[-1]], MODES, strict=True))),
)
def test_a_factor_of_one_is_ppo(name: str, adapt_every: str) -> None:
    ours = train(AdaptiveLRPPO, SETTINGS[name], lr_factor=1.0, adapt_every=adapt_every)
    assert_same_run(ours, ppo(name))


def test_after_each_epoch_the_next_one_runs_at_the_new_rate() -> None:
    model = scripted(adapt_every="epoch").learn_with([0.03, 0.004, 0.012, 0.02])
    # Two minibatches an epoch; the last measurement acts on the next rollout
    expected = [9e-4] * 2 + [6e-4] * 2 + [9e-4] * 2 + [9e-4] * 2
    assert model.rates == pytest.approx(expected)
    assert model.adapted_learning_rate == pytest.approx(9e-4)
    assert model.measured == 4


def test_after_each_rollout_the_next_one_runs_at_the_new_rate() -> None:
    model = scripted(adapt_every="rollout").learn_with([0.03, 0.004, 0.004], rollouts=3)
    assert model.rates == pytest.approx([9e-4] * 8 + [6e-4] * 8 + [9e-4] * 8)
    assert model.adapted_learning_rate == pytest.approx(1.35e-3)
    assert model.logger.name_to_value["train/learning_rate"] == pytest.approx(9e-4)


def test_before_each_step_the_kl_of_its_minibatch_sets_the_rate() -> None:
    kls: list[float] = []

    class Watched(Scripted):
        def _surrogate(self, batch: Any) -> th.Tensor:
            if batch.log_prob.grad_fn is not None and batch.kl.grad_fn is not None:
                kls.append(float(batch.kl.mean()))
            return super()._surrogate(batch)

    model = Watched(
        "MlpPolicy", make_env(VECTOR, BOX), n_steps=32, batch_size=16, n_epochs=4, learning_rate=9e-4, seed=0,
        adapt_every="minibatch", desired_kl=1e-5, engine="torch",
    )  # fmt: skip
    model.learn_with([math.nan])
    assert kls[0] == 0.0
    assert len(kls) == len(model.rates) == 8
    assert max(kls) > 2e-5, "the rule must be at work"
    rate = 9e-4
    for kl, applied in zip(kls, model.rates, strict=True):
        if kl > 2e-5:
            rate = max(rate / 1.5, 1e-5)
        elif 0 < kl < 0.5e-5:
            rate = min(rate * 1.5, 1e-2)
        assert applied == pytest.approx(rate)
    assert model.adapted_learning_rate == model.rates[-1], "the rollout's KL has no say"


@pytest.mark.parametrize("name", ["discrete", "box", "state-dependent noise, value clip"])
def test_the_first_minibatch_of_a_rollout_never_raises_the_rate(name: str) -> None:
    # One minibatch a rollout: its KL is exactly zero
    setting = Setting(SETTINGS[name].env, SETTINGS[name].kwargs)
    run = train(AdaptiveLRPPO, setting, adapt_every="minibatch", n_epochs=1, batch_size=64, learning_rate=3e-4)
    assert run.model.adapted_learning_rate == 3e-4


@pytest.mark.parametrize("kl", [1e-8, 1.0])
def test_what_rounding_makes_of_the_first_minibatchs_kl_has_no_say(kl: float) -> None:
    # An engine may evaluate a minibatch with other roundings than the rollout
    model = scripted(adapt_every="minibatch")
    stats: Any = SimpleNamespace(epoch=0, step=0, batch=SimpleNamespace(kl=th.tensor([kl])))
    model._should_stop("before_step", stats)
    assert model.adapted_learning_rate == 9e-4
    stats.step = 1
    model._should_stop("before_step", stats)
    assert model.adapted_learning_rate == pytest.approx(9e-4 * 1.5 if kl < 0.01 else 9e-4 / 1.5)
    stats.epoch, stats.step = 1, 0
    model._should_stop("before_step", stats)
    assert model.adapted_learning_rate == pytest.approx(9e-4 * 2.25 if kl < 0.01 else 9e-4 / 2.25)


def test_an_epoch_that_target_kl_cuts_short_counts() -> None:
    # A rate so large that every update ends in its first epoch must still fall
    model = scripted(adapt_every="epoch", target_kl=1e-6).learn_with([0.5, 0.5], rollouts=2)
    assert model.rates == pytest.approx([9e-4, 6e-4])
    assert model.adapted_learning_rate == pytest.approx(4e-4)


@pytest.mark.parametrize("kl", [math.inf, math.nan, 1e9, 0.0, 1e-9])
def test_the_rate_stays_within_its_bounds(kl: float) -> None:
    model = scripted(lr_min=8e-4, lr_max=1e-3).learn_with([kl] * 8, rollouts=2)
    assert min(model.rates) >= 8e-4
    assert max(model.rates) <= 1e-3
    assert 8e-4 <= model.adapted_learning_rate <= 1e-3


@pytest.mark.parametrize("adapt_every", MODES)
def test_the_rate_survives_saving_and_loading(adapt_every: str, tmp_path: Path) -> None:
    kwargs = {"n_steps": 32, "batch_size": 16, "learning_rate": 9e-4, "desired_kl": 1e-9, "seed": 0}
    model = AdaptiveLRPPO("MlpPolicy", make_env(VECTOR, DISCRETE), adapt_every=adapt_every, **kwargs)
    model.learn(64)
    rate = model.adapted_learning_rate
    assert rate < 9e-4
    model.save(tmp_path / "model")
    loaded = AdaptiveLRPPO.load(tmp_path / "model", env=make_env(VECTOR, DISCRETE))
    assert loaded.adapted_learning_rate == rate
    assert loaded.learning_rate == 9e-4
    loaded.learn(32, reset_num_timesteps=False)
    assert loaded.logger.name_to_value["train/learning_rate"] == rate


def test_loading_with_the_zoos_custom_objects(tmp_path: Path) -> None:
    model = AdaptiveLRPPO("MlpPolicy", make_env(VECTOR, DISCRETE), n_steps=32, batch_size=16, desired_kl=1e-9, seed=0)
    model.learn(32)
    model.save(tmp_path / "model")
    custom = {"learning_rate": 0.0, "lr_schedule": lambda _: 0.0, "clip_range": lambda _: 0.0}
    loaded = AdaptiveLRPPO.load(tmp_path / "model", env=make_env(VECTOR, DISCRETE), custom_objects=custom)
    assert loaded.adapted_learning_rate == model.adapted_learning_rate
    observation = loaded.get_env().reset()
    assert loaded.predict(observation, deterministic=True)[0] == model.predict(observation, deterministic=True)[0]
    loaded.learn(32)


@pytest.mark.parametrize("learning_rate", [3e-4, ConstantSchedule(3e-4), FloatSchedule(3e-4), lambda _: 3e-4])
def test_a_constant_schedule_passes(learning_rate: Any) -> None:
    model = AdaptiveLRPPO("MlpPolicy", "CartPole-v1", learning_rate=learning_rate)
    assert model.adapted_learning_rate == 3e-4


@pytest.mark.parametrize("learning_rate", [LinearSchedule(3e-4, 0.0, 1.0), lambda progress: 1e-4 + 1e-3 * progress])
def test_a_changing_schedule_is_refused(learning_rate: Any) -> None:
    with pytest.raises(ValueError, match="learning_rate must be constant"):
        AdaptiveLRPPO("MlpPolicy", "CartPole-v1", learning_rate=learning_rate)


@pytest.mark.parametrize(
    "arguments",
    [
        {"desired_kl": 0.0},
        {"lr_factor": 0.9},
        {"lr_min": 0.0},
        {"lr_max": 1e-6},
        {"adapt_every": "step"},
        {"learning_rate": 1e-6},  # below lr_min
        {"learning_rate": 0.1},
    ],
)
def test_arguments_outside_their_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        AdaptiveLRPPO("MlpPolicy", "CartPole-v1", **arguments)
