"""A NaN is refused before it reaches the parameters, and the model stays usable."""

import contextlib
import math
from collections.abc import Generator
from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_ppo_variants.testing.requirements import learn, require, require_equal_tensors, save_and_load, tensors_of
from sb3_ppo_variants.testing.variant import N_STEPS, NotApplicable, Variant
from sb3_ppo_variants.training.update_loop import UpdateLoop
from sb3_ppo_variants.update_parts.errors import NonFiniteUpdateError


def check_non_finite_observation(variant: Variant) -> None:
    """A NaN observation is refused before it reaches the parameters."""
    _check_poisoned_environment(variant, "observation")


def check_non_finite_reward(variant: Variant) -> None:
    """A NaN reward is refused before it reaches the parameters."""
    _check_poisoned_environment(variant, "reward")


def check_non_finite_advantage(variant: Variant) -> None:
    """A NaN advantage is refused before it reaches the parameters."""
    model = variant.trained_copy()
    _require_refused(model, "advantage", callback=_PoisonAdvantage())
    _require_usable(model)


def check_non_finite_gradient(variant: Variant) -> None:
    """A NaN gradient is refused before it reaches the parameters."""
    model = variant.trained_copy()
    calls = []

    def poison(gradient: th.Tensor) -> th.Tensor:
        calls.append(1)
        return gradient * math.nan

    hook = next(model.policy.action_net.parameters()).register_hook(poison)  # type: ignore[no-untyped-call]
    try:
        _require_refused(model, "gradient")
    except ValueError as error:
        if calls or "engine" not in variant.constructor_kwargs:
            raise
        raise NotApplicable(f"gradients without autograd, which a hook cannot poison: {error}") from error
    finally:
        hook.remove()
    _require_usable(model)


def _check_poisoned_environment(variant: Variant, poison: str) -> None:
    model = variant.trained_copy()
    with _poisoned_environment(model, poison):
        _require_refused(model, poison)
    _require_usable(model)


@contextlib.contextmanager
def _poisoned_environment(model: UpdateLoop, poison: str) -> Generator[None, None, None]:
    assert model.env is not None
    environments = [env.unwrapped for env in model.env.unwrapped.envs]  # type: ignore[attr-defined]
    for env in environments:
        env.poison = poison
    try:
        yield
    finally:
        for env in environments:
            env.poison = None


def _require_refused(model: UpdateLoop, tensor: str, **arguments: Any) -> None:
    """Require a NonFiniteUpdateError that names ``tensor``, with parameters and moments as before."""
    before = tensors_of(model)
    try:
        model.learn(N_STEPS, reset_num_timesteps=False, **arguments)
    except NonFiniteUpdateError as error:
        require(error.tensor == tensor, f"the error names the {error.tensor}, not the {tensor}")
        require_equal_tensors(before, tensors_of(model), f"after a NaN {tensor}")
        return
    raise AssertionError(f"a NaN {tensor} went unnoticed")


def _require_usable(model: UpdateLoop) -> None:
    """Require that the model saves, loads and trains on."""
    loaded = save_and_load(model)
    require_equal_tensors(tensors_of(model), tensors_of(loaded), "after saving what a NaN had interrupted")
    learn(model, rollouts=1)


class _PoisonAdvantage(BaseCallback):
    """Put a NaN into the advantages of every rollout."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        assert isinstance(self.model, OnPolicyAlgorithm)
        self.model.rollout_buffer.advantages[3] = math.nan
