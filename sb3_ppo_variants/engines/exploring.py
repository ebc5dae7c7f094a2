"""Exploration noise with memory in SB3's own loop: the policy draws with the model's noise."""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch as th
from stable_baselines3.common.buffers import RolloutBuffer

from sb3_ppo_variants.engines.engine import Trainable
from sb3_ppo_variants.maths.arrays import FloatArray


@contextmanager
def exploring(model: Trainable, rollout_buffer: RolloutBuffer) -> Generator[None, None, None]:
    """Let the policy's calls in the ``with`` block take the model's exploration noise, if it has any.

    Only calls of the policy itself, as SB3's loop makes them: ``predict`` draws as always. A callback that calls the
    policy is given the draws of the step, and takes none from the rollout.

    :param model: its distribution draws as SB3's Gaussian does
    :param rollout_buffer: that is being filled: it counts the steps
    """
    noise, policy = model.exploration_noise, model.policy
    if noise is None:
        yield
        return

    def begin(*_: Any) -> None:
        distribution = policy.action_dist
        vars(distribution)["sample"] = partial(_sample, distribution, noise.at(rollout_buffer.pos))

    def end(*_: Any) -> None:
        vars(policy.action_dist).pop("sample", None)

    hooks = policy.register_forward_pre_hook(begin), policy.register_forward_hook(end, always_call=True)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _sample(distribution: Any, noise: FloatArray) -> th.Tensor:
    """Return what SB3's Gaussian draws where its standard normal draws are these."""
    normal = distribution.distribution
    if normal.loc.shape != noise.shape:  # a callback asks about other observations
        fresh: th.Tensor = type(distribution).sample(distribution)
        return fresh
    actions: th.Tensor = normal.loc + th.from_numpy(noise).to(normal.loc) * normal.scale
    return actions
