"""Reading files of hyperparameters: those in ``zoo_configs``, and those that other packages bring.

``ppo`` is the name of ``zoo_configs/ppo.yml``, ``my_pkg:my_ppo`` that of ``my_ppo.yml`` in the package my_pkg.
"""

import copy
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import yaml

if TYPE_CHECKING:
    from importlib.abc import Traversable


def read_entry(config: str, env_id: str) -> dict[str, Any]:
    """Return the entry of an environment as it stands in a file.

    Atari games without their own entry have ``atari``, all other environments ``default``.

    :param config: name of the file, as above
    :param env_id: a Gymnasium environment id
    :raises ValueError: if there is neither an entry for the environment nor a default
    """
    entries = _zoo_file(config)
    for name in (env_id, "atari" if _is_atari(env_id) else "default", "default"):
        if name in entries:
            return copy.deepcopy(entries[name])
    raise ValueError(f"{file_title(config)} has no entry for {env_id!r} and no default: add one.")


def environments_in(config: str) -> list[str]:
    """Return the environments that have their own entry in a file, in its order.

    :param config: name of the file, as above
    """
    return [name for name in _zoo_file(config) if name not in ("atari", "default")]


def zoo_file(config: str) -> "Traversable":
    """Return the file that a name stands for.

    :param config: name of the file, as above
    :raises ImportError: if there is no such package
    """
    package, _, name = config.rpartition(":")
    return resources.files(package or "sb3_ppo_variants.zoo_configs").joinpath(f"{name}.yml")


def file_title(config: str) -> str:
    """Return what a file is called in messages.

    :param config: name of the file, as above
    """
    package, _, name = config.rpartition(":")
    return f"{package.replace('.', '/') or 'zoo_configs'}/{name}.yml"


@cache
def _zoo_file(config: str) -> dict[str, dict[str, Any]]:
    """Read a file of hyperparameters; the caller must not change what it gets.

    :raises ValueError: if there is no such file, or it is none of hyperparameters
    """
    try:
        entries = yaml.safe_load(zoo_file(config).read_text(encoding="utf-8"))
    except (ImportError, OSError) as error:
        raise ValueError(f"zoo_config is {config!r}, and {file_title(config)} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{file_title(config)} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError(f"{file_title(config)} must map each environment to its hyperparameters.")
    return entries


def _is_atari(env_id: str) -> bool:
    spec = gym.registry.get(env_id)
    return spec is not None and "AtariEnv" in str(spec.entry_point)
