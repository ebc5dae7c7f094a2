"""Wrappers of environments as zoo entries name them."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

Wrapper = tuple[Callable[..., Any], dict[str, Any]]
"""A class or function that takes an environment, and its keyword arguments."""


class Chain:
    """Apply wrappers in order; a class, because environments in other processes need it pickled.

    :param wrappers: from the inside out
    """

    def __init__(self, wrappers: list[Wrapper]) -> None:
        self.wrappers = wrappers

    def __call__(self, env: Any) -> Any:
        """Return the environment, wrapped."""
        for wrapper, kwargs in self.wrappers:
            env = wrapper(env, **kwargs)
        return env


def resolve_wrapper(item: Any, where: str) -> Wrapper:
    """Resolve a dotted path, or a mapping of one dotted path to its keyword arguments.

    :param item: what a zoo entry holds
    :param where: names the place in the message
    :raises ValueError: if it is neither, or cannot be imported
    """
    kwargs: Any = {}
    if isinstance(item, Mapping):
        if len(item) != 1:
            raise ValueError(f"{where} has {dict(item)!r}: a mapping holds one dotted path and its arguments.")
        ((item, kwargs),) = item.items()
    if not isinstance(kwargs, Mapping):
        raise ValueError(f"{where} gives {item} the arguments {kwargs!r}: they must be a mapping.")
    return import_dotted(item, where), dict(kwargs)


def import_dotted(path: Any, where: str) -> Any:
    """Import a class or a function.

    :param path: its dotted path
    :param where: names the place in the message
    :raises ValueError: if there is none
    """
    module, _, name = str(path).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{where} names {path!r}, which cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"{where} names {path!r}, which is no class or function but {found!r}.")
    return found
