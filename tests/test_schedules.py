"""Options that take a number or a schedule: when it is taken, what is refused, and that it is kept.

That every option of every class follows its schedule is one of the conformance suite's checks.
"""

import io
from typing import Any

import pytest
from helpers import ARRAY_ENGINES
from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule

from sb3_ppo_variants import (
    ESPO,
    RPO,
    AdaptiveClipPPO,
    AdaptiveLRPPO,
    ClipPPO,
    KLPenaltyPPO,
    KLStopPPO,
    TrulyPPO,
    TrustRegionPPO,
)
from sb3_ppo_variants.testing import BOX, VECTOR, make_env
from sb3_ppo_variants.testing.checks.schedules import check_schedules
from sb3_ppo_variants.testing.variant import Variant

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 8, "n_epochs": 2, "seed": 0, "device": "cpu"}


def make(cls: Any, **kwargs: Any) -> Any:
    return cls("MlpPolicy", make_env(VECTOR, BOX), **(SMALL | kwargs))


def reloaded(model: Any, **kwargs: Any) -> Any:
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    return type(model).load(file, env=make_env(VECTOR, BOX), device="cpu", **kwargs)


class Logged:
    """A callback that keeps a value that each update but the last one logged."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.values: dict[int, float] = {}

    def __call__(self, names: dict[str, Any], _: Any) -> bool:
        logged = names["self"].logger.name_to_value
        if self.key in logged:
            self.values[names["self"]._n_updates] = logged[self.key]
        return True


@pytest.mark.parametrize("engine", ["torch", *ARRAY_ENGINES])
def test_an_update_takes_a_schedule_once_at_its_start(engine: str) -> None:
    asked: list[float] = []

    def schedule(progress: float) -> float:
        asked.append(progress)
        return 0.01 + progress

    model = make(ClipPPO, ent_coef=schedule, engine=engine)
    asked.clear()
    model.learn(64)
    assert asked == [1.0, 0.0, 0.75, 0.5, 0.25, 0.0], "checked at both ends, then once for each update"
    assert model.logger.name_to_value["train/ent_coef"] == 0.01


@pytest.mark.parametrize("engine", ARRAY_ENGINES)
@pytest.mark.parametrize(
    ("cls", "kwargs"),
    [
        (ClipPPO, {"critic_epochs": 2, "critic_learning_rate": 0.01}),
        (TrulyPPO, {"kl_delta": 1e-4}),
        (ESPO, {"max_ratio_deviation": 1e-3}),
        (RPO, {}),
    ],
)
def test_engines_on_arrays_read_the_same_numbers(engine: str, cls: Any, kwargs: dict[str, Any]) -> None:
    check_schedules(Variant(cls, {"engine": engine, **kwargs}))


def test_only_schedules_are_logged_beside_what_is_always() -> None:
    keys = {"train/ent_coef", "train/vf_coef", "train/max_kl"}
    assert not keys & make(KLStopPPO).learn(16).logger.name_to_value.keys()
    logged = make(KLStopPPO, max_kl=ConstantSchedule(0.5)).learn(16).logger.name_to_value
    assert keys & logged.keys() == {"train/max_kl"}


def test_file_and_attributes_keep_the_schedule_and_its_value() -> None:
    model = make(KLStopPPO, max_kl=LinearSchedule(0.4, 0.1, 1.0)).learn(48)
    model.learn(16, reset_num_timesteps=False)
    loaded = reloaded(model)
    assert loaded.max_kl(0.5) == 0.25
    assert loaded._current("max_kl") == model._current("max_kl") == pytest.approx(0.1)
    assert loaded.learn(32).logger.name_to_value["train/max_kl"] == pytest.approx(0.1)
    for other in (
        reloaded(model, max_kl=LinearSchedule(0.2, 0.1, 1.0)),
        reloaded(model, custom_objects={"max_kl": LinearSchedule(0.2, 0.1, 1.0)}),
    ):
        other.set_parameters(model.get_parameters())
        assert other.max_kl(1.0) == 0.2
    model.max_kl = lambda progress: 0.3 + progress
    assert model.learn(16).logger.name_to_value["train/max_kl"] == 0.3
    model.max_kl = 0.7
    assert "train/max_kl" not in model.learn(16).logger.name_to_value


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda progress: progress - 0.5, r"max_kl=-0\.5 .its schedule at progress_remaining=0.* above 0"),
        (LinearSchedule(0.0, 0.1, 1.0), r"max_kl=0\.0 .its schedule at progress_remaining=1.* above 0"),
        (ConstantSchedule(0.0), "max_kl=0"),
        (lambda _: float("nan"), "max_kl=nan"),
        (lambda _: "high", "max_kl=.*is no schedule"),
        (lambda: 0.1, "max_kl=.*is no schedule.*argument"),
        ("lin_0.1", "max_kl='lin_0.1'"),
    ],
)
def test_a_schedule_out_of_range_is_refused_wherever_it_arrives(schedule: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KLStopPPO("MlpPolicy", "no environment is made before the check", max_kl=schedule)
    model = make(KLStopPPO)
    with pytest.raises(ValueError, match=message):
        reloaded(model, max_kl=schedule)
    model.max_kl = schedule
    with pytest.raises(ValueError, match=message):
        model.learn(16)


def test_what_no_end_shows_is_refused_before_the_update_that_meets_it() -> None:
    model = make(ClipPPO, vf_coef=lambda progress: float("nan") if progress == 0.5 else 0.5)
    with pytest.raises(ValueError, match=r"vf_coef=nan .its schedule at progress_remaining=0\.5"):
        model.learn(32)
    assert model._n_updates == 0


@pytest.mark.parametrize("name", ["ent_coef", "vf_coef"])
def test_weights_of_the_loss_have_to_be_numbers(name: str) -> None:
    for value in (None, "0.1", float("inf")):
        with pytest.raises(ValueError, match=f"{name}="):
            ClipPPO("MlpPolicy", "no environment is made before the check", **{name: value})
    ClipPPO("MlpPolicy", None, _init_setup_model=False, **{name: -0.1})  # SB3 takes it


def test_a_limit_may_fall_to_zero_and_the_last_rollout_go_beyond_the_end() -> None:
    for schedule in (LinearSchedule(0.01, 0.0, 1.0), lambda progress: 0.01 * progress):
        model = make(TrustRegionPPO, max_kl=schedule, learning_rate=0.01)
        logged = model.learn(40).logger.name_to_value  # 48 steps are made
        assert logged["train/max_kl"] == 1e-8
        assert logged["train/kl"] <= 1e-8
        assert model._current_progress_remaining < 0


def test_a_bound_that_closes_in_takes_the_adapted_value_along() -> None:
    clip_range = Logged("train/clip_range")
    fast = {"desired_kl": 1e3, "clip_factor": 10.0}
    model = make(AdaptiveClipPPO, clip_range_max=LinearSchedule(0.5, 0.1, 1.0), **fast)
    model.learn(64, callback=clip_range)
    assert list(clip_range.values.values()) == pytest.approx([0.2, 0.3, 0.2])
    assert model.logger.name_to_value["train/clip_range"] == pytest.approx(0.1)
    assert reloaded(model).learn(16).adapted_clip_range == pytest.approx(0.1), "it started within the bounds"


def test_the_learning_rate_keeps_within_bounds_that_change() -> None:
    model = make(AdaptiveLRPPO, lr_max=LinearSchedule(1e-2, 1e-3, 1.0), desired_kl=1e3, lr_factor=100.0)
    assert model.learn(64).adapted_learning_rate == pytest.approx(1e-3)
    assert model.logger.name_to_value["train/learning_rate"] == pytest.approx(1e-3)


@pytest.mark.parametrize("engine", ["torch", *ARRAY_ENGINES])
def test_a_coefficient_that_nothing_adapts_follows_a_schedule(engine: str) -> None:
    model = make(KLPenaltyPPO, kl_coef=LinearSchedule(3.0, 0.0, 1.0), kl_coef_factor=1, engine=engine)
    assert model.needs_old_distribution
    model.learn(32)
    assert model._n_updates == 4
    assert (model.adapted_kl_coef, model.logger.name_to_value["train/kl_coef"]) == (0.0, 0.0)
    model.learn(48).learn(16, reset_num_timesteps=False)
    middle = make(KLPenaltyPPO, kl_coef=LinearSchedule(3.0, 1.0, 1.0), kl_coef_factor=1, engine=engine)
    coefficients = Logged("train/kl_coef")
    middle.learn(64, callback=coefficients)
    assert list(coefficients.values.values()) == [2.5, 2.0, 1.5]
    assert reloaded(middle).adapted_kl_coef == 1.0


def test_a_coefficient_that_is_adapted_follows_none() -> None:
    with pytest.raises(ValueError, match="kl_coef must be constant"):
        make(KLPenaltyPPO, kl_coef=LinearSchedule(3.0, 1.0, 1.0))
    assert make(KLPenaltyPPO, kl_coef=ConstantSchedule(3.0)).adapted_kl_coef == 3.0
