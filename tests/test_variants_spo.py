"""SPO: clip_range is its epsilon, and a schedule that ends at zero ends well."""

from dataclasses import replace

import numpy as np
import pytest
import torch as th
from helpers import SETTINGS, mostly_slow, train
from stable_baselines3.common.utils import LinearSchedule

from sb3_ppo_variants import SPO
from sb3_ppo_variants.testing import BOX, VECTOR, make_env


@pytest.mark.parametrize("name", mostly_slow(["discrete", "box", "multi-binary, raw advantages"], ["box"]))
def test_a_smaller_clip_range_holds_the_policy_closer(name: str) -> None:
    setting = replace(SETTINGS[name], rollouts=1)
    kls = [
        train(SPO, setting, clip_range=epsilon, learning_rate=3e-3, n_epochs=10).logs[-1]["train/kl"]
        for epsilon in (1.0, 0.1, 0.01)
    ]
    assert kls[0] > 2 * kls[1] > 4 * kls[2] > 0


def test_epsilon_follows_the_schedule_of_the_clip_range(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def record(ratio: th.Tensor, advantages: th.Tensor, epsilon: float) -> th.Tensor:
        seen.append(epsilon)
        return ratio * advantages

    monkeypatch.setattr("sb3_ppo_variants.maths.losses.simple_policy_surrogate", record)
    model = SPO(
        "MlpPolicy",
        make_env(VECTOR, BOX),
        n_steps=32,
        batch_size=32,
        n_epochs=1,
        clip_range=LinearSchedule(0.4, 0.1, 1.0),
    )
    model.learn(64)
    assert seen == pytest.approx([0.25, 0.25, 0.1, 0.1])  # the update's and the measurement's


@pytest.mark.parametrize("total", [64, 60])  # the schedule ends at 0, or just below
def test_a_clip_range_that_falls_to_zero_stays_finite(total: int) -> None:
    model = SPO(
        "MlpPolicy", make_env(VECTOR, BOX), n_steps=32, batch_size=16, clip_range=LinearSchedule(0.2, 0.0, 1.0), seed=0
    )
    model.learn(total)
    assert model._current_clip_range() <= 0
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())
    assert np.isfinite(model.logger.name_to_value["train/loss"])
