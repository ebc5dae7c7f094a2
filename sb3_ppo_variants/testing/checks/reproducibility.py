"""Seeds and random numbers."""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_ppo_variants.evaluation import knows_masks
from sb3_ppo_variants.testing.requirements import learn, random_state, require, require_equal_models, tensors_of
from sb3_ppo_variants.testing.variant import N_STEPS, Variant
from sb3_ppo_variants.training.update_loop import UpdateLoop
from sb3_ppo_variants.update_parts.statistics import RolloutMeasurement


def check_same_seed(variant: Variant) -> None:
    """The same seed gives the same parameters, another seed others."""
    one, same, other = variant.trained(), learn(variant.make()), learn(variant.make(seed=2))
    require_equal_models(one, same, "of the same seed")
    others = tensors_of(other)
    differ = any(not th.equal(tensor, others[name]) for name, tensor in tensors_of(one).items())
    require(differ, "two different seeds gave the same parameters")


def check_first_rollout_is_the_baselines(variant: Variant) -> None:
    """Collection draws the random numbers of the algorithm that the class builds on: the same first rollout."""
    # Where sb3-contrib has no class with masks to compare with, they forbid nothing
    all_valid = knows_masks(variant.cls) and not knows_masks(variant.baseline)
    seen = []
    for make in (variant.make, variant.make_baseline):
        model = make(env=variant.make_env(n_envs=2, all_valid=all_valid))
        callback = _KeepFirstRollout()
        model.learn(N_STEPS * 2, callback=callback)
        seen.append(callback)
    ours, baseline = seen
    for name in ("observations", "actions", "episode_starts"):
        same = np.array_equal(ours.rollout[name], baseline.rollout[name])
        require(same, f"{name} of the first rollout differ from the baseline's")
    for name in ("rewards", "values", "log_probs", "advantages", "returns"):  # an engine may round differently
        same = np.allclose(ours.rollout[name], baseline.rollout[name], rtol=1e-4, atol=1e-5)
        require(same, f"{name} of the first rollout differ from the baseline's")
    require(ours.random_state == baseline.random_state, "another number of random draws than the baseline's")


def check_measuring_draws_no_random_number(variant: Variant) -> None:
    """Measuring the KL over the rollout leaves the random generators alone."""
    states: list[tuple[bytes, bytes]] = []

    def measure(self: UpdateLoop) -> RolloutMeasurement:
        before = random_state()
        measurement = variant.cls._measure_rollout(self)
        states.append((before, random_state()))
        return measurement

    watched = type(variant.cls.__name__, (variant.cls,), {"_measure_rollout": measure})
    learn(Variant(watched, variant.constructor_kwargs).make(env=variant.make_env()), rollouts=1)
    require(len(states) > 0, "_measure_rollout was never called: train() of UpdateLoop is overridden")
    require(all(before == after for before, after in states), "_measure_rollout draws random numbers")


class _KeepFirstRollout(BaseCallback):
    """Copy the first rollout's arrays and the state of the random generators right after collection."""

    def __init__(self) -> None:
        super().__init__()
        self.rollout: dict[str, Any] = {}
        self.random_state = b""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.rollout:
            return
        self.random_state = random_state()
        assert isinstance(self.model, OnPolicyAlgorithm)
        self.rollout = {
            name: value.copy()
            for name, value in vars(self.model.rollout_buffer).items()
            if isinstance(value, np.ndarray)
        }
