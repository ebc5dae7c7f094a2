"""How sub-environments of a vector environment begin a new episode while the others go on."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space

from sb3_ppo_variants.vec_env.batches import Infos, Mask, leaves, rows


def partial_reset(env: VectorEnv[Any, Any, Any]) -> Callable[[Mask], tuple[Any, Infos]] | None:
    """Return what resets the sub-environments of a mask and leaves the others alone; None if the step does it.

    What it returns are observations, of all sub-environments or of those in the mask, and the infos of these.

    :param env: the vector environment; one of an unknown kind is tried out, that is reset and stepped
    :raises ValueError: if it cannot be done
    """
    base = env.unwrapped
    mode = getattr(base, "autoreset_mode", None) or env.metadata.get("autoreset_mode")
    if mode is None:
        raise ValueError(
            f"{env} does not say when an ended sub-environment begins anew: set its metadata['autoreset_mode'] to a "
            "gymnasium.vector.AutoresetMode."
        )
    mode = AutoresetMode(mode)
    if mode is AutoresetMode.SAME_STEP:
        return None
    if type(base) is CartPoleVectorEnv:
        return lambda mask: _reset_carts(env, base, mask)
    if isinstance(base, AsyncVectorEnv) and not base.shared_memory and mode is AutoresetMode.NEXT_STEP:
        # Without shared memory, its processes do not take back the reset that they plan for the next step
        raise ValueError(f"{env} resets twice: make it with shared_memory=True or autoreset_mode='SameStep'.")
    if not isinstance(base, (SyncVectorEnv, AsyncVectorEnv)) and env.num_envs > 1:
        _check_obeys_masks(env)
    return lambda mask: _reset_masked(env, mask)


def _reset_masked(env: VectorEnv[Any, Any, Any], mask: Mask) -> tuple[Any, Infos]:
    observations, infos = env.reset() if mask.all() else env.reset(options={"reset_mask": mask.copy()})
    answered = len(leaves(observations)[0])
    given = rows(infos, answered)
    return observations, given if answered < len(mask) else [given[index] for index in np.flatnonzero(mask)]


def _reset_carts(env: VectorEnv[Any, Any, Any], base: Any, mask: Mask) -> tuple[Any, Infos]:
    """Reset all carts, for a ``CartPoleVectorEnv`` can do nothing else, and put the others back."""
    others, states, steps = ~mask, base.state, base.steps
    observations, _ = env.reset()
    base.state[:, others] = states[:, others]
    base.steps[others] = steps[others]
    return observations, [{} for _ in np.flatnonzero(mask)]


def _check_obeys_masks(env: VectorEnv[Any, Any, Any]) -> None:
    """Try out whether a reset of one sub-environment leaves the others alone.

    :param env: a vector environment of two or more
    :raises ValueError: unless it was seen to do so
    """
    mask = np.arange(env.num_envs) == 0
    error: Exception | None = None
    try:
        first = leaves(deepcopy(env.reset()[0]))
        moved = leaves(deepcopy(env.step(batch_space(env.single_action_space, env.num_envs).sample())[0]))
        after = leaves(env.reset(options={"reset_mask": mask})[0])
    except Exception as refusal:  # whatever an environment says to an option that it does not know
        error = refusal
    else:
        if all(len(leaf) == 1 for leaf in after):  # it speaks only of those that it has reset
            return
        have_moved = any(not np.array_equal(a[1:], b[1:]) for a, b in zip(first, moved, strict=True))
        if have_moved and all(np.array_equal(a[1:], b[1:]) for a, b in zip(moved, after, strict=True)):
            return
    raise ValueError(
        f"{env} does not reset ended sub-environments within the step, and reset(options={{'reset_mask': ...}}) does "
        "not reset single ones. The step in which it resets one would be learnt from as if its action counted. Make "
        "it with autoreset_mode='SameStep', or by gymnasium.make_vec(..., vectorization_mode='sync' or 'async')."
    ) from error
