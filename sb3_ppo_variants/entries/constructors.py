"""What constructors accept."""

import inspect
from functools import cache


def constructor_parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Return all that the constructor accepts, with what ``**kwargs`` hands on to the classes behind it.

    :param cls: an algorithm class
    :return: name -> parameter, the nearest class first
    """
    return dict(_constructor_parameters(cls))


@cache  # Studies ask for each trial, and inspecting takes a millisecond
def _constructor_parameters(cls: type) -> dict[str, inspect.Parameter]:
    parameters: dict[str, inspect.Parameter] = {}
    for ancestor in cls.__mro__:
        if "__init__" not in vars(ancestor):
            continue
        parameters = parameters | {
            name: parameter for name, parameter in explicit_parameters(ancestor).items() if name not in parameters
        }
        signature = inspect.signature(vars(ancestor)["__init__"])
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
            break
    return parameters


def explicit_parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Return the parameters that the class's own ``__init__`` names.

    :param cls: any class
    :return: name -> parameter; empty if it has no ``__init__`` of its own
    """
    if "__init__" not in vars(cls):
        return {}
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: parameter
        for name, parameter in inspect.signature(vars(cls)["__init__"]).parameters.items()
        if name != "self" and parameter.kind not in variadic
    }
