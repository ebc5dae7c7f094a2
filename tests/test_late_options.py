"""Options that arrive after the constructor, by load, set_parameters or an attribute: checked and derived the same."""

import io
from typing import Any

import pytest
from helpers import mostly_slow
from stable_baselines3 import PPO

import sb3_ppo_variants as package
from sb3_ppo_variants import AdaptiveClipPPO, AdaptiveLRPPO, ClipPPO, KLPenaltyPPO, KLStopPPO, TrulyPPO
from sb3_ppo_variants.testing import BOX, VECTOR, make_env

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}
NONSENSE = [
    ("KLStopPPO", {"max_kl": -1}, "max_kl=-1"),
    ("KLStopPPO", {"stop_at": "never"}, "stop_at='never'"),
    ("TrustRegionPPO", {"max_kl": float("nan")}, "max_kl=nan"),
    ("TrustRegionPPO", {"shrink_factor": 2.0}, "shrink_factor=2.0"),
    ("TrustRegionPPO", {"max_backtracks": 1.5}, "max_backtracks=1.5"),
    ("AdaptiveLRPPO", {"adapt_every": "nonsense"}, "adapt_every='nonsense'"),
    ("AdaptiveLRPPO", {"learning_rate": 1.0}, "learning_rate=1.0"),
    ("AdaptiveClipPPO", {"clip_factor": 0.5}, "clip_factor=0.5"),
    ("AdaptiveClipPPO", {"clip_range": 0.9}, "clip_range=0.9"),
    ("KLPenaltyPPO", {"kl_coef": 1e9}, "kl_coef=1000000000.0"),
    ("TrulyPPO", {"trigger": "foo"}, "trigger='foo'"),
    ("TRGPPO", {"kl_delta": 0.0}, "kl_delta=0.0"),
    ("ESPO", {"max_ratio_deviation": 0.0}, "max_ratio_deviation=0.0"),
    ("DiscoveredPPO", {"normalize_advantage": False}, "normalize_advantage=False"),
    ("RPO", {"rpo_alpha": -0.1}, "rpo_alpha=-0.1"),
    ("ClipPPO", {"engine": "nonsense"}, "engine='nonsense'"),
    ("ClipPPO", {"dual_clip": 0.5}, "dual_clip=0.5"),
    ("ClipPPO", {"value_clip": "max"}, "value_clip='max'"),
    ("ClipPPO", {"critic_epochs": -1}, "critic_epochs=-1"),
    ("ClipPPO", {"exploration_noise_color": -0.5}, "exploration_noise_color=-0.5"),
    ("ClipPPO", {"n_epochs": 0}, "n_epochs=0"),
    ("ClipPPO", {"batch_size": 16.0}, r"batch_size=16\.0"),
    ("ClipPPO", {"batch_size": None}, "batch_size=None"),
    ("ClipPPO", {"max_grad_norm": float("nan")}, "max_grad_norm=nan"),
    ("ClipPPO", {"max_grad_norm": -0.5}, "max_grad_norm=-0.5"),
    ("ClipPPO", {"n_steps": 16.5}, r"n_steps=16\.5"),
    ("ClipPPO", {"ent_coef": "lin_0.1"}, "ent_coef='lin_0.1'"),
    ("RecurrentClipPPO", {"batch_size": 0}, "batch_size=0"),
]


def make(cls: Any, **kwargs: Any) -> Any:
    return cls("MlpPolicy", make_env(VECTOR, BOX), **(SMALL | kwargs))


def reloaded(model: Any, cls: Any = None, **kwargs: Any) -> Any:
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    return (cls or type(model)).load(file, env=make_env(VECTOR, BOX), device="cpu", **kwargs)


@pytest.mark.parametrize(("name", "options", "named"), NONSENSE, ids=[f"{n}, {o}" for n, o, _ in NONSENSE])
def test_nonsense_is_refused_wherever_it_arrives(name: str, options: dict[str, Any], named: str) -> None:
    cls = getattr(package, name)
    model = make(cls)
    for attempt in (
        lambda: cls("MlpPolicy", "no environment is made before the check", **options),
        lambda: reloaded(model, **options),
        lambda: reloaded(model, custom_objects=options),
    ):
        with pytest.raises(ValueError, match=named):
            attempt()
    for option, value in options.items():
        setattr(model, option, value)
    with pytest.raises(ValueError, match=named):
        model.learn(16)


