"""The attributes of an object of somebody else's: read as JSON, and put back."""

import inspect
from collections.abc import Callable, Collection, Iterator
from pathlib import PurePath
from typing import Any

from sb3_ppo_variants.resume.values import decode


def class_name(owner: object) -> str:
    """Return the whole name of an object's class."""
    return f"{type(owner).__module__}.{type(owner).__qualname__}"


def kept(
    owner: object, encode: Callable[[Any], Any], without: Collection[str] = ()
) -> Iterator[tuple[str, Any, Exception | None]]:
    """Yield each attribute's name, its value as JSON and None; or its value as it is and why that cannot be encoded.

    Text and paths that are arguments of the constructor are left out: whoever resumes says anew where things lie.

    :param owner: whose attributes
    :param encode: how a value becomes JSON
    :param without: names that are left out
    """
    arguments = _constructor_arguments(type(owner))
    for name, value in vars(owner).items():
        if name in without or (isinstance(value, (str, PurePath)) and name in arguments):
            continue
        try:
            yield name, encode(value), None
        except Exception as error:  # pickling runs code of others
            yield name, value, error


def restore(owner: object, content: dict[str, Any]) -> None:
    """Put back attributes that :func:`kept` yielded."""
    vars(owner).update({name: decode(value) for name, value in content.items()})


def _constructor_arguments(cls: type) -> set[str]:
    constructors = [vars(base)["__init__"] for base in cls.__mro__[:-1] if "__init__" in vars(base)]
    return {name for constructor in constructors for name in inspect.signature(constructor).parameters}
