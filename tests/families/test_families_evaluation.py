"""Masks reach evaluation: by the function, by the callback, by whatever else calls ``predict``; memory stays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from families_helpers import make_masked_env, make_model
from helpers import mostly_slow
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_with_masks
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy as evaluate_without_masks
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ppo_variants import ClipPPO, MaskableClipPPO, MaskableRecurrentClipPPO, RecurrentClipPPO
from sb3_ppo_variants.evaluation import MaskedEvalCallback, evaluate_policy, with_masks
from sb3_ppo_variants.testing import DICT, DISCRETE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, make_env

MASKED = [MaskablePPO, MaskableClipPPO, MaskableRecurrentClipPPO]
ALL_RETURNS: dict[str, Any] = {"n_eval_episodes": 6, "return_episode_rewards": True, "deterministic": False}


@pytest.mark.parametrize("observations", mostly_slow([VECTOR, DICT], [DICT]))
@pytest.mark.parametrize("actions", [DISCRETE, MULTI_DISCRETE, MULTI_BINARY])
@pytest.mark.parametrize("cls", MASKED)
def test_only_valid_actions_are_taken_in_evaluation(cls: Any, actions: Any, observations: Any) -> None:
    model = make_model(cls, make_masked_env(observations, actions))
    returns, lengths = evaluate_policy(model, make_masked_env(observations, actions, 2), **ALL_RETURNS)
    assert len(returns) == len(lengths) == 6
    with pytest.raises(AssertionError, match="is invalid"):  # the environment is strict
        evaluate_without_masks(model, make_masked_env(observations, actions, 2), **ALL_RETURNS)


def test_it_scores_a_masked_model_as_sb3_contrib_does() -> None:
    model = make_model(MaskableClipPPO, make_masked_env())
    deterministic = ALL_RETURNS | {"deterministic": True}
    theirs = evaluate_with_masks(model, make_masked_env(), **deterministic)
    assert evaluate_policy(model, make_masked_env(), **deterministic) == theirs


def test_a_single_environment_is_evaluated_too() -> None:
    model = make_model(MaskableRecurrentClipPPO, make_masked_env())
    mean, spread = evaluate_policy(model, make_masked_env().envs[0], n_eval_episodes=2)
    assert np.isfinite([mean, spread]).all()


@pytest.mark.parametrize("cls", [ClipPPO, RecurrentClipPPO])
def test_a_model_without_masks_is_scored_as_sb3_does(cls: Any) -> None:
    model = make_model(cls, make_env())
    assert with_masks(model, make_env()) is model
    deterministic = ALL_RETURNS | {"deterministic": True}
    sb3s = evaluate_without_masks(model, make_env(), **deterministic)
    assert evaluate_policy(model, make_env(), **deterministic) == sb3s


@pytest.mark.parametrize("cls", MASKED)
def test_an_environment_without_masks_is_refused(cls: Any) -> None:
    model = make_model(cls, make_masked_env())
    message = rf"{cls.__name__} asks for action masks, and the environment has no method action_masks"
    with pytest.raises(ValueError, match=message):
        evaluate_policy(model, make_env())
    with pytest.raises(ValueError, match=message):
        model.learn(32, callback=MaskedEvalCallback(make_env()))


class EntropyOnNewBest(BaseCallback):
    """Changes the model when there is a new best, as some do with the learning rate."""

    def _on_step(self) -> bool:
        self.model.ent_coef = 0.125
        return True


@pytest.mark.parametrize("cls", [*MASKED, RecurrentClipPPO])
def test_the_callback_evaluates_with_masks_and_keeps_the_best_model(cls: Any, tmp_path: Path) -> None:
    make = make_env if cls is RecurrentClipPPO else make_masked_env
    callback = MaskedEvalCallback(
        VecNormalize(make(n_envs=2), training=False, norm_reward=False),
        callback_on_new_best=EntropyOnNewBest(),
        eval_freq=16,
        best_model_save_path=str(tmp_path),
        verbose=0,
    )
    model = make_model(cls, VecNormalize(make())).learn(32, callback=callback)
    assert np.isfinite(callback.last_mean_reward)
    assert type(cls.load(tmp_path / "best_model.zip")) is cls
    assert model.ent_coef == 0.125, "child callbacks reach the model itself"


def test_masks_and_memory_of_one_environment_do_not_depend_on_the_others() -> None:
    """Predictions for a batch are those for each alone, with state, episode starts and masks given together."""
    model = make_model(MaskableRecurrentClipPPO, make_masked_env(n_envs=3))
    generator = np.random.default_rng(0)
    states: list[Any] = [None, None, None]
    state = None
    for step in range(6):
        observations = generator.normal(size=(3, 4)).astype(np.float32)
        masks = np.eye(3, dtype=bool)[generator.permutation(3)] | (generator.random((3, 3)) < 0.3)
        starts = generator.random(3) < (1.0 if step == 0 else 0.3)
        actions, state = model.predict(observations, state, starts, deterministic=True, action_masks=masks)
        for row in range(3):
            one, states[row] = model.predict(
                observations[[row]], states[row], starts[[row]], deterministic=True, action_masks=masks[[row]]
            )
            assert one[0] == actions[row]
            assert masks[row, actions[row]]
            for whole, alone in zip(state, states[row], strict=True):
                np.testing.assert_allclose(whole[:, row], alone[:, 0], rtol=1e-5, atol=1e-6)
    over = np.ones(3, dtype=bool)
    fresh, restarted = (model.predict(observations, before, over, action_masks=masks)[1] for before in (None, state))
    np.testing.assert_array_equal(fresh, restarted)
