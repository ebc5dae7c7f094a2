"""What a study ranks: an algorithm as it is registered, or a configuration of one under a name of its own."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from sb3_ppo_variants.entries.checks import accepted_keys, check_keys, positive_int
from sb3_ppo_variants.entries.constructors import constructor_parameters
from sb3_ppo_variants.entries.schedules import schedule_keys
from sb3_ppo_variants.registry import algorithms, get_algorithm

from ..runs.cell import canonical_json

_NAME = re.compile(r"\w[\w.+-]*")
_ALL = "all"
# Whoever gave these to one algorithm would rank it on another task, or on another budget
_OF_THE_ENVIRONMENT = ("n_timesteps", "env_kwargs", "env_wrapper", "vec_env_wrapper")
# A run's process decides these
_OF_THE_RUN = ("device", "verbose", "tensorboard_log")


class Configuration(BaseModel):
    """An algorithm, and hyperparameters that tuning does not touch.

    :param algorithm: registered algorithm id
    :param hyperparameters: keys of a zoo entry, which replace whole values of the registered ones
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    algorithm: str
    hyperparameters: dict[str, Any] = {}

    @field_validator("hyperparameters")
    @classmethod
    def _must_be_plain(cls, hyperparameters: dict[str, Any]) -> dict[str, Any]:
        check_plain(hyperparameters, "hyperparameters")
        return hyperparameters

    def check(self, name: str) -> None:
        """Refuse what no run could be made of.

        :param name: what the study calls it
        :raises ValueError: the algorithm is unknown, the name says something else, or a hyperparameter is unknown
        """
        algorithm = get_algorithm(self.algorithm)
        if name != self.algorithm and (name == _ALL or _is_registered(name)):
            meaning = "every algorithm" if name == _ALL else "another algorithm"
            raise ValueError(f"{name} means {meaning}: give the configuration of {self.algorithm} a name of its own")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name: use letters, digits and any of _ . + -")
        for key in _OF_THE_ENVIRONMENT:
            if key in self.hyperparameters:
                place = "steps" if key == "n_timesteps" else key
                raise ValueError(f"{key} of {name} would rank it on another task: {place} belongs to the environment")
        accepted = [key for key in accepted_keys(algorithm.cls) if key not in (*_OF_THE_ENVIRONMENT, *_OF_THE_RUN)]
        check_keys(self.hyperparameters, accepted, f"the hyperparameters of {name}")
        self._check_numbers(name)

    def _check_numbers(self, name: str) -> None:
        """Refuse what arithmetic would stumble over before a constructor sees it."""
        cls = get_algorithm(self.algorithm).cls
        parameters, schedules = constructor_parameters(cls), schedule_keys(cls)
        for key, value in self.hyperparameters.items():
            where = f"{key} of {name}"
            if key in ("n_envs", "n_steps", "batch_size", "n_epochs"):
                positive_int(value, where)
            elif key in parameters and key not in schedules:
                default = parameters[key].default
                is_number = isinstance(default, int | float) and not isinstance(default, bool)
                if is_number and not isinstance(value, int | float):
                    raise ValueError(f"{where} must be a number, not {value!r}. YAML reads 1e-3 as text: write 1.0e-3")


def check_plain(content: Any, where: str) -> None:
    """Refuse what a cell could not carry to another machine.

    :param content: from a study file
    :param where: names the place in the message
    :raises ValueError: a value that JSON does not know, such as a date or an infinity
    """
    try:
        canonical_json(content)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: plain finite values only: {error}") from error


def read_algorithms(entries: Any) -> dict[str, Any]:
    """Turn the ``algorithms`` of a study file into name -> content of a :class:`Configuration`.

    :param entries: ids, and mappings of one name to its configuration
    :raises ValueError: something else is among them, or a name occurs twice
    """
    if not isinstance(entries, list):
        raise ValueError("expected a list of algorithm ids, or of names with a configuration")
    found: dict[str, Any] = {}
    for entry in entries:
        name, content = _read_entry(entry)
        if name in found:
            raise ValueError(f"an algorithm is named twice: {name}")
        found[name] = content
    return found


def _read_entry(entry: Any) -> tuple[str, Any]:
    if isinstance(entry, str):
        return entry, {"algorithm": entry}
    if not isinstance(entry, dict) or len(entry) != 1 or not all(isinstance(name, str) for name in entry):
        raise ValueError(
            f"expected an algorithm id, or own_name: {{algorithm: an id, hyperparameters: {{...}}}}, got {entry!r}"
        )
    ((name, content),) = entry.items()
    return name, {"algorithm": name, **content} if isinstance(content, dict) else content


def written_algorithms(configurations: Mapping[str, Configuration]) -> list[Any]:
    """The ``algorithms`` of a study file that :func:`read_algorithms` reads back.

    :param configurations: by name
    """
    return [
        {name: configuration.model_dump()} if is_own(name, configuration) else name
        for name, configuration in configurations.items()
    ]


def is_own(name: str, configuration: Configuration) -> bool:
    """Whether ``configuration`` is more than the registered algorithm of that name."""
    return name != configuration.algorithm or bool(configuration.hyperparameters)


def chosen_algorithms(names: Iterable[str], configurations: Mapping[str, Configuration]) -> list[Any]:
    """The ``algorithms`` of a study that is reduced, or extended, to ``names``.

    :param names: of the study's configurations, or algorithm ids; "all" alone for everything that there is
    :param configurations: of the study, by name
    :raises ValueError: a name that is neither, and near one of the study's own
    """
    names = list(names)
    if names == [_ALL]:
        names = [*algorithms(), *(name for name in configurations if name not in (*algorithms(), _ALL))]
    for name in names:
        near = get_close_matches(name, configurations, n=3)
        if near and name not in configurations and not _is_registered(name):
            raise ValueError(f"{name!r} is none of its algorithms: did you mean {' or '.join(near)}?")
    own = {name: configuration for name, configuration in configurations.items() if is_own(name, configuration)}
    return [{name: own[name].model_dump()} if name in own else name for name in names]


def described(configuration: Mapping[str, Any]) -> str:
    """``clip_ppo with critic_epochs 20, critic_learning_rate 0.001``.

    :param configuration: as the protocol has it
    """
    return f"{configuration['algorithm']}{with_hyperparameters(configuration['hyperparameters'])}"


def described_in(protocol: Mapping[str, Any]) -> list[str]:
    """``own_critic: clip_ppo with critic_epochs 20`` for each configuration of a study.

    :param protocol: of the study
    """
    return [f"{name}: {described(each)}" for name, each in protocol.get("configurations", {}).items()]


def with_hyperparameters(hyperparameters: Mapping[str, Any]) -> str:
    """``with critic_epochs 20, critic_learning_rate 0.001`` after a space; nothing for none.

    :param hyperparameters: that a study fixes
    """
    values = ", ".join(f"{name} {value}" for name, value in hyperparameters.items())
    return f" with {values}" if values else ""


def configuration_in(protocol: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What a protocol says of ``name``: algorithm id and fixed hyperparameters.

    :param protocol: of a study
    :param name: an algorithm id, or the name of a configuration
    """
    found: Mapping[str, Any] = protocol.get("configurations", {}).get(name, {"algorithm": name, "hyperparameters": {}})
    return found


def _is_registered(name: str) -> bool:
    try:
        get_algorithm(name)
    except ValueError:
        return False
    return True
