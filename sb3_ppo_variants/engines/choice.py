"""Which engine runs a model."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from sb3_ppo_variants.engines.array_engine import ArrayEngine
from sb3_ppo_variants.engines.eligibility import why_no_arrays
from sb3_ppo_variants.engines.engine import Engine, Trainable
from sb3_ppo_variants.engines.kernels.compiled_kernels import CompiledKernels
from sb3_ppo_variants.engines.kernels.kernels import Kernels
from sb3_ppo_variants.engines.kernels.numpy_kernels import NumpyKernels
from sb3_ppo_variants.engines.torch_engine import TorchEngine

KERNELS: Mapping[str, type[Kernels]] = MappingProxyType(
    {kernels.name: kernels for kernels in (CompiledKernels, NumpyKernels)}
)
"""Kernels by the name that ``engine`` knows them by, the fastest first: "auto" takes the first that can run."""

ENGINES = ("auto", TorchEngine.name, *KERNELS)
"""Values of ``engine``."""


class Choice(NamedTuple):
    """An engine, and why not a faster one.

    :param engine: the engine
    :param report: its name, and the reason where it is not the fastest
    """

    engine: Engine
    report: str


def choose_engine(model: Trainable, current: Engine | None) -> Choice:
    """Return the engine that is wanted, or under "auto" the fastest that can run the model as it is now.

    :param model: a model that has been set up; its ``engine`` is one of :data:`ENGINES`
    :param current: the engine that it had until now, which stays if it still fits
    :raises ValueError: if kernels are asked for by name and the model cannot run on them
    """
    if model.engine == TorchEngine.name:
        return _torch(model, current, "bit for bit SB3")
    reason, passed_over = None, ""
    for name in KERNELS if model.engine == "auto" else [model.engine]:
        reason = why_no_arrays(model) or KERNELS[name].why_not(model.policy)
        if reason is None:
            return Choice(_on_kernels(model, current, KERNELS[name]), name + passed_over)
        passed_over = f" ({reason})"
    if model.engine != "auto":
        raise ValueError(
            f"engine={model.engine!r} cannot run this model: {reason}. Use engine='auto' or {TorchEngine.name!r}."
        )
    return _torch(model, current, reason)


def _torch(model: Trainable, current: Engine | None, reason: str | None) -> Choice:
    engine = current if isinstance(current, TorchEngine) and current.fits(model) else TorchEngine(model)
    return Choice(engine, f"{engine.name} ({reason})")


def _on_kernels(model: Trainable, current: Engine | None, kernels: type[Kernels]) -> Engine:
    if current is not None and current.name == kernels.name and current.fits(model):
        return current
    return ArrayEngine(model, kernels)
