"""Reading a rollout buffer: in minibatches for the update, in stored order for measuring."""

from collections.abc import Generator

import numpy as np
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from sb3_ppo_variants.engines.untouched import is_untouched
from sb3_ppo_variants.maths.arrays import FloatArray

_MEASURE_CHUNK = 512  # samples per forward pass over the whole rollout: bounds memory with image observations
_FLATTENED = ("observations", "actions", "values", "log_probs", "advantages", "returns")


def minibatches(buffer: RolloutBuffer, batch_size: int) -> Generator[RolloutBufferSamples, None, None]:
    """Yield what ``buffer.get(batch_size)`` yields, in the same order from the same random draw.

    SB3's own buffer on the CPU is read through tensors that share its memory, which takes half the time; any other
    goes through its ``get``.

    :param buffer: a full buffer
    :param batch_size: samples per minibatch; the last one may be shorter
    """
    if not is_untouched(buffer, RolloutBuffer) or buffer.device.type != "cpu":
        yield from buffer.get(batch_size)
        return
    flatten_in_place(buffer)
    permutation = th.from_numpy(np.random.permutation(buffer.buffer_size * buffer.n_envs))
    columns = [
        th.from_numpy(array)
        for array in (
            buffer.observations,
            buffer.actions.astype(np.float32, copy=False),
            buffer.values.flatten(),
            buffer.log_probs.flatten(),
            buffer.advantages.flatten(),
            buffer.returns.flatten(),
        )
    ]
    for rows in th.split(permutation, int(batch_size)):
        yield RolloutBufferSamples(*(column[rows] for column in columns))


def flatten_in_place(buffer: RolloutBuffer) -> None:
    """Bring a buffer into the form in which ``get`` leaves it, samples first, without its random draw."""
    assert buffer.full, f"the rollout buffer is not full: {buffer.pos} of {buffer.buffer_size} steps were collected"
    if buffer.generator_ready:
        return
    for name in _FLATTENED:
        setattr(buffer, name, buffer.swap_and_flatten(getattr(buffer, name)))
    buffer.generator_ready = True


def chunks(buffer: RolloutBuffer) -> Generator[RolloutBufferSamples, None, None]:
    """Yield the rollout in its stored order, without the permutation (and random draw) of ``get()``.

    :param buffer: a full buffer that ``get`` has been called on, or :func:`flatten_in_place`
    """
    size = buffer.buffer_size * buffer.n_envs
    for start in range(0, size, _MEASURE_CHUNK):
        yield buffer._get_samples(np.arange(start, min(start + _MEASURE_CHUNK, size)))


def rows_of_numbers(observations: FloatArray, dtype: np.dtype[np.floating]) -> FloatArray:
    """Return observations as kernels read them: one flat row each, whatever an environment speaks.

    :param observations: shape (B, ...)
    :param dtype: of the policy's parameters
    """
    if observations.dtype == dtype and observations.ndim == 2 and observations.flags.c_contiguous:
        return observations
    with np.errstate(all="ignore"):  # as in PyTorch, a number too large for the dtype becomes infinite without a word
        return np.ascontiguousarray(observations.reshape(len(observations), -1), dtype)
