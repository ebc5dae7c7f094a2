"""KLPenaltyPPO: the neutral setting, what the penalty does, and how its coefficient moves."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch as th
from helpers import SETTINGS, assert_same_run, mostly_slow, ppo, train

from sb3_ppo_variants import KLPenaltyPPO
from sb3_ppo_variants.testing import BOX, VECTOR, make_env

SAMPLE = ["discrete", "box", "dict, multi-discrete", "state-dependent noise, value clip"]


@pytest.mark.parametrize("name", mostly_slow(SAMPLE, ["discrete", "box"]))
def test_without_a_penalty_it_is_ppo_with_a_clip_range_out_of_reach(name: str) -> None:
    ours = train(KLPenaltyPPO, SETTINGS[name], kl_coef=0, clip_range=1e9)
    assert_same_run(ours, ppo(name, clip_range=1e9))
    assert ours.logs[-1]["train/kl_coef"] == 0


@pytest.mark.parametrize(
    "name",
    mostly_slow(
        ["box", "squashed noise, no closed entropy", "multi-binary, raw advantages"], ["multi-binary, raw advantages"]
    ),
)
def test_a_larger_coefficient_holds_the_policy_closer(name: str) -> None:
    hot: dict[str, Any] = {
        "learning_rate": 3e-3,
        "n_steps": 64,
        "batch_size": 32,
        "n_epochs": 10,
        "kl_coef_factor": 1.0,
    }
    setting = replace(SETTINGS[name], rollouts=1)
    kls = [train(KLPenaltyPPO, setting, kl_coef=coef, **hot).logs[-1]["train/kl"] for coef in (1e-4, 3, 100)]
    assert kls[0] > 2 * kls[1] > 4 * kls[2] > 0


@pytest.mark.parametrize(("desired_kl", "expected"), [(1e-12, 8.0), (1e9, 0.125)])
def test_the_coefficient_follows_the_kl_once_a_rollout(desired_kl: float, expected: float) -> None:
    run = train(KLPenaltyPPO, replace(SETTINGS["box"], rollouts=3), desired_kl=desired_kl)
    logged = [dump["train/kl_coef"] for dump in run.logs if "train/kl_coef" in dump]
    step = 2.0 if expected > 1 else 0.5
    assert logged == [1.0, step, step**2], "the coefficient in force during each update"
    assert run.model.adapted_kl_coef == expected
    assert run.model.kl_coef == 1.0, "the argument stays as it was given"


def test_it_survives_saving_and_loading_and_stays_within_its_bounds(tmp_path: Path) -> None:
    model = KLPenaltyPPO(
        "MlpPolicy", make_env(VECTOR, BOX), n_steps=32, batch_size=32, desired_kl=1e-12, kl_coef_max=3.0, seed=0
    )
    model.learn(96)
    assert model.adapted_kl_coef == 3.0
    model.save(tmp_path / "model")
    loaded = KLPenaltyPPO.load(tmp_path / "model", env=make_env(VECTOR, BOX))
    assert loaded.adapted_kl_coef == 3.0
    loaded.desired_kl = 1e9
    loaded.learn(32, reset_num_timesteps=False)
    assert loaded.logger.name_to_value["train/kl_coef"] == 3.0
    assert loaded.adapted_kl_coef == 1.5


def test_the_penalty_enters_the_loss_with_its_gradient() -> None:
    captured: list[tuple[float, float]] = []

    class Watched(KLPenaltyPPO):
        def _losses(self, batch: Any) -> Any:
            result = super()._losses(batch)
            surrogate = float((batch.ratio * batch.advantages).mean())
            captured.append((float(result.policy), -surrogate + 7.0 * float(batch.kl.mean())))
            assert batch.kl.requires_grad
            return result

    Watched("MlpPolicy", make_env(VECTOR, BOX), n_steps=32, batch_size=16, kl_coef=7.0, seed=0).learn(32)
    assert all(policy == pytest.approx(expected, abs=1e-6) for policy, expected in captured)
    assert any(abs(expected) > 1e-4 for _, expected in captured)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kl_coef": -1.0},
        {"kl_coef": 1e-5},  # below kl_coef_min
        {"kl_coef": 1e5},
        {"kl_coef": math.nan},
        {"desired_kl": 0.0},
        {"kl_coef_factor": 0.5},
        {"kl_band": 0.9},
        {"kl_coef_min": 0.0},
        {"kl_coef_min": 2.0, "kl_coef_max": 1.0, "kl_coef": 1.5},
    ],
)
def test_arguments_outside_their_range_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments)).split("_m")[0]):
        KLPenaltyPPO("MlpPolicy", "CartPole-v1", **arguments)


def test_an_overflowing_kl_without_a_penalty_does_no_harm() -> None:
    model = KLPenaltyPPO("MlpPolicy", make_env(VECTOR, BOX), n_steps=32, batch_size=32, kl_coef=0, seed=0)
    assert not model.needs_old_distribution
    model.learn(32)
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())
