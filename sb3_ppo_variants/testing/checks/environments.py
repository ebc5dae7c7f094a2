"""Which spaces, policies and environments a variant learns in."""

import math
import re
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ppo_variants.evaluation import evaluate_policy
from sb3_ppo_variants.testing.environments import BOX, DICT, DISCRETE, IMAGE, MULTI_BINARY, MULTI_DISCRETE
from sb3_ppo_variants.testing.requirements import learn, require
from sb3_ppo_variants.testing.variant import N_STEPS, Variant


def check_box_actions(variant: Variant) -> None:
    """Continuous actions are learned, or refused with an alternative."""
    _learn_or_be_refused(variant, BOX)


def check_discrete_actions(variant: Variant) -> None:
    """Discrete actions are learned, or refused with an alternative."""
    _learn_or_be_refused(variant, DISCRETE)


def check_multi_discrete_actions(variant: Variant) -> None:
    """MultiDiscrete actions are learned, or refused with an alternative."""
    _learn_or_be_refused(variant, MULTI_DISCRETE)


def check_multi_binary_actions(variant: Variant) -> None:
    """MultiBinary actions are learned, or refused with an alternative."""
    _learn_or_be_refused(variant, MULTI_BINARY)


def check_state_dependent_noise(variant: Variant) -> None:
    """State-dependent noise (gSDE) is learned with, or refused with an alternative."""
    try:
        model = variant.make(actions=BOX, use_sde=True, sde_sample_freq=4)
    except ValueError as refusal:
        _require_alternative(refusal)
        return
    learn(model, rollouts=1)


def check_image_observations(variant: Variant) -> None:
    """Image observations go through SB3's CNN, which actor and critic share, with every action space."""
    for actions in variant.accepted:
        learn(variant.make(IMAGE, actions), rollouts=1)


def check_dict_observations(variant: Variant) -> None:
    """Dict observations are learned from, with every action space."""
    for actions in variant.accepted:
        learn(variant.make(DICT, actions), rollouts=1)


def check_several_environments(variant: Variant) -> None:
    """Several environments fill one rollout, with every action space."""
    for actions in variant.accepted:
        model = learn(variant.make(env=variant.make_env(actions=actions, n_envs=3)), rollouts=1)
        steps = model.num_timesteps
        require(steps == 3 * N_STEPS, f"a rollout of {N_STEPS} steps in 3 environments counts {steps} timesteps")


def check_last_minibatch_of_one_sample(variant: Variant) -> None:
    """A minibatch of one sample, whose standard deviation is undefined, does no harm, with every action space."""
    for actions in variant.accepted:
        learn(variant.make(actions=actions, n_steps=17, batch_size=16), rollouts=1)


def check_vec_normalize(variant: Variant) -> None:
    """VecNormalize works around the environment, with every action space."""
    for actions in variant.accepted:
        env = VecNormalize(variant.make_env(actions=actions, n_envs=2))
        model = learn(variant.make(env=env), rollouts=1)
        require(model.get_vec_normalize_env() is env, "get_vec_normalize_env() does not find the VecNormalize")


def check_evaluate_policy(variant: Variant) -> None:
    """``evaluate_policy``, SB3's where no masks are needed, gives a finite return."""
    mean, _ = evaluate_policy(variant.trained(), variant.make_env(), n_eval_episodes=2)
    require(math.isfinite(float(np.mean(mean))), f"evaluate_policy returned {mean}")


def _learn_or_be_refused(variant: Variant, actions: spaces.Space[Any]) -> None:
    try:
        variant.make(actions=actions)
    except ValueError as refusal:
        _require_alternative(refusal)
        return
    variant.trained(actions)


def _require_alternative(refusal: ValueError) -> None:
    found = re.search(r"\b(use|pass|give|choose|try|set|leave)\b", str(refusal), re.IGNORECASE)
    require(found is not None, f"the refusal names no alternative: {refusal}")
