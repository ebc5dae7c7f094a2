"""The attributes of an object of somebody else's: read as JSON, and put back."""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from sb3_ppo_variants.resume.values import decode, encode_or_pickle


def class_name(owner: object) -> str:
    """Return the whole name of an object's class."""
    return f"{type(owner).__module__}.{type(owner).__qualname__}"


class Settings:
    """What objects were constructed with, as far as it is in attributes of the same names.

    Whoever resumes a run passes settings anew, so an attribute that still holds one is not kept. Once it holds
    something else, it is a state like others.

    :param owners: the objects, before they have done anything
    """

    def __init__(self, owners: Iterable[object]) -> None:
        self._at_first = {id(owner): dict(_read_settings(owner)) for owner in owners}

    def holds(self, owner: object, name: str, content: Any) -> bool:
        """Tell whether an attribute is a setting.

        :param owner: whose attribute
        :param name: of the attribute
        :param content: its value, as JSON
        """
        at_first = self._at_first.get(id(owner), {})
        return name in at_first and at_first[name] == content


def kept(
    owner: object, settings: Settings, encode: Callable[[Any], Any], without: Collection[str] = ()
) -> Iterator[tuple[str, Any, Exception | None]]:
    """Yield each attribute's name, its value as JSON and None; or its value as it is and why that cannot be encoded.

    :param owner: whose attributes
    :param settings: are left out
    :param encode: how a value becomes JSON
    :param without: names that are left out
    """
    for name, value in vars(owner).items():
        if name in without:
            continue
        try:
            content = encode(value)
        except Exception as error:  # pickling runs code of others
            yield name, value, error
        else:
            if not settings.holds(owner, name, content):
                yield name, content, None


def restore(owner: object, content: dict[str, Any]) -> None:
    """Put back attributes that :func:`kept` yielded."""
    vars(owner).update({name: decode(value) for name, value in content.items()})


def _read_settings(owner: object) -> Iterator[tuple[str, Any]]:
    constructors = [vars(base)["__init__"] for base in type(owner).__mro__[:-1] if "__init__" in vars(base)]
    arguments = {name for constructor in constructors for name in inspect.signature(constructor).parameters}
    for name in arguments & vars(owner).keys():
        try:
            yield name, encode_or_pickle(vars(owner)[name])
        except Exception:  # noqa: S112 -- pickling runs code of others; what cannot be kept is told when it is to be
            continue
