"""The search for a NaN or an infinity before it can reach the parameters."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer

from sb3_ppo_variants.update_parts.errors import NonFiniteUpdateError
from sb3_ppo_variants.update_parts.statistics import UpdateStatistics


def check_rollout(buffer: RolloutBuffer, last_observations: Any, num_timesteps: int) -> None:
    """Refuse a rollout with a NaN or an infinity before it touches anything.

    :param buffer: the rollout
    :param last_observations: those after it, whose values are in the advantages
    :param num_timesteps: environment steps so far
    :raises NonFiniteUpdateError: naming the first bad array
    """
    for name, values in (
        ("observation", buffer.observations),
        ("observation", last_observations),
        ("reward", buffer.rewards),
        ("value", buffer.values),
        ("log-prob", buffer.log_probs),
        ("advantage", buffer.advantages),
    ):
        if not all_finite(values):
            raise NonFiniteUpdateError(name, f"in the rollout that ends after {num_timesteps} timesteps")


def first_bad(suspects: Iterable[tuple[str, Any]]) -> str | None:
    """Return the name of the first tensor or array that is not finite, or None if all are.

    :param suspects: names, and tensors or arrays; a name may come several times
    """
    return next((name for name, values in suspects if not bool(th.isfinite(th.as_tensor(values)).all())), None)


def in_the_update(num_timesteps: int, stats: UpdateStatistics | None = None) -> str:
    """Say where in the course of training an update is.

    :param num_timesteps: environment steps so far
    :param stats: tells epoch and minibatch
    """
    where = f"in the update after {num_timesteps} timesteps"
    return where if stats is None else f"{where}, epoch {stats.epoch}, minibatch {stats.step}"


def in_the_rollout(num_timesteps: int) -> str:
    """Say where in the course of training a rollout is.

    :param num_timesteps: environment steps so far
    """
    return f"while collecting the rollout after {num_timesteps} timesteps"


def is_invalid_distribution(error: ValueError) -> bool:
    """Tell whether PyTorch's argument validation refused the parameters of an action distribution."""
    return "invalid values" in str(error)


def all_finite(values: Any) -> bool:
    """Tell whether there is neither a NaN nor an infinity in observations or an array of any dtype.

    Networks compute in float32, so a larger number of float64 is an infinity.
    """
    if isinstance(values, dict):
        return all(all_finite(value) for value in values.values())
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.floating):
        return True
    return bool((np.abs(array) <= np.finfo(np.float32).max).all())
