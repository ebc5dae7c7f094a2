"""Values as JSON, types included: what a checkpoint keeps beside the model.

Numbers, text, containers, arrays, tensors and random generators become plain data. Any other object, such as one of a
user's own in a callback, is pickled, as SB3 does with a model's attributes: :func:`decode` trusts a checkpoint as far
as SB3's ``load`` trusts the model's file that lies in it.
"""

import base64
import io
import pickle
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium.wrappers.utils import RunningMeanStd as GymnasiumRunningMeanStd
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv

_PLAIN = (type(None), bool, int, float, str)
_PARTS_OF_THE_RUN = (BaseAlgorithm, BaseCallback, Logger, VecEnv, gym.Env, gym.Space, th.nn.Module, th.optim.Optimizer)


class NotPlainError(ValueError):
    """A value is no plain data."""


class PartOfTheRunError(ValueError):
    """A value refers to the model, an environment or the like, which are never kept as a part of something else."""


def encode(value: Any) -> Any:
    """Return plain data as JSON.

    :param value: a number, text, container, array, tensor or generator
    :raises NotPlainError: if it is, or contains, something else
    """
    return _encode(value, _refuse)


def encode_or_pickle(value: Any) -> Any:
    """Return any object as JSON, pickled as far as it is no plain data.

    :param value: an object
    :raises PartOfTheRunError: if it refers to the model, a callback or an environment
    :raises Exception: what pickling it raises
    """
    return _encode(value, _pickled)


def decode(content: Any) -> Any:
    """Return the value that :func:`encode` or :func:`encode_or_pickle` was given.

    :param content: what they returned, after its way through JSON
    """
    if isinstance(content, list):
        return [decode(item) for item in content]
    if not isinstance(content, dict):
        return content
    return _BUILDERS[content["type"]](decode(content["data"]))


def _encode(value: Any, otherwise: Callable[[Any], Any]) -> Any:
    if type(value) in _PLAIN:
        return value
    if type(value) is list:
        return [_encode(item, otherwise) for item in value]
    kind = np.generic if isinstance(value, np.generic) else type(value)
    if kind not in _KINDS:
        return otherwise(value)
    name, take_apart, _ = _KINDS[kind]
    try:
        parts = take_apart(value)
    except (TypeError, ValueError):  # an array of objects, a tensor of a type that NumPy does not know
        return otherwise(value)
    return {"type": name, "data": _encode(parts, otherwise)}


def _array_as_text(array: Any) -> str:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return base64.b64encode(stream.getvalue()).decode()


def _array_from_text(text: str) -> Any:
    return np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False)


def _items(mapping: Any) -> list[list[Any]]:
    return [[key, value] for key, value in mapping.items()]


def _average(cls: type) -> Callable[[dict[str, Any]], Any]:
    def build(attributes: dict[str, Any]) -> Any:
        average: Any = object.__new__(cls)
        vars(average).update(attributes)
        return average

    return build


def _generator(state: dict[str, Any]) -> np.random.Generator:
    bit_generator = getattr(np.random, state["bit_generator"])()
    bit_generator.state = state
    return np.random.Generator(bit_generator)


def _random_state(state: dict[str, Any]) -> np.random.RandomState:
    generator = np.random.RandomState()
    generator.set_state(state)
    return generator


def _python_random(state: tuple[Any, ...]) -> random.Random:
    generator = random.Random()  # noqa: S311 -- a simulation's
    generator.setstate(state)
    return generator


_KINDS: dict[Any, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    tuple: ("tuple", list, tuple),
    set: ("set", list, set),
    frozenset: ("frozenset", list, frozenset),
    dict: ("dict", _items, dict),
    OrderedDict: ("ordered dict", _items, OrderedDict),
    deque: ("deque", lambda value: [value.maxlen, list(value)], lambda parts: deque(parts[1], maxlen=parts[0])),
    RunningMeanStd: ("average", vars, _average(RunningMeanStd)),
    GymnasiumRunningMeanStd: ("average of gymnasium", vars, _average(GymnasiumRunningMeanStd)),
    np.ndarray: ("array", _array_as_text, _array_from_text),
    np.generic: ("number", _array_as_text, lambda text: _array_from_text(text)[()]),
    th.Tensor: (
        "tensor",
        lambda value: [str(value.device), value.detach().cpu().numpy()],
        lambda parts: th.from_numpy(parts[1]).to(parts[0]),
    ),
    np.random.Generator: ("generator", lambda value: value.bit_generator.state, _generator),
    np.random.RandomState: ("random state", lambda value: value.get_state(legacy=False), _random_state),
    random.Random: ("python random", random.Random.getstate, _python_random),
}
"""Type -> name in JSON, how to take a value apart into values that can be encoded, how to build it from them."""

_BUILDERS = {name: build for name, _, build in _KINDS.values()} | {
    "pickle": lambda text: pickle.loads(base64.b64decode(text)),  # noqa: S301 -- see the module
}


def _refuse(value: Any) -> Any:
    raise NotPlainError(f"{type(value).__name__} is no plain data")


def _pickled(value: Any) -> dict[str, Any]:
    stream = io.BytesIO()
    _Pickler(stream).dump(value)
    return {"type": "pickle", "data": base64.b64encode(stream.getvalue()).decode()}


class _Pickler(pickle.Pickler):
    """A pickler that does not follow a reference from a callback's object into the model and all that it holds."""

    def persistent_id(self, value: Any) -> None:
        if isinstance(value, _PARTS_OF_THE_RUN):
            raise PartOfTheRunError(f"it refers to a {type(value).__name__}")