def test_an_unknown_name_is_refused_with_the_near_one() -> None:
    with pytest.raises(ValueError, match=r"no option 'max_KL'.*max_kl"):
        reloaded(make(KLStopPPO), max_KL=0.5)
    assert reloaded(make(KLStopPPO), max_kl=0.5, n_steps=32, tensorboard_log=None).n_steps == 32


@pytest.mark.parametrize(
    ("cls", "before", "after"),
    [
        (AdaptiveLRPPO, {"adapt_every": "epoch"}, {"adapt_every": "minibatch"}),
        (TrulyPPO, {"trigger": "ratio"}, {"trigger": "kl"}),
        (KLPenaltyPPO, {"kl_coef": 0}, {"kl_coef": 1.0}),
        (KLPenaltyPPO, {"kl_coef": 0}, {"adapted_kl_coef": 1.0}),
    ],
)
@pytest.mark.parametrize("engine", mostly_slow(["torch", "auto"], ["auto"]))
def test_what_an_option_needs_follows_it(cls: Any, before: Any, after: Any, engine: str) -> None:
    model = make(cls, engine=engine, **before)
    assert not model.needs_old_distribution
    assert reloaded(model, **after).learn(16).needs_old_distribution
    for option, value in after.items():
        setattr(model, option, value)
    assert model.learn(16).needs_old_distribution


STEERED = [
    (AdaptiveLRPPO, "learning_rate", 1e-3, 2e-5, {"desired_kl": 1e-9}),
    (AdaptiveClipPPO, "clip_range", 0.2, 0.05, {"desired_kl": 1e-9}),
    (KLPenaltyPPO, "kl_coef", 1.0, 7.0, {"desired_kl": 1e-9}),
]


@pytest.mark.parametrize(("cls", "option", "base", "other", "kwargs"), STEERED)
def test_an_adapted_value_goes_on_unless_another_base_is_asked_for(
    cls: Any, option: str, base: float, other: float, kwargs: Any
) -> None:
    model = make(cls, **{option: base}, **kwargs).learn(32)
    adapted = getattr(model, f"adapted_{option}")
    assert adapted != base
    assert getattr(reloaded(model), f"adapted_{option}") == adapted
    assert getattr(reloaded(model, **{option: base}), f"adapted_{option}") == adapted  # given is not changed
    assert getattr(reloaded(model, **{option: other}), f"adapted_{option}") == other
    setattr(model, option, other)
    before_the_update: list[float] = []
    model.learn(16, callback=lambda values, _: before_the_update.append(getattr(model, f"adapted_{option}")) or True)
    assert before_the_update[0] == other


@pytest.mark.parametrize(("cls", "option", "base", "other", "kwargs"), STEERED[:2])
def test_a_file_of_ppo_gives_the_start(cls: Any, option: str, base: float, other: float, kwargs: Any) -> None:
    model = reloaded(make(PPO, **{option: other}), cls)
    assert getattr(model, f"adapted_{option}") == other
    assert model.learn(16).logger.name_to_value[f"train/{option}"] == other


def test_a_file_of_ppo_whose_rate_changes_is_no_start_of_a_controller() -> None:
    with pytest.raises(ValueError, match="learning_rate must be constant"):
        reloaded(make(PPO, learning_rate=lambda progress: 1e-3 * progress), AdaptiveLRPPO)


def test_set_parameters_brings_the_rate_that_was_reached() -> None:
    old = make(AdaptiveLRPPO, desired_kl=1e-9).learn(64)
    new = make(AdaptiveLRPPO, n_steps=32, desired_kl=1e-9)
    new.set_parameters(old.get_parameters())
    assert new.adapted_learning_rate == old.adapted_learning_rate != 3e-4


@pytest.mark.parametrize(("cls", "option", "base", "other", "kwargs"), STEERED[:2])
def test_a_model_that_is_loaded_to_be_watched_may_have_its_options_switched_off(
    cls: Any, option: str, base: float, other: float, kwargs: Any
) -> None:
    """rl_zoo3 does so; what was adapted goes on."""
    off = {"learning_rate": 0.0, "lr_schedule": lambda _: 0.0, "clip_range": lambda _: 0.0}
    original = make(cls, **kwargs).learn(32)
    model = reloaded(original, custom_objects=off)
    assert getattr(model, f"adapted_{option}") == getattr(original, f"adapted_{option}")
    model.learn(16)


def test_a_critic_of_its_own_can_begin_late() -> None:
    model = make(ClipPPO).learn(16)
    model.critic_epochs = 2
    assert model.learn(16).logger.name_to_value["train/critic_epochs"] == 2
    model.critic_epochs = None
    assert "train/critic_learning_rate" not in model.learn(16).logger.name_to_value
