"""A pass over the rollout that trains the critic alone, on arrays."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer

from sb3_ppo_variants.engines.engine import CriticSettings
from sb3_ppo_variants.engines.kernels.kernels import Kernels
from sb3_ppo_variants.engines.rollout_data import rows_of_numbers
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.update_parts.errors import NonFiniteUpdateError
from sb3_ppo_variants.update_parts.finite import first_bad

SUSPICIOUS = 1e36
"""Squared norm of a gradient from which a loss may have overflowed in float32."""


class CriticLoss(NamedTuple):
    """What the critic minimises; both take values, old values and returns, shape (B,).

    :param slope: derivative of each sample's error, whose mean is the loss, by its value, shape (B,)
    :param mean: the loss
    """

    slope: Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
    mean: Callable[[FloatArray, FloatArray, FloatArray], float]


def critic_pass(
    kernels: Kernels, buffer: RolloutBuffer, settings: CriticSettings, loss: CriticLoss, where: str
) -> float:
    """Make one pass over the rollout that trains the critic alone, in the order that SB3's buffer would yield.

    :param kernels: bound to the policy; their critic moves
    :param buffer: a full buffer, flattened
    :param settings: how
    :param loss: what is minimised
    :param where: in the course of training, for messages
    :return: the loss, mean over the minibatches of the pass
    :raises NonFiniteUpdateError: before a NaN or an infinity reaches the parameters
    """
    dtype, batch_size = kernels.dtype, settings.batch_size
    order = np.random.permutation(len(buffer.observations))
    old_values, returns = (array[order, 0].astype(dtype, copy=False) for array in (buffer.values, buffer.returns))
    values = np.empty(len(order), dtype)
    for start in range(0, len(order), batch_size):
        rows = slice(start, min(start + batch_size, len(order)))
        values[rows] = kernels.evaluate_critic(rows_of_numbers(buffer.observations[order[rows]], dtype))
        slope = loss.slope(values[rows], old_values[rows], returns[rows])
        squared_norm = kernels.backward(slope / len(slope), None)
        if not squared_norm < SUSPICIOUS:
            suspects = [
                ("value", values[rows]),
                ("loss", loss.mean(values[rows], old_values[rows], returns[rows])),
                ("gradient", kernels.critic_group.gradients),
            ]
            name = first_bad(suspects)
            if name is not None:
                raise NonFiniteUpdateError(name, where)
        gradient_scale = gradient_scale_of(squared_norm, settings.max_grad_norm)
        kernels.step(settings.optimizer.param_groups[0], gradient_scale, actor=False)
    return _mean_over_minibatches(loss, values, old_values, returns, batch_size)


def gradient_scale_of(squared_norm: float, max_norm: float) -> float:
    """Return the factor that brings a gradient within a bound on its norm.

    :param squared_norm: of the gradient
    :param max_norm: the bound; infinite for none
    """
    return min(1.0, max_norm / (math.sqrt(squared_norm) + 1e-6))


def _mean_over_minibatches(
    loss: CriticLoss, values: FloatArray, old_values: FloatArray, returns: FloatArray, batch_size: int
) -> float:
    """Return the mean of the minibatches' losses: those of equal size together, then the shorter last one."""
    full = len(values) // batch_size * batch_size
    total = 0.0
    for rows, minibatches in ((slice(0, full), full // batch_size), (slice(full, len(values)), 1)):
        if rows.start < rows.stop:
            total += minibatches * loss.mean(values[rows], old_values[rows], returns[rows])
    return total / math.ceil(len(values) / batch_size)
