"""The constructors: PPOKwargs holds SB3's arguments, own ones are keyword-only and checked before any work."""

import inspect
from typing import Any, get_type_hints

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import Schedule

from sb3_ppo_variants import AdaptiveClipPPO, ClipPPO, KLStopPPO, TrustRegionPPO, UpdateLoop
from sb3_ppo_variants.registry import VARIANTS
from sb3_ppo_variants.testing import make_env
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs

CLASSES = [VARIANTS[algorithm_id].cls for algorithm_id in VARIANTS]


def test_ppo_kwargs_are_sb3s_arguments_with_sb3s_types() -> None:
    theirs = {
        name: parameter.annotation
        for name, parameter in inspect.signature(PPO.__init__).parameters.items()
        if name not in ("self", "policy", "env")
    }
    ours = get_type_hints(PPOKwargs)
    assert list(ours) == list(theirs)
    assert ours == theirs | dict.fromkeys(("ent_coef", "vf_coef"), float | Schedule)


@pytest.mark.parametrize("cls", CLASSES)
def test_constructors_take_policy_and_env_by_position_and_own_arguments_by_name(cls: type[UpdateLoop]) -> None:
    parameters = list(inspect.signature(cls.__init__).parameters.values())
    assert [parameter.name for parameter in parameters[:3]] == ["self", "policy", "env"]
    assert parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    for own in parameters[3:-1]:
        assert own.kind is inspect.Parameter.KEYWORD_ONLY
        assert own.name not in inspect.signature(PPO.__init__).parameters, "SB3's names keep SB3's meaning"
        documented = f":param {own.name}:" in f"{cls.__doc__}{UpdateLoop.__doc__}"
        assert documented, f"{own.name} is not documented"


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("cls", "arguments", "named"),
    [
        (ClipPPO, {"clip_range_high": 0.0}, "clip_range_high=0.0"),
        (ClipPPO, {"clip_range_high": -0.1}, "clip_range_high=-0.1"),
        (ClipPPO, {"clip_range_high": NAN}, "clip_range_high=nan"),
        (ClipPPO, {"clip_range_high": "0.2"}, "clip_range_high='0.2'"),
        (ClipPPO, {"dual_clip": 1.0}, "dual_clip=1.0"),
        (ClipPPO, {"dual_clip": INF}, "dual_clip=inf"),
        (ClipPPO, {"value_clip": "min"}, "value_clip='min'"),
        (ClipPPO, {"value_clip": "max"}, "value_clip='max'"),
        (AdaptiveClipPPO, {"desired_kl": 0.0}, "desired_kl=0.0"),
        (AdaptiveClipPPO, {"desired_kl": True}, "desired_kl=True"),
        (AdaptiveClipPPO, {"clip_factor": 1.0}, "clip_factor=1.0"),
        (AdaptiveClipPPO, {"clip_range_min": 0.0}, "clip_range_min=0.0"),
        (AdaptiveClipPPO, {"clip_range_max": 1.0}, "clip_range_max=1.0"),
        (AdaptiveClipPPO, {"clip_range_min": 0.3, "clip_range_max": 0.2}, "clip_range_max=0.2"),
        (AdaptiveClipPPO, {"clip_range": 0.01}, "clip_range=0.01"),
        (AdaptiveClipPPO, {"clip_range": 0.6}, "clip_range=0.6"),
        (KLStopPPO, {"max_kl": 0.0}, "max_kl=0.0"),
        (KLStopPPO, {"max_kl": None}, "max_kl=None"),
        (KLStopPPO, {"stop_at": "step"}, "stop_at='step'"),
        (KLStopPPO, {"stop_critic": None}, "stop_critic=None"),
        (TrustRegionPPO, {"max_kl": -1.0}, "max_kl=-1.0"),
        (TrustRegionPPO, {"shrink_factor": 0.0}, "shrink_factor=0.0"),
        (TrustRegionPPO, {"shrink_factor": 1.0}, "shrink_factor=1.0"),
        (TrustRegionPPO, {"max_backtracks": -1}, "max_backtracks=-1"),
        (TrustRegionPPO, {"max_backtracks": 2.5}, "max_backtracks=2.5"),
        (TrustRegionPPO, {"max_backtracks": True}, "max_backtracks=True"),
    ],
)
def test_a_parameter_outside_its_range_is_refused_by_name(cls: Any, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        cls("MlpPolicy", "no environment is made before the check", **arguments)


def test_numpys_numbers_are_numbers() -> None:
    model = TrustRegionPPO(
        "MlpPolicy", make_env(), n_steps=32, batch_size=32, max_kl=np.float32(0.5), max_backtracks=np.int64(3)
    )
    model.learn(32)


def test_zero_backtracks_and_equal_bounds_are_allowed() -> None:
    TrustRegionPPO("MlpPolicy", make_env(), max_backtracks=0)
    AdaptiveClipPPO("MlpPolicy", make_env(), clip_range_min=0.2, clip_range_max=0.2)
