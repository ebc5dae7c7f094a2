"""Which objects are still what SB3 made them: of exactly its class, with the methods that the class came with."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeGuard, TypeVar

from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import ConvertCallback
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

_T = TypeVar("_T")


def _function(method: Any) -> Any:
    """Return the function of a method; a static method is one itself."""
    return getattr(method, "__func__", method)


_METHODS = {
    DummyVecEnv: ("step", "step_async", "step_wait", "_save_obs", "_obs_from_buf"),
    VecNormalize: (
        "step",
        "step_async",
        "step_wait",
        "normalize_obs",
        "_normalize_obs",
        "normalize_reward",
        "_update_reward",
    ),
    ConvertCallback: ("update_locals", "update_child_locals", "on_step", "_on_step"),
    RunningMeanStd: ("update", "update_from_moments"),
    RolloutBuffer: (
        "reset",
        "add",
        "compute_returns_and_advantage",
        "get",
        "_get_samples",
        "swap_and_flatten",
        "to_torch",
    ),
}
_REPLACED: Mapping[type, Mapping[str, Any]] = MappingProxyType(
    {cls: {name: _function(getattr(cls, name)) for name in names} for cls, names in _METHODS.items()}
)
"""The methods whose work is done here without calling them."""


def is_untouched(instance: Any, cls: type[_T]) -> TypeGuard[_T]:
    """Tell whether an object is of exactly this type, with the methods that the type was imported with.

    :param instance: any object
    :param cls: one of SB3's classes of which methods are replaced here
    """
    return type(instance) is cls and all(
        _function(getattr(instance, name)) is method for name, method in _REPLACED[cls].items()
    )
