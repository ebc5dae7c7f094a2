"""Batches of observations and infos, taken apart and put together."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

Mask: TypeAlias = npt.NDArray[np.bool_]
Infos: TypeAlias = list[dict[str, Any]]

_ARRAYS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
# What gymnasium makes of Python's numbers, which SB3's environments hand on as they are
_PYTHON_NUMBERS = (np.dtype(bool), np.dtype(int), np.dtype(float))


def check_observation_space(space: spaces.Space[Any]) -> None:
    """Refuse observations that SB3 cannot keep.

    :param space: the space of one sub-environment
    :raises ValueError: if it is not an array, or a Dict or Tuple of arrays
    """
    parts = space.spaces if isinstance(space, (spaces.Dict, spaces.Tuple)) else [space]
    for part in parts.values() if isinstance(parts, Mapping) else parts:
        if not isinstance(part, _ARRAYS):
            raise ValueError(
                f"Observations of {space} cannot be learnt from, because of {part}: only arrays can, and a Dict or "
                "Tuple of arrays. gymnasium.wrappers.FlattenObservation makes one array of nested spaces."
            )


def copied(space: spaces.Space[Any], observations: Any, n_envs: int) -> Any:
    """Return a batch of observations of the space's type, which no later step changes.

    :param space: the space of one sub-environment
    :param observations: a batch as the vector environment gave it
    :param n_envs: how many sub-environments there are
    :raises ValueError: if it is not one observation a sub-environment
    """
    if isinstance(space, spaces.Dict):
        return {key: copied(part, observations[key], n_envs) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(copied(part, leaf, n_envs) for part, leaf in zip(space.spaces, observations, strict=True))
    # C order: the last bits of a matrix product depend on it
    batch = np.array(observations, dtype=space.dtype, order="C")
    if batch.shape != (n_envs, *(space.shape or ())):
        raise ValueError(f"{n_envs} environments with {space} gave observations of the shape {batch.shape}.")
    return batch


def leaves(observations: Any) -> list[npt.NDArray[Any]]:
    """Return the arrays that make up a batch.

    :param observations: a batch as a vector environment gave it
    """
    if isinstance(observations, Mapping):
        observations = tuple(observations.values())
    if isinstance(observations, tuple):
        return [array for part in observations for array in leaves(part)]
    return [np.asarray(observations)]


def place(batch: Any, observations: Any, mask: Mask) -> None:
    """Write the observations of some sub-environments into a batch.

    :param batch: of :func:`copied`; changed
    :param observations: a whole batch, or one of these sub-environments only
    :param mask: which sub-environments, shape (n_envs,)
    """
    if isinstance(batch, dict):
        for key, part in batch.items():
            place(part, observations[key], mask)
    elif isinstance(batch, tuple):
        for part, leaf in zip(batch, observations, strict=True):
            place(part, leaf, mask)
    else:
        given = np.asarray(observations)
        batch[mask] = given[mask] if len(given) == len(mask) else given


def one(batch: Any, index: int) -> Any:
    """Return one sub-environment's observation, which later changes of the batch leave alone.

    :param batch: of :func:`copied`
    :param index: which sub-environment
    """
    if isinstance(batch, dict):
        return {key: one(part, index) for key, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(one(part, index) for part in batch)
    return batch[index].copy()


def each(values: Any, n_envs: int) -> list[Any]:
    """Return one value a sub-environment: of a sequence that has one for each, else the same for all.

    :param values: an attribute, a method's answer, or one entry of a batch of infos
    :param n_envs: how many sub-environments there are
    """
    is_batch = isinstance(values, (list, tuple)) or bool(getattr(values, "shape", ()))
    return list(values) if is_batch and len(values) == n_envs else [values] * n_envs


def rows(infos: Any, n_envs: int) -> Infos:
    """Return one dict a sub-environment, with what a batch of infos says of it.

    A batch is a dict of arrays, other sequences, or dicts; beside ``key`` may stand ``_key``, which says for whom it
    holds. Later changes of the batch leave the result alone.

    :param infos: a batch, or already a list of dicts
    :param n_envs: how many sub-environments there are
    """
    if not isinstance(infos, Mapping):
        return deepcopy(list(infos))
    result: Infos = [{} for _ in range(n_envs)]
    for key, values in infos.items():
        if key.startswith("_") and key[1:] in infos:
            continue
        elements = rows(values, n_envs) if isinstance(values, Mapping) else _copies(values, n_envs)
        holds = infos.get(f"_{key}")
        for index, element in enumerate(elements):
            if holds is None or holds[index]:
                result[index][key] = element
    return result


def _copies(values: Any, n_envs: int) -> list[Any]:
    if isinstance(values, np.ndarray) and values.dtype != object and values.shape[:1] == (n_envs,):
        is_python_number = values.ndim == 1 and values.dtype in _PYTHON_NUMBERS
        copies: list[Any] = values.tolist() if is_python_number else list(values.copy())
        return copies
    return [deepcopy(value) for value in each(values, n_envs)]
