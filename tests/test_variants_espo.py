"""ESPO: no clip, and a stop at the first minibatch whose ratios have moved too far."""

from typing import Any

import numpy as np
import pytest
from helpers import SETTINGS, assert_same_run, mostly_slow, ppo, train

from sb3_ppo_variants import ESPO, StopRule
from sb3_ppo_variants.testing import BOX, VECTOR, make_env

SAMPLE = ["discrete", "box", "dict, multi-discrete", "state-dependent noise, value clip"]


@pytest.mark.parametrize("name", mostly_slow(SAMPLE, ["discrete", "box"]))
def test_a_bound_out_of_reach_leaves_the_unclipped_objective(name: str) -> None:
    ours = train(ESPO, SETTINGS[name], max_ratio_deviation=1e9, clip_range=1e9)
    assert_same_run(ours, ppo(name, clip_range=1e9))


class Watched(ESPO):
    """Keeps the mean ratio deviation of each minibatch, and the number of steps."""

    def learn(self, *arguments: Any, **kwargs: Any) -> "Watched":
        self.deviations: list[float] = []
        self.steps = 0
        return super().learn(*arguments, **kwargs)

    def _losses(self, batch: Any) -> Any:
        self.deviations.append(float(np.abs(batch.ratio.detach().numpy() - 1).mean()))
        return super()._losses(batch)

    def _should_stop(self, point: Any, stats: Any) -> Any:
        self.steps += point == "after_step"
        return super()._should_stop(point, stats)


def make(**arguments: Any) -> Watched:
    defaults = {"n_steps": 64, "batch_size": 16, "n_epochs": 50, "learning_rate": 1e-3, "seed": 0}
    return Watched("MlpPolicy", make_env(VECTOR, BOX), **(defaults | arguments))


@pytest.mark.parametrize("bound", [0.05, 0.25])
def test_it_ends_with_the_step_on_the_first_minibatch_beyond_the_bound(bound: float) -> None:
    model = make(max_ratio_deviation=bound).learn(64)
    assert model.deviations[-1] > bound
    assert all(deviation <= bound for deviation in model.deviations[:-1])
    assert model.steps == len(model.deviations), "the step on that minibatch is kept"
    logs = model.logger.name_to_value
    assert logs["train/stop_epoch"] == (model.steps - 1) // 4
    assert logs["train/stop_reason"] == StopRule.RATIO_DEVIATION


def test_the_first_minibatch_never_stops_it() -> None:
    assert make(max_ratio_deviation=1e-4).learn(64).deviations[0] == 0
    assert make(max_ratio_deviation=1e-4).learn(64).steps == 2


def test_epochs_are_the_upper_limit() -> None:
    model = make(n_epochs=2).learn(64)
    assert model.steps == 8
    assert "train/stop_reason" not in model.logger.name_to_value


def test_the_default_bound() -> None:
    assert make().max_ratio_deviation == 0.25
    with pytest.raises(ValueError, match="max_ratio_deviation"):
        make(max_ratio_deviation=0.0)
