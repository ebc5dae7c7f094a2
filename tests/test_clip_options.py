"""ClipPPO's own options: asymmetric clip, dual clip, pessimistic value loss. Golden numbers through the model."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch as th
from helpers import differing, tensors_of

from sb3_ppo_variants import ClipPPO
from sb3_ppo_variants.testing import make_env

SMALL: dict[str, Any] = {"n_steps": 64, "batch_size": 32, "n_epochs": 4, "seed": 0, "device": "cpu"}


def batch_of(**columns: Any) -> Any:
    tensors = {name: th.tensor(values) for name, values in columns.items() if isinstance(values, list)}
    return SimpleNamespace(**(columns | tensors))


RATIOS = [0.5, 0.9, 1.1, 1.25, 1.5, 4.0]


@pytest.mark.parametrize(
    ("options", "sign", "expected"),
    [
        ({}, 1.0, [0.5, 0.9, 1.1, 1.2, 1.2, 1.2]),
        ({}, -1.0, [-0.8, -0.9, -1.1, -1.25, -1.5, -4.0]),
        ({"clip_range_high": 0.28}, 1.0, [0.5, 0.9, 1.1, 1.25, 1.28, 1.28]),
        ({"clip_range_high": 0.28}, -1.0, [-0.8, -0.9, -1.1, -1.25, -1.5, -4.0]),
        ({"clip_range_high": 0.05}, 1.0, [0.5, 0.9, 1.05, 1.05, 1.05, 1.05]),
        ({"dual_clip": 3.0}, 1.0, [0.5, 0.9, 1.1, 1.2, 1.2, 1.2]),
        ({"dual_clip": 3.0}, -1.0, [-0.8, -0.9, -1.1, -1.25, -1.5, -3.0]),
        ({"clip_range_high": 0.28, "dual_clip": 1.4}, -1.0, [-0.8, -0.9, -1.1, -1.25, -1.4, -1.4]),
    ],
)
def test_the_objective_of_each_option(options: dict[str, float], sign: float, expected: list[float]) -> None:
    model = ClipPPO("MlpPolicy", make_env(), clip_range=0.2, **options, **SMALL)
    batch = batch_of(ratio=RATIOS, advantages=[sign] * len(RATIOS), clip_range=0.2)
    assert model._surrogate(batch).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "sb3", "pessimistic"),
    [
        (0.3, 0.09, 0.09),  # inside the clip range: no difference
        (2.0, 0.25, 4.0),  # moved away from the return: SB3 no longer sees it
        (-2.0, 0.25, 4.0),
    ],
)
def test_the_value_loss_of_each_form(value: float, sb3: float, pessimistic: float) -> None:
    batch = batch_of(values=[value], old_values=[0.0], returns=[0.0], clip_range_vf=0.5)
    for form, expected in (("sb3", sb3), ("max", pessimistic)):
        model = ClipPPO("MlpPolicy", make_env(), clip_range_vf=0.5, value_clip=form, **SMALL)
        assert model._value_loss(batch).item() == pytest.approx(expected)


def test_a_value_that_moved_too_far_toward_the_return_is_not_rewarded() -> None:
    batch = batch_of(values=[2.0], old_values=[0.0], returns=[3.0], clip_range_vf=0.5)
    for form in ("sb3", "max"):
        model = ClipPPO("MlpPolicy", make_env(), clip_range_vf=0.5, value_clip=form, **SMALL)
        assert model._value_loss(batch).item() == pytest.approx(6.25)


@pytest.mark.parametrize(
    "options",
    [{"clip_range_high": 0.5}, {"clip_range_high": 0.01}, {"dual_clip": 1.01}, {"value_clip": "max"}],
    ids=str,
)
def test_each_option_changes_training(options: dict[str, Any]) -> None:
    runs = []
    for extra in ({}, options):
        model = ClipPPO("MlpPolicy", make_env(), learning_rate=0.01, clip_range_vf=0.05, **extra, **SMALL)
        model.learn(64)
        runs.append(tensors_of(model))
    changed = differing(*runs)
    part = "value" if "value_clip" in options else "action_net"
    assert any(part in name for name in changed)


def test_value_clip_max_without_a_range_is_refused() -> None:
    with pytest.raises(ValueError, match="clip_range_vf"):
        ClipPPO("MlpPolicy", make_env(), value_clip="max", **SMALL)
