"""Checks of zoo entries: everything that can be wrong, before any work is done."""

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import gymnasium as gym
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_ppo_variants.entries.constructors import constructor_parameters
from sb3_ppo_variants.entries.schedules import is_schedule, schedule_keys

ENVIRONMENT_KEYS = (
    "n_envs",
    "n_timesteps",
    "vec_env",
    "normalize",
    "env_wrapper",
    "vec_env_wrapper",
    "env_kwargs",
    "frame_stack",
)
# What make_env and make_model are given, so an entry cannot hold it
_RESERVED = ("env", "seed", "_init_setup_model")


def accepted_keys(cls: type[OnPolicyAlgorithm]) -> list[str]:
    """Return the keys that a zoo entry for a class may hold.

    :param cls: an algorithm class
    """
    return [*ENVIRONMENT_KEYS, *(name for name in constructor_parameters(cls) if name not in _RESERVED)]


def check_keys(given: Mapping[str, Any], accepted: list[str], where: str) -> None:
    """Refuse keys that nothing reads.

    :param given: what a user wrote
    :param accepted: the keys that are read
    :param where: names the place in the message
    :raises ValueError: at the first other key, with near matches
    """
    for key in given:
        if key not in accepted:
            near = get_close_matches(str(key), accepted, n=2)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise ValueError(f"Unknown key {key!r} in {where}: {hint}Allowed are {', '.join(accepted)}.")


def check_values(entry: Mapping[str, Any], cls: type[OnPolicyAlgorithm], where: str) -> None:
    """Refuse values of a zoo entry that would end as a type error somewhere behind it.

    :param entry: its keys are known
    :param cls: the algorithm class that it is for
    :param where: names the entry in the message
    :raises ValueError: if there is no policy, a count is no positive number, or a number is a text
    """
    if "policy" not in entry:
        raise ValueError(f"{where} has no policy: add one, such as policy: MlpPolicy.")
    parameters, schedules = constructor_parameters(cls), schedule_keys(cls)
    for key, value in entry.items():
        if key in ("n_envs", "n_timesteps", "frame_stack"):
            if value is not None:
                positive_int(value, f"{key} in {where}")
        elif key in parameters and key not in schedules:
            if is_schedule(value):
                possible = ", ".join(name for name in schedules if name in parameters)
                raise ValueError(f"{key} in {where} cannot be a schedule ({value!r}): only {possible} can.")
            _check_number_is_no_text(value, parameters[key].default, f"{key} in {where}")


def check_env_id(env_id: str) -> None:
    """Refuse an environment that Gymnasium does not know.

    :param env_id: a Gymnasium environment id
    :raises ValueError: with Gymnasium's reason
    """
    module, _, name = env_id.rpartition(":")
    try:
        if module:  # "package:Name-v0", as in gymnasium.make: the package registers it when it is imported
            importlib.import_module(module)
        gym.spec(name)
    except (gym.error.Error, ImportError) as error:
        raise ValueError(f"Unknown environment {env_id!r}: {error}") from error


def positive_int(value: Any, where: str) -> int:
    """Return a count.

    :param value: what a zoo entry holds
    :param where: names the place in the message
    :raises ValueError: if it is no whole number of at least 1
    """
    # YAML writes large budgets as floats: 1.0e+6
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not is_whole or value < 1:
        raise ValueError(f"{where} must be a whole number of at least 1, not {value!r}.")
    return int(value)


def _check_number_is_no_text(value: Any, default: Any, where: str) -> None:
    if not isinstance(value, str):
        return
    if isinstance(default, int | float) or _is_number(value):
        raise ValueError(f"{where} must be a number, not the text {value!r}. YAML reads 1e-3 as text: write 1.0e-3.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
