"""``vec_env`` of a zoo entry: sub-environments that Gymnasium's vector environments step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from sb3_ppo_variants.entries.checks import check_keys
from sb3_ppo_variants.entries.constructors import explicit_parameters
from sb3_ppo_variants.vec_env import GymVectorEnv

_ENTRY_POINT = "vector_entry_point"
_CLASSES: dict[str, Callable[..., SyncVectorEnv[Any, Any] | AsyncVectorEnv[Any, Any]]] = {
    "sync": SyncVectorEnv,
    "async": AsyncVectorEnv,
}


@dataclass(frozen=True)
class GymnasiumVectors:
    """Stands where SB3's ``make_vec_env`` takes a class of vectorised environments.

    :param env_id: a Gymnasium environment id
    :param env_kwargs: arguments of the environment
    :param mode: Gymnasium's ``vectorization_mode``
    :param vector_kwargs: arguments of the vector environment
    """

    env_id: str
    env_kwargs: Mapping[str, Any]
    mode: str
    vector_kwargs: Mapping[str, Any]

    def __call__(self, env_fns: list[Callable[[], gym.Env[Any, Any]]]) -> GymVectorEnv:
        """Return the environments, or as many of the kind that the environment itself provides."""
        if self.mode == _ENTRY_POINT:
            return GymVectorEnv(gym.make_vec(self.env_id, len(env_fns), self.mode, **self.env_kwargs))
        return GymVectorEnv(_CLASSES[self.mode](env_fns, **self.vector_kwargs))


def resolve_vec_env(
    value: Any, env_id: str, env_kwargs: Mapping[str, Any], *, wrapped: bool, where: str
) -> GymnasiumVectors | None:
    """Resolve ``vec_env`` of a zoo entry.

    :param value: "gymnasium", or ``{gymnasium: {vectorization_mode: ..., vector_kwargs: ...}}`` with arguments of
        ``gymnasium.make_vec``; None: SB3's own
    :param env_id: a Gymnasium environment id
    :param env_kwargs: arguments of the environment
    :param wrapped: whether wrappers are put around each sub-environment
    :param where: names the place in the message
    :raises ValueError: if it is none of these, or the environment cannot be made so
    """
    if value is None:
        return None
    arguments: Any = {} if value == "gymnasium" else None
    if isinstance(value, Mapping) and value.keys() == {"gymnasium"}:
        arguments = value["gymnasium"]
    if not isinstance(arguments, Mapping):
        raise ValueError(f"{where} must be gymnasium, or {{gymnasium: {{vectorization_mode: async}}}}, not {value!r}.")
    check_keys(arguments, ["vectorization_mode", "vector_kwargs"], where)
    provides = gym.spec(env_id.rpartition(":")[2]).vector_entry_point is not None
    mode = arguments.get("vectorization_mode") or (_ENTRY_POINT if provides and not wrapped else "sync")
    vector_kwargs = arguments.get("vector_kwargs") or {}
    if mode == _ENTRY_POINT:
        if not provides or wrapped or vector_kwargs:
            raise ValueError(
                f"{where} asks for the vector_entry_point of {env_id}: it needs one, and takes neither env_wrapper nor "
                "vector_kwargs. Use vectorization_mode: sync or async."
            )
    elif mode not in _CLASSES:
        raise ValueError(f"{where} has the vectorization_mode {mode!r}: it is sync, async or {_ENTRY_POINT}.")
    else:
        _check_vector_kwargs(vector_kwargs, _CLASSES[mode], where)
    return GymnasiumVectors(env_id, env_kwargs, mode, vector_kwargs)


def _check_vector_kwargs(vector_kwargs: Any, cls: Any, where: str) -> None:
    if not isinstance(vector_kwargs, Mapping):
        raise ValueError(f"{where} has the vector_kwargs {vector_kwargs!r}: they must be a mapping.")
    check_keys(vector_kwargs, [name for name in explicit_parameters(cls) if name != "env_fns"], where)
    modes = [mode.value for mode in AutoresetMode]
    if vector_kwargs.get("autoreset_mode", modes[0]) not in (*modes, *AutoresetMode):
        raise ValueError(f"{where} has the autoreset_mode {vector_kwargs['autoreset_mode']!r}: {', '.join(modes)}.")
