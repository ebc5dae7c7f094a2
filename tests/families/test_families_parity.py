"""At neutral settings the families are sb3-contrib's classes bit for bit: parameters, moments, logs, random draws."""

from collections.abc import Callable
from typing import Any

import pytest
from families_helpers import SMALL_LSTM, make_masked_env
from helpers import Setting, assert_same_run, train
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.families import MaskableClipPPO, RecurrentClipPPO
from sb3_ppo_variants.testing import BOX, DICT, DISCRETE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, make_env

LSTM: dict[str, Any] = {"policy_kwargs": SMALL_LSTM}


def _masked(*arguments: Any) -> Callable[[], VecEnv]:
    return lambda: make_masked_env(*arguments)


def _plain(observations: Any, actions: Any, n_envs: int = 1) -> Callable[[], VecEnv]:
    return lambda: make_env(observations, actions, n_envs=n_envs)


MASKABLE = {
    "discrete": Setting(_masked(VECTOR, DISCRETE, 2), {"learning_rate": 3e-3}),
    "multi": Setting(_masked(VECTOR, MULTI_DISCRETE, 2), {"vf_coef": 0.37, "ent_coef": 0.013}),
    "binary": Setting(_masked(VECTOR, MULTI_BINARY, 2), {"clip_range_vf": 0.1}),
    "dict": Setting(_masked(DICT, DISCRETE, 2), {"target_kl": 1e-3, "learning_rate": 3e-3}, "MultiInputPolicy"),
}
RECURRENT = {
    "discrete": Setting(_plain(VECTOR, DISCRETE, 2), LSTM | {"learning_rate": 3e-3}, "MlpLstmPolicy"),
    "vf": Setting(_plain(VECTOR, MULTI_DISCRETE, 2), LSTM | {"vf_coef": 0.37, "ent_coef": 0.013}, "MlpLstmPolicy"),
    "binary": Setting(_plain(VECTOR, MULTI_BINARY, 2), LSTM | {"clip_range_vf": 0.1, "vf_coef": 0.3}, "MlpLstmPolicy"),
    "dict": Setting(
        _plain(DICT, DISCRETE, 2), LSTM | {"target_kl": 1e-3, "learning_rate": 3e-3}, "MultiInputLstmPolicy"
    ),
    "gSDE": Setting(_plain(VECTOR, BOX, 2), LSTM | {"use_sde": True, "sde_sample_freq": 4}, "MlpLstmPolicy"),
    "box": Setting(_plain(VECTOR, BOX, 2), LSTM, "MlpLstmPolicy"),
}


@pytest.mark.parametrize("name", MASKABLE)
def test_m(name):
    assert_same_run(train(MaskableClipPPO, MASKABLE[name]), train(MaskablePPO, MASKABLE[name]))


@pytest.mark.parametrize("name", RECURRENT)
def test_r(name):
    assert_same_run(train(RecurrentClipPPO, RECURRENT[name]), train(RecurrentPPO, RECURRENT[name]))
