"""An algorithm id and an environment id become environment and model, by the registered hyperparameters."""

from collections.abc import Mapping
from typing import Any

from sb3_ppo_variants.entries.entry import Entry, overridden_entry
from sb3_ppo_variants.entries.zoo_files import environments_in, read_entry
from sb3_ppo_variants.registry import get_algorithm


def registered_entry(algorithm_id: str, env_id: str) -> dict[str, Any]:
    """Return the zoo entry of an environment as it stands in the algorithm's file.

    Atari games without their own entry have ``atari``, all other environments ``default``.

    :param algorithm_id: an id of the registry
    :param env_id: a Gymnasium environment id
    :raises ValueError: if the algorithm is unknown, or has neither an entry for the environment nor a default
    """
    return read_entry(get_algorithm(algorithm_id).config, env_id)


def registered_envs(algorithm_id: str) -> list[str]:
    """Return the environments that have their own entry in the algorithm's file, in its order.

    :param algorithm_id: an id of the registry
    :raises ValueError: if the algorithm is unknown
    """
    return environments_in(get_algorithm(algorithm_id).config)


class Experiment(Entry):
    """A zoo entry for an algorithm of the registry, resolved; see :class:`Entry`.

    :param algorithm_id: an id of the registry
    :param env_id: a Gymnasium environment id
    :param entry: the raw zoo entry
    :raises ValueError: if an id is unknown, or a key or value of the entry makes no sense
    """

    def __init__(self, algorithm_id: str, env_id: str, entry: Mapping[str, Any]) -> None:
        super().__init__(get_algorithm(algorithm_id).cls, env_id, entry, name=algorithm_id)

    @classmethod
    def from_zoo(cls, algorithm_id: str, env_id: str, **overrides: Any) -> "Experiment":
        """Take the registered entry; overrides replace whole values, as in rl-zoo.

        :param algorithm_id: an id of the registry
        :param env_id: a Gymnasium environment id
        :param overrides: zoo keys and constructor arguments
        :raises ValueError: as the class, or if nothing is registered
        """
        algorithm = get_algorithm(algorithm_id)
        entry = overridden_entry(algorithm.config, env_id, overrides, algorithm.cls, algorithm_id)
        return cls(algorithm_id, env_id, entry)

    @property
    def algorithm_id(self) -> str:
        """Its id in the registry."""
        return self.name
