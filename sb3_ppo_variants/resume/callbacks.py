"""The callbacks of a run: what they remember, and the environments that they hold."""

import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ProgressBarCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.resume import attributes, environments
from sb3_ppo_variants.resume.attributes import Settings
from sb3_ppo_variants.resume.values import PartOfTheRunError, encode_or_pickle

_NEVER_KEPT = frozenset({"model", "locals", "globals", "parent", "verbose"})
_WITHOUT_STATE = (CallbackList, ProgressBarCallback)  # nothing that a run depends on


def tree(root: BaseCallback) -> list[BaseCallback]:
    """Return a callback and all that are attributes of it, or in a list, tuple or dict that is, from the outside in."""
    found: dict[int, BaseCallback] = {}

    def visit(callback: BaseCallback) -> None:
        if id(callback) in found:
            return
        found[id(callback)] = callback
        for name, value in vars(callback).items():
            if name not in _NEVER_KEPT:
                for child in _callbacks_in(value):
                    visit(child)

    visit(root)
    return list(found.values())


def _callbacks_in(value: Any) -> Iterator[BaseCallback]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
    return (item for item in items if isinstance(item, BaseCallback))


def environments_of(root: BaseCallback, training_env: VecEnv) -> list[VecEnv | gym.Env[Any, Any]]:
    """Return the environments that are attributes of callbacks, each once, without the training environment.

    :param root: the outermost callback
    :param training_env: may be known to callbacks too
    """
    found: dict[int, VecEnv | gym.Env[Any, Any]] = {}
    for callback in tree(root):
        for value in vars(callback).values():
            if isinstance(value, (VecEnv, gym.Env)):
                found.setdefault(id(value.unwrapped), value)
    found.pop(id(training_env.unwrapped), None)
    return list(found.values())


def settings(root: BaseCallback, training_env: VecEnv) -> Settings:
    """Return the settings of all callbacks, and of all environments' wrappers.

    :param root: the outermost callback
    :param training_env: the environment of the model
    """
    held = [training_env, *environments_of(root, training_env)]
    return Settings([*tree(root), *(layer for env in held for layer in environments.layers(env))])


def read(root: BaseCallback, training_env: VecEnv, at_first: Settings) -> dict[str, Any]:
    """Return what the callbacks remember, as JSON.

    :param root: the outermost callback
    :param training_env: kept elsewhere
    :param at_first: the settings
    """
    return {name: _read_one(callback, training_env, at_first) for name, callback in _named(root).items()}


def restore(root: BaseCallback, content: dict[str, Any]) -> None:
    """Put back what :func:`read` returned; say which callbacks it does not fit.

    :param root: the outermost callback of the run that goes on
    :param content: what was read
    :raises ValueError: if an environment of theirs is wrapped in another way
    """
    callbacks = _named(root)
    missing, new = content.keys() - callbacks.keys(), callbacks.keys() - content.keys()
    for name in content.keys() & callbacks.keys():
        attributes.restore(callbacks[name], content[name]["attributes"])
        for attribute, saved in content[name]["environments"].items():
            environments.restore(getattr(callbacks[name], attribute), saved)
    if missing or new:
        parts = [("are not passed again", missing), ("were not there before", new)]
        told = "; ".join(f"{', '.join(sorted(names))} {what}" for what, names in parts if names)
        warnings.warn(f"The callbacks are not those of the interrupted run: {told}.", stacklevel=2)


def _named(root: BaseCallback) -> dict[str, BaseCallback]:
    """Name callbacks by their class, and by a number where it occurs again."""
    named, counts = {}, Counter[str]()
    for callback in tree(root):
        name = attributes.class_name(callback)
        counts[name] += 1
        named[name if counts[name] == 1 else f"{name} ({counts[name]})"] = callback
    return {name: callback for name, callback in named.items() if type(callback) not in _WITHOUT_STATE}


def _read_one(callback: BaseCallback, training_env: VecEnv, at_first: Settings) -> dict[str, Any]:
    kept, held = {}, {}
    for name, value, error in attributes.kept(callback, at_first, encode_or_pickle, without=_NEVER_KEPT):
        if error is None:
            kept[name] = value
        elif isinstance(value, (VecEnv, gym.Env)):
            if value.unwrapped is not training_env.unwrapped:
                held[name] = environments.read(value, at_first)
        elif not (callable(value) or isinstance(error, PartOfTheRunError)):
            warnings.warn(f"{type(callback).__name__}.{name} is not kept for a resumed run: {error}", stacklevel=2)
    return {"attributes": kept, "environments": held}
