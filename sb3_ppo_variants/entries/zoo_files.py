"""Reading the files of hyperparameters in ``zoo_configs``."""

import copy
from functools import cache
from importlib import resources
from typing import Any

import gymnasium as gym
import yaml


def read_entry(config: str, env_id: str) -> dict[str, Any]:
    """Return the entry of an environment as it stands in a file.

    Atari games without their own entry have ``atari``, all other environments ``default``.

    :param config: name of the file, without its ending
    :param env_id: a Gymnasium environment id
    :raises ValueError: if there is neither an entry for the environment nor a default
    """
    entries = _zoo_file(config)
    for name in (env_id, "atari" if _is_atari(env_id) else "default", "default"):
        if name in entries:
            return copy.deepcopy(entries[name])
    raise ValueError(f"zoo_configs/{config}.yml has no entry for {env_id!r} and no default: add one.")


def environments_in(config: str) -> list[str]:
    """Return the environments that have their own entry in a file, in its order.

    :param config: name of the file, without its ending
    """
    return [name for name in _zoo_file(config) if name not in ("atari", "default")]


@cache
def _zoo_file(config: str) -> dict[str, dict[str, Any]]:
    """Read a file of hyperparameters; the caller must not change what it gets."""
    path = resources.files("sb3_ppo_variants.zoo_configs").joinpath(f"{config}.yml")
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(entries, dict)
    return entries


def _is_atari(env_id: str) -> bool:
    spec = gym.registry.get(env_id)
    return spec is not None and "AtariEnv" in str(spec.entry_point)
