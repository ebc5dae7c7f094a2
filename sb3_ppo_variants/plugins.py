"""Algorithms of other packages, by the entry point group ``sb3_ppo_variants.algorithms``.

A package my_pkg registers its class MyPPO under the id my_ppo in its pyproject.toml::

    [project.entry-points."sb3_ppo_variants.algorithms"]
    my_ppo = "my_pkg:MyPPO"

The class says the rest, with the attributes that the variants of this package have: ``limits_step_by``,
``own_search_space`` and ``zoo_config``. ``zoo_config = "my_pkg:my_ppo"`` names ``my_ppo.yml`` in my_pkg, package data
in the format of ``zoo_configs``; without it a class has the file of its nearest ancestor that has one. The file is
named by the class and not found by the id, so that ``MyPPO.from_zoo`` reads it without asking what is installed.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_ppo_variants.entries.constructors import constructor_parameters
from sb3_ppo_variants.entries.zoo_files import environments_in

GROUP = "sb3_ppo_variants.algorithms"


@dataclass(frozen=True)
class Plugin:
    """An entry point, and what became of it.

    :param id: its name
    :param origin: what it names, such as ``my_pkg:MyPPO``
    :param distribution: name of the distribution that has it
    :param version: of the distribution
    :param cls: the class; None if it cannot be used
    :param config: name of its file of hyperparameters, as in ``zoo_config``
    :param problem: why it cannot be used, in one line; None if it can
    """

    id: str
    origin: str
    distribution: str
    version: str
    cls: type[OnPolicyAlgorithm] | None = None
    config: str = ""
    problem: str | None = None


class _UnusableError(Exception):
    """What a plug-in has that does not fit, in words that need no name of an error before them."""


def find_plugins(taken: Collection[str], baselines: Mapping[type, str]) -> tuple[Plugin, ...]:
    """Import every entry point of the group; whatever is wrong with one is its :attr:`Plugin.problem`.

    :param taken: ids that no plug-in can have
    :param baselines: class -> name of its file, for classes that have no ``zoo_config``
    :return: sorted by id
    """
    found = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    counts = Counter(entry.name for entry in found)
    several = {name for name, count in counts.items() if count > 1}
    return tuple(_plugin(entry, taken, several, baselines) for entry in found)


def _plugin(
    entry: EntryPoint, taken: Collection[str], several: Collection[str], baselines: Mapping[type, str]
) -> Plugin:
    distribution, version = (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "unknown")
    plugin = Plugin(entry.name, entry.value, distribution, version)
    try:
        _check_id(entry.name, taken, several)
        cls = _class_of(entry)
        return replace(plugin, cls=cls, config=_config_of(cls, baselines))
    except _UnusableError as error:
        return replace(plugin, problem=str(error))
    except (Exception, SystemExit) as error:  # other people's code runs here
        return replace(plugin, problem=f"{type(error).__name__}: {' '.join(str(error).split())}")


def _check_id(name: str, taken: Collection[str], several: Collection[str]) -> None:
    if re.fullmatch(r"[a-z][a-z0-9_]*", name) is None:
        raise _UnusableError(f"the id {name!r} is not snake_case: small letters, digits and _ only")
    if name in taken:
        raise _UnusableError(f"the id {name} is taken: choose another name for the entry point")
    if name in several:
        raise _UnusableError(f"several packages have registered the id {name}: uninstall all but one")


def _class_of(entry: EntryPoint) -> type[OnPolicyAlgorithm]:
    cls = entry.load()
    if not (isinstance(cls, type) and issubclass(cls, OnPolicyAlgorithm)):
        raise _UnusableError(f"{cls!r} is no subclass of SB3's OnPolicyAlgorithm")
    for name, parameter in constructor_parameters(cls).items():
        if parameter.default is parameter.empty and name not in ("policy", "env"):
            raise _UnusableError(f"{cls.__name__} has no default for {name}: load() constructs it without")
    return cls


def _config_of(cls: type[OnPolicyAlgorithm], baselines: Mapping[type, str]) -> str:
    inherited = next((baselines[ancestor] for ancestor in cls.__mro__ if ancestor in baselines), None)
    config = getattr(cls, "zoo_config", inherited)
    if config is None:
        raise _UnusableError(
            f"{cls.__name__} has no hyperparameters: let it say zoo_config = 'package:name', which is name.yml there"
        )
    environments_in(config)  # refuses what is no file of hyperparameters
    return str(config)
