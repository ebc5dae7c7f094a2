"""The harness' search space, as rl_zoo3's optimiser asks for it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any

from sb3_ppo_variants.entries.checks import ENVIRONMENT_KEYS
from sb3_ppo_variants.entries.policy_kwargs import resolve_policy_kwargs
from sb3_ppo_variants.entries.schedules import resolve_schedules
from sb3_ppo_variants.registry import get_algorithm
from sb3_ppo_variants.search_space import Trial, suggest
from sb3_ppo_variants.tuning_space import JOINT_CRITIC, TuningSpace
from sb3_ppo_variants.zoo.algorithms import tuned

Sampler = Callable[[Trial, int, int, dict[str, Any]], dict[str, Any]]

# What tuning keeps of the user's entry: the rest is sampled or untouched
_KEPT = ("policy", "n_envs", "normalize", "policy_kwargs", *JOINT_CRITIC)
# Rollouts are at most a quarter of a run: from here on nothing of the space is cut off
_UNLIMITED_STEPS = 2**16

_current_space: ContextVar[TuningSpace | None] = ContextVar("current_space", default=None)


def tuning_space(algorithm_id: str, entry: Mapping[str, Any], steps: int = _UNLIMITED_STEPS) -> TuningSpace:
    """Return the harness' space around a zoo entry.

    :param algorithm_id: an id of the registry
    :param entry: raw zoo entry of the run
    :param steps: environment steps of a trial, which limit the rollout
    """
    kept = {key: entry[key] for key in _KEPT if key in entry}
    return TuningSpace(get_algorithm(algorithm_id), kept, steps)


@contextmanager
def sampling_from(space: TuningSpace) -> Iterator[None]:
    """Within it, :func:`samplers` draw from ``space``: rl_zoo3 tells them neither entry nor steps.

    It holds for the current thread only, because rl_zoo3 runs parallel trials in threads.
    """
    token = _current_space.set(space)
    try:
        yield
    finally:
        _current_space.reset(token)


def constructor_arguments(cls: type, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a tuned entry goes to the constructor, schedules and activation resolved.

    :param cls: the algorithm class
    :param entry: what :meth:`TuningSpace.entry` returns
    """
    # rl_zoo3 has resolved the policy
    arguments = {key: value for key, value in entry.items() if key not in (*ENVIRONMENT_KEYS, "policy")}
    arguments = resolve_schedules(cls, arguments, f"the sampled entry for {cls.__name__}")
    return arguments | {"policy_kwargs": resolve_policy_kwargs(arguments["policy_kwargs"])}


def _sample(algorithm_id: str, trial: Trial, _n_actions: int, n_envs: int, _more: dict[str, Any]) -> dict[str, Any]:
    """Sample constructor arguments; the signature behind ``algorithm_id`` is rl_zoo3's."""
    space = _current_space.get() or tuning_space(algorithm_id, {"n_envs": n_envs})
    return constructor_arguments(space.algorithm.cls, space.entry(suggest(trial, space.parameters)))


def samplers() -> dict[str, Sampler]:
    """Return the function that rl_zoo3 asks for each algorithm's sampled arguments; the same ones at every call."""
    return {algorithm_id: _sampler(algorithm_id) for algorithm_id in tuned()}


@cache
def _sampler(algorithm_id: str) -> Sampler:
    return partial(_sample, algorithm_id)
