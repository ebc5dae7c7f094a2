"""What the constructor takes and keeps."""

import inspect
from collections.abc import Iterator
from typing import Any

from stable_baselines3 import PPO

from sb3_ppo_variants.entries.policy_kwargs import ACTIVATIONS
from sb3_ppo_variants.search_space import Choice, Parameter
from sb3_ppo_variants.testing.requirements import learn, require
from sb3_ppo_variants.testing.variant import Variant
from sb3_ppo_variants.training.update_loop import UpdateLoop


def check_constructor_arguments(variant: Variant) -> None:
    """Own arguments have defaults and are stored unchanged under their names."""
    model = variant.make()
    for name, default in _own_arguments(variant.cls).items():
        if default is inspect.Parameter.empty:
            raise AssertionError(f"{name} has no default: load() constructs the class without it")
        _require_stored(model, name, variant.constructor_kwargs.get(name, default))
    for name, value in _search_space_corners(variant.cls):
        _require_stored(variant.make(**{name: value}), name, value)


def check_search_space(variant: Variant) -> None:
    """Every parameter of ``own_search_space`` is a constructor argument."""
    known = inspect.signature(PPO.__init__).parameters.keys() | _own_arguments(variant.cls).keys()
    unknown = set(variant.cls.own_search_space) - known
    require(not unknown, f"own_search_space names what the constructor does not take: {sorted(unknown)}")


def check_activation_by_name(variant: Variant) -> None:
    """``policy_kwargs`` accept an activation by name, as YAML and Optuna write it."""
    model = variant.make(policy_kwargs={"activation_fn": "relu"})
    found = any(isinstance(module, ACTIVATIONS["relu"]) for module in model.policy.mlp_extractor.modules())
    require(found, 'policy_kwargs={"activation_fn": "relu"} built a policy without ReLU')
    learn(model, rollouts=1)


def _own_arguments(cls: type[UpdateLoop]) -> dict[str, Any]:
    """Return the class's own arguments and their defaults: all constructors' keywords that are not SB3's."""
    baseline = inspect.signature(PPO.__init__).parameters
    parameters = [
        parameter
        for base in cls.__mro__
        if issubclass(base, UpdateLoop) and "__init__" in vars(base)
        for parameter in inspect.signature(base.__init__).parameters.values()
    ]
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.name not in baseline and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def _search_space_corners(cls: type[UpdateLoop]) -> Iterator[tuple[str, Any]]:
    own = _own_arguments(cls)
    for name, parameter in cls.own_search_space.items():
        if name in own:
            yield from ((name, value) for value in _corners(parameter))


def _corners(parameter: Parameter) -> tuple[Any, ...]:
    return parameter.options if isinstance(parameter, Choice) else (parameter.low, parameter.high)


def _require_stored(model: UpdateLoop, name: str, value: Any) -> None:
    require(hasattr(model, name), f"the argument {name} is not stored as an attribute of that name")
    stored = getattr(model, name)
    require(stored is value or stored == value, f"{name}={value!r} is stored as {stored!r}")
