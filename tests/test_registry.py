"""The registry: ids, own parameters, search spaces."""

import re
from typing import Any

import gymnasium as gym
import pytest
from sb3_contrib import TRPO
from stable_baselines3 import PPO

import sb3_ppo_variants
from sb3_ppo_variants.entries.constructors import constructor_parameters
from sb3_ppo_variants.registry import ALGORITHMS, VARIANTS, Algorithm, get_algorithm
from sb3_ppo_variants.search_space import Choice, FloatRange, IntRange, suggest
from sb3_ppo_variants.training.update_loop import UpdateLoop

LOOP_PARAMETERS = {
    "engine",
    "stop_critic",
    "critic_epochs",
    "critic_batch_size",
    "critic_learning_rate",
    "critic_gae_lambda",
    "critic_max_grad_norm",
    "critic_first",
    "recompute_advantages",
    "exploration_noise_color",
}
OWN_PARAMETERS = {
    "clip_ppo": {"clip_range_high": None, "dual_clip": None, "value_clip": "sb3"},
    "adaptive_clip_ppo": {
        "desired_kl": 0.01,
        "clip_factor": 1.5,
        "clip_range_min": 0.02,
        "clip_range_max": 0.5,
    },
    "kl_stop_ppo": {"max_kl": 0.02, "stop_at": "minibatch"},
    "trust_region_ppo": {"max_kl": 0.01, "shrink_factor": 0.8, "max_backtracks": 10},
    "kl_penalty_ppo": {
        "kl_coef": 1.0,
        "desired_kl": 0.01,
        "kl_coef_factor": 2.0,
        "kl_band": 1.5,
        "kl_coef_min": 1e-4,
        "kl_coef_max": 1e4,
    },
    "adaptive_lr_ppo": {
        "desired_kl": 0.01,
        "lr_factor": 1.5,
        "lr_min": 1e-5,
        "lr_max": 1e-2,
        "adapt_every": "epoch",
    },
    "spo": {},
    "truly_ppo": {"trigger": "kl", "rollback_coef": None, "kl_delta": 0.03},
    "trgppo": {"kl_delta": None},
    "espo": {"max_ratio_deviation": 0.25},
    "discovered_ppo": {"drift_alpha": 2.0, "drift_beta": 0.6},
    "rpo": {"rpo_alpha": 0.5},
    "ppo": {"clip_range": 0.2, "target_kl": None},
    "trpo": {
        "target_kl": 0.01,
        "cg_damping": 0.1,
        "cg_max_steps": 15,
        "n_critic_updates": 10,
        "line_search_shrinking_factor": 0.8,
    },
}


class CornerTrial:
    """Samples one corner of a space: the lowest, the highest, or the n-th option of everything."""

    def __init__(self, corner: int) -> None:
        self.corner = corner

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        assert low > 0 or not log
        return (low, high)[self.corner % 2]

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return (low, high)[self.corner % 2]

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[self.corner % len(choices)]


def test_variants_come_first_and_the_baselines_are_ppo_and_trpo() -> None:
    assert list(ALGORITHMS) == [*VARIANTS, "ppo", "trpo"]
    assert ALGORITHMS["ppo"].cls is PPO
    assert ALGORITHMS["trpo"].cls is TRPO
    assert [algorithm.id for algorithm in ALGORITHMS.values() if algorithm.is_baseline] == ["ppo", "trpo"]


@pytest.mark.parametrize("algorithm", VARIANTS.values(), ids=VARIANTS)
def test_id_is_the_snake_case_of_an_exported_class_and_the_name_of_its_file(algorithm: Algorithm) -> None:
    name = algorithm.cls.__name__
    words = re.findall(r"[A-Z][a-z]+|TRGPPO|[A-Z]+(?=PPO$)|[A-Z]+(?=[A-Z]|$)", name)
    assert "_".join(words).lower() == algorithm.id
    assert algorithm.cls.__module__ == f"sb3_ppo_variants.variants.{algorithm.id}"
    assert getattr(sb3_ppo_variants, name) is algorithm.cls


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_own_parameters_and_their_defaults(algorithm: Algorithm) -> None:
    assert algorithm.own_parameters == OWN_PARAMETERS[algorithm.id]


@pytest.mark.parametrize("corner", range(4))
@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_the_constructor_accepts_the_corners_of_the_search_space(algorithm: Algorithm, corner: int) -> None:
    own = suggest(CornerTrial(corner), algorithm.own_search_space)
    env = gym.make("Pendulum-v1" if algorithm.id == "rpo" else "CartPole-v1")  # RPO needs a Gaussian
    model = algorithm.cls("MlpPolicy", env, n_steps=64, batch_size=64, **own)
    for name in own.keys() - {"clip_range"}:
        assert getattr(model, name) == own[name]


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_the_default_lies_in_its_own_range(algorithm: Algorithm) -> None:
    parameters = constructor_parameters(algorithm.cls)
    assert algorithm.own_search_space
    for name, space in algorithm.own_search_space.items():
        default = parameters[name].default
        if isinstance(space, Choice):
            assert default in space.options
        else:
            assert isinstance(space, FloatRange | IntRange)
            assert space.low <= default <= space.high


def test_own_parameters_leave_out_those_of_sb3_and_of_the_shared_loop() -> None:
    class Loop(UpdateLoop):
        def __init__(self, policy: Any, env: Any, *, own: int = 3, gamma: float = 0.5, **kwargs: Any) -> None:
            super().__init__(policy, env, gamma=gamma, **kwargs)

    class LoopPPO(Loop, PPO):
        pass

    assert Algorithm("loop_ppo", LoopPPO, "", {}, is_baseline=False).own_parameters == {"own": 3}
    assert constructor_parameters(LoopPPO)["gamma"].default == 0.5  # the nearest class rules


def test_constructor_parameters_are_the_own_ones_and_those_behind_the_keywords() -> None:
    names = constructor_parameters(ALGORITHMS["kl_stop_ppo"].cls)
    assert set(names) == set(constructor_parameters(PPO)) | set(OWN_PARAMETERS["kl_stop_ppo"]) | LOOP_PARAMETERS
    assert "kwargs" not in names
    assert "n_epochs" not in constructor_parameters(TRPO)


def test_an_unknown_id_names_its_near_matches() -> None:
    with pytest.raises(ValueError, match=r"'clip_po'.*clip_ppo"):
        get_algorithm("clip_po")
    with pytest.raises(ValueError, match=r"'zzz'.*trust_region_ppo.*trpo"):
        get_algorithm("zzz")


def test_a_known_id_gives_its_algorithm() -> None:
    assert get_algorithm("trust_region_ppo").cls.__name__ == "TrustRegionPPO"
