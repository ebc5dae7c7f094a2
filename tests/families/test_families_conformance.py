"""Every variant in every family: it learns, saves, loads, goes on as if nothing had happened, and refuses clearly."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from families_helpers import FAMILIES, LSTM, class_of, make_masked_env, make_model
from helpers import DenseExtractor, contract_of, differing, mostly_slow, tensors_of
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants import (
    MaskableClipPPO,
    MaskableRecurrentClipPPO,
    MaskableRecurrentRPO,
    MaskableRPO,
    RecurrentClipPPO,
    RecurrentKLStopPPO,
    families,
)
from sb3_ppo_variants.registry import VARIANTS
from sb3_ppo_variants.testing import BOX, DICT, MULTI_DISCRETE, VECTOR, make_env

VARIANT_NAMES = [variant.cls.__name__ for variant in VARIANTS.values()]
FORMS = [
    (family, variant) for family in FAMILIES for variant in VARIANT_NAMES if variant != "RPO" or family == "Recurrent"
]
# Far from neutral, so that states are adapted and stops, triggers and penalties act
LIVELY = {"learning_rate": 0.01, "ent_coef": 0.01}
_DIAGNOSTICS = ("kl", "effective_sample_size", "ratio_q05", "ratio_q95", "zero_gradient_fraction", "epochs")


# One form with masks and memory, but for what it has from SB3; every check on all with the slow tests
_ALWAYS = ("MaskableRecurrentKLPenaltyPPO",)
_OF_SB3 = (
    "image_observations", "vec_normalize", "evaluate_policy", "get_and_set_parameters", "custom_objects",
    "saved_file_holds_nothing_big", "progress_bar", "tensorboard", "non_finite_reward", "non_finite_advantage",
    "non_finite_gradient",
)  # fmt: skip
for _family, _variant in FORMS:
    _form = f"{_family}{_variant}"
    _contract = contract_of(getattr(families, _form), _OF_SB3)
    _contract.pytestmark = [] if _form in _ALWAYS else [pytest.mark.slow]
    globals()[_contract.__name__] = _contract


def env_for(family: str, n_envs: int = 2) -> VecEnv:
    """Return an environment with Dict observations, and Box actions where the family takes them."""
    if family == "Recurrent":
        return make_env(DICT, BOX, n_envs=n_envs)
    return make_masked_env(DICT, MULTI_DISCRETE, n_envs)


def plain_attributes(model: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(model).items()
        if isinstance(value, (bool, int, float, str)) and name != "start_time"
    }


# Each family, with variants that measure, adapt, stop and draw; the others with the slow tests
_TELLING = [
    ("Maskable", "TrustRegionPPO"),
    ("Recurrent", "AdaptiveClipPPO"),
    ("Recurrent", "RPO"),
    ("MaskableRecurrent", "KLStopPPO"),
]


@pytest.mark.parametrize(("family", "variant"), mostly_slow(FORMS, _TELLING))
def test_a_form_learns_saves_loads_and_goes_on(family: str, variant: str, tmp_path: Path) -> None:
    cls = class_of(family, variant)
    # The last of the minibatches has one sample
    model = make_model(cls, env_for(family, 1), n_steps=17, batch_size=8, **LIVELY)
    assert model.engine_in_use == "torch"
    before = tensors_of(model)
    model.learn(2 * 17)
    logged = model.logger.name_to_value
    assert all(math.isfinite(logged[f"train/{name}"]) for name in _DIAGNOSTICS)
    assert logged["train/kl"] > 0
    assert differing(before, {name: tensors_of(model)[name] for name in before})

    model.save(tmp_path / "model")
    loaded = cls.load(tmp_path / "model", env=env_for(family, 1), device="cpu")
    assert type(loaded) is cls
    for one in (model, loaded):
        one.set_env(env_for(family, 1))
        one.set_random_seed(5)
        one.learn(17, reset_num_timesteps=False)
    assert differing(tensors_of(model), tensors_of(loaded)) == []
    assert plain_attributes(model) == plain_attributes(loaded)


@pytest.mark.parametrize("variant", mostly_slow(["TrustRegionPPO", "KLPenaltyPPO"], ["TrustRegionPPO"]))
@pytest.mark.parametrize("kwargs", [{"shared_lstm": True, "enable_critic_lstm": False}, {"enable_critic_lstm": False}])
@pytest.mark.parametrize("family", mostly_slow(["Recurrent", "MaskableRecurrent"], ["MaskableRecurrent"]))
def test_the_critic_may_share_the_lstm_or_have_none(family: str, kwargs: dict[str, Any], variant: str) -> None:
    env = make_env() if family == "Recurrent" else make_masked_env()
    model = make_model(class_of(family, variant), env, policy_kwargs=LSTM["policy_kwargs"] | kwargs, **LIVELY)
    assert math.isfinite(model.learn(64).logger.name_to_value["train/kl"])


@pytest.mark.parametrize("family", ["Recurrent", "MaskableRecurrent"])
def test_the_short_policy_names_of_the_other_classes_mean_the_recurrent_policies(family: str) -> None:
    aliases = class_of(family, "ClipPPO").policy_aliases
    for name in PPO.policy_aliases:
        assert aliases[name] is aliases[name.replace("Policy", "LstmPolicy")]


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [MaskableRPO, MaskableRecurrentRPO])
def test_rpo_has_no_masked_form(cls: type) -> None:
    with pytest.raises(ValueError, match=r"RPO shifts the mean of a Gaussian \(else use ClipPPO\).*Maskable"):
        make_model(cls, make_masked_env())


@pytest.mark.parametrize("family", ["Maskable", "MaskableRecurrent"])
def test_masks_refuse_continuous_actions_and_their_noise(family: str) -> None:
    cls = class_of(family, "ClipPPO")
    for env in ("Pendulum-v1", make_env(VECTOR, BOX)):
        with pytest.raises(ValueError, match=rf"{family}ClipPPO masks Discrete.*not Box.*without masks"):
            cls("MlpPolicy", env)
    with pytest.raises(ValueError, match=r"use_sde=True.*leave it out"):
        cls("MlpPolicy", make_masked_env(), use_sde=True)
    assert not cls("MlpPolicy", make_masked_env(), use_sde=False, sde_sample_freq=4, device="cpu").use_sde


@pytest.mark.parametrize("family", ["Maskable", "MaskableRecurrent"])
def test_an_environment_without_masks_is_refused(family: str) -> None:
    model = make_model(class_of(family, "ClipPPO"), make_env())
    with pytest.raises(ValueError, match=r"action.mask"):
        model.learn(32)


def test_masks_can_be_left_out_in_training_as_with_sb3_contrib() -> None:
    model = make_model(MaskableClipPPO, make_env()).learn(32, use_masking=False)
    assert (model.rollout_buffer.action_masks == 1).all()


def test_a_policy_that_knows_no_masks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"LstmPolicy knows no masks: use one of MlpLstmPolicy"):
        MaskableRecurrentClipPPO(RecurrentClipPPO.policy_aliases["MlpLstmPolicy"], make_masked_env())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_numpy_engine_says_why_it_cannot(family: str) -> None:
    env = make_env() if family == "Recurrent" else make_masked_env()
    with pytest.raises(ValueError, match=r"engine='numpy' cannot run this model: .*Use engine='auto' or 'torch'"):
        make_model(class_of(family, "SPO"), env, engine="numpy")
    assert make_model(class_of(family, "SPO"), env, engine="auto").engine_in_use == "torch"


def test_the_checks_of_a_variant_hold_in_its_forms() -> None:
    with pytest.raises(ValueError, match="max_kl=-1"):
        make_model(RecurrentKLStopPPO, make_env(), max_kl=-1)
    shared = LSTM["policy_kwargs"] | {"features_extractor_class": DenseExtractor}
    with pytest.raises(ValueError, match="stop_critic=False"):
        make_model(RecurrentKLStopPPO, make_env(), stop_critic=False, policy_kwargs=shared)


def test_the_classes_of_the_families_name_their_variant() -> None:
    for family in FAMILIES:
        for variant in VARIANT_NAMES:
            assert re.match(rf"{variant} with (action masks|memory)", class_of(family, variant).__doc__ or "")
    assert families.__doc__


def test_predictions_need_no_masks_and_keep_none() -> None:
    model = make_model(MaskableRecurrentClipPPO, make_masked_env())
    observations = np.zeros((3, 4), dtype=np.float32)
    free, _ = model.predict(observations, deterministic=True)
    assert free.shape == (3,)
    others = np.arange(3) != free[:, None]
    assert (model.predict(observations, deterministic=True, action_masks=others)[0] != free).all()
    assert (model.predict(observations, deterministic=True)[0] == free).all()
