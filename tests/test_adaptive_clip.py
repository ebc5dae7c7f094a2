"""AdaptiveClipPPO: the clip range moves against the measured KL, within bounds, and survives everything."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import ARRAY_ENGINES
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sb3_ppo_variants import AdaptiveClipPPO
from sb3_ppo_variants.testing import make_env

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}


class Scripted(AdaptiveClipPPO):
    """Measures what the script says instead of the policy's real KL."""

    def _measure_rollout(self) -> Any:
        script = self.__dict__["script"]
        return replace(super()._measure_rollout(), kl=script.pop(0))


def clip_ranges(script: list[float], cls: type[Scripted] = Scripted, **kwargs: Any) -> list[float]:
    """Return the clip range after each update of a scripted KL."""
    model = cls("MlpPolicy", make_env(), **(SMALL | kwargs))
    model.script = list(script)
    after = []
    for _ in script:
        before = model.adapted_clip_range
        model.learn(32, reset_num_timesteps=False)
        assert model.logger.name_to_value["train/clip_range"] == before, "the logged range is the one in force"
        after.append(model.adapted_clip_range)
    return after


def test_it_moves_against_the_kl_and_rests_in_between() -> None:
    # desired 0.01: above 0.015 shrink, below 1/150 grow
    script = [0.02, 0.0151, 0.0149, 0.01, 0.0067, 0.0066, 0.001]
    expected = [0.16, 0.128, 0.128, 0.128, 0.128, 0.16, 0.2]
    assert clip_ranges(script, desired_kl=0.01, clip_factor=1.25) == pytest.approx(expected)


def test_its_bounds_hold() -> None:
    bounds = {"clip_range_min": 0.1, "clip_range_max": 0.3, "clip_factor": 1.9}
    assert clip_ranges([1.0, 1.0, math.inf], **bounds) == pytest.approx([0.2 / 1.9, 0.1, 0.1])
    assert clip_ranges([1e-5, 1e-5], **bounds) == pytest.approx([0.3, 0.3])


def test_a_kl_of_zero_or_nan_moves_nothing() -> None:
    assert clip_ranges([0.0, math.nan]) == [0.2, 0.2]


@pytest.mark.parametrize("engine", ["torch", *ARRAY_ENGINES])
def test_it_shrinks_under_large_steps_and_grows_under_small_ones(engine: str) -> None:
    ends = []
    for rate in (0.03, 1e-5):
        model = AdaptiveClipPPO("MlpPolicy", make_env(), learning_rate=rate, engine=engine, **(SMALL | {"n_epochs": 5}))
        model.learn(4 * 32)
        ends.append(model.adapted_clip_range)
    assert ends[0] < 0.2 < ends[1]


def test_the_losses_see_the_adapted_range() -> None:
    seen = []

    class Watched(Scripted):
        def _surrogate(self, batch: Any) -> Any:
            seen.append(batch.clip_range)
            return super()._surrogate(batch)

    clip_ranges([1.0, 1.0], Watched, clip_factor=2.0)
    assert set(seen) == {0.2, 0.1}


def test_the_state_survives_saving_loading_and_set_parameters(tmp_path: Path) -> None:
    model = AdaptiveClipPPO("MlpPolicy", make_env(), learning_rate=0.03, **SMALL)
    model.learn(3 * 32)
    state = model.adapted_clip_range
    assert state != 0.2
    model.save(tmp_path / "model")
    loaded = AdaptiveClipPPO.load(tmp_path / "model", env=make_env(), device="cpu")
    assert loaded.adapted_clip_range == state
    loaded.set_parameters(AdaptiveClipPPO("MlpPolicy", make_env(), **SMALL).get_parameters())
    assert loaded.adapted_clip_range == state
    loaded.learn(32, reset_num_timesteps=False)
    assert loaded.logger.name_to_value["train/clip_range"] == state


def test_the_state_survives_custom_objects_of_rl_zoo(tmp_path: Path) -> None:
    model = AdaptiveClipPPO("MlpPolicy", make_env(), learning_rate=0.03, **SMALL)
    model.learn(3 * 32)
    model.save(tmp_path / "model")
    injected = {"learning_rate": 0.0, "lr_schedule": lambda _: 0.0, "clip_range": lambda _: 0.0}
    loaded = AdaptiveClipPPO.load(tmp_path / "model", custom_objects=injected, device="cpu")
    assert loaded.adapted_clip_range == model.adapted_clip_range


@pytest.mark.parametrize("start", [0.3, ConstantSchedule(0.3), FloatSchedule(0.3), lambda _: 0.3])
def test_a_constant_start_is_taken_in_any_form(start: Any) -> None:
    assert AdaptiveClipPPO("MlpPolicy", make_env(), clip_range=start, **SMALL).adapted_clip_range == 0.3


@pytest.mark.parametrize("start", [LinearSchedule(0.3, 0.0, 1.0), lambda remaining: 0.1 + remaining * 0.1])
def test_a_schedule_that_changes_is_refused(start: Any) -> None:
    with pytest.raises(ValueError, match="clip_range must be constant"):
        AdaptiveClipPPO("MlpPolicy", make_env(), clip_range=start, **SMALL)


def test_what_is_no_number_and_no_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match=r"clip_range='lin_0\.2'"):
        AdaptiveClipPPO("MlpPolicy", make_env(), clip_range="lin_0.2", **SMALL)
