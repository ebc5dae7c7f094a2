"""Algorithm id -> class, for all that this package trains, tunes and ranks.

These are the variants, their forms, two baselines, and the plug-ins of other packages, which are imported when one is
asked for, or all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType
from typing import Any

from sb3_contrib import TRPO
from stable_baselines3 import PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_ppo_variants import families
from sb3_ppo_variants.entries.constructors import constructor_parameters, explicit_parameters
from sb3_ppo_variants.plugins import Plugin, find_plugins
from sb3_ppo_variants.search_space import CRITIC_PASSES, Choice, FloatRange, IntRange, SearchSpace
from sb3_ppo_variants.training.update_loop import UpdateLoop
from sb3_ppo_variants.variants.adaptive_clip_ppo import AdaptiveClipPPO
from sb3_ppo_variants.variants.adaptive_lr_ppo import AdaptiveLRPPO
from sb3_ppo_variants.variants.clip_ppo import ClipPPO
from sb3_ppo_variants.variants.discovered_ppo import DiscoveredPPO
from sb3_ppo_variants.variants.espo import ESPO
from sb3_ppo_variants.variants.kl_penalty_ppo import KLPenaltyPPO
from sb3_ppo_variants.variants.kl_stop_ppo import KLStopPPO
from sb3_ppo_variants.variants.rpo import RPO
from sb3_ppo_variants.variants.spo import SPO
from sb3_ppo_variants.variants.trgppo import TRGPPO
from sb3_ppo_variants.variants.truly_ppo import TrulyPPO
from sb3_ppo_variants.variants.trust_region_ppo import TrustRegionPPO


@dataclass(frozen=True)
class Algorithm:
    """A class under the id that configs, studies and the command line use.

    :param id: snake_case name
    :param cls: the class itself
    :param limits_step_by: a few words for tables
    :param own_search_space: ranges of the parameters that tuning adds to the shared ones
    :param is_baseline: True for SB3's PPO and sb3-contrib's TRPO
    :param variant_id: id of the variant that this is a form of, with masks or memory; None for all others
    :param plugin: where it comes from; None for those of this package
    """

    id: str
    cls: type[OnPolicyAlgorithm]
    limits_step_by: str
    own_search_space: SearchSpace
    is_baseline: bool
    variant_id: str | None = None
    plugin: Plugin | None = None

    @property
    def config(self) -> str:
        """Name of the file of its hyperparameters, as in ``zoo_config``: a variant's forms share its file."""
        return self.plugin.config if self.plugin else self.variant_id or self.id

    @property
    def tuned_file(self) -> str:
        """Name of the file that takes its tuned hyperparameters: a plug-in has its own, whatever it was tuned from."""
        return f"{self.variant_id or self.id}.yml"

    @property
    def has_engines(self) -> bool:
        """Whether the constructor takes ``engine``: an :class:`UpdateLoop` does, SB3's own classes do not."""
        return "engine" in constructor_parameters(self.cls)

    @property
    def own_parameters(self) -> dict[str, Any]:
        """Own parameter -> default: a variant's keyword-only ones, a baseline's tuned ones."""
        parameters = constructor_parameters(self.cls)
        if self.is_baseline:
            return {name: parameters[name].default for name in self.own_search_space}
        shared = constructor_parameters(PPO) | explicit_parameters(UpdateLoop)
        return {
            name: parameter.default
            for name, parameter in parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and name not in shared
        }


def get_algorithm(algorithm_id: str) -> Algorithm:
    """Return the algorithm registered under an id.

    :param algorithm_id: such as ``"adaptive_clip_ppo"``
    :raises ValueError: if there is none, or it is a plug-in that cannot be used
    """
    for registered in (ALGORITHMS, FAMILIES):
        if algorithm_id in registered:
            return registered[algorithm_id]
    if algorithm_id in plugged():
        return plugged()[algorithm_id]
    if algorithm_id in IMPOSSIBLE:
        raise ValueError(f"{algorithm_id} is no algorithm: {IMPOSSIBLE[algorithm_id]}")
    for plugin in plugins():
        if plugin.id == algorithm_id:
            origin = f"{plugin.origin} of {plugin.distribution} {plugin.version}"
            raise ValueError(f"The plug-in {algorithm_id} ({origin}) cannot be used: {plugin.problem}")
    known = {**algorithms(), **FAMILIES}
    near = [known_id for known_id, algorithm in known.items() if algorithm.cls.__name__.lower() == algorithm_id.lower()]
    near = near or get_close_matches(algorithm_id.lower(), known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(algorithms())}."
    raise ValueError(f"Unknown algorithm {algorithm_id!r}: {hint}")


def algorithms() -> dict[str, Algorithm]:
    """Return all that ``ppo-variants list`` shows, by id: variants, baselines, plug-ins; no forms."""
    return {**ALGORITHMS, **plugged()}


@cache
def plugged() -> Mapping[str, Algorithm]:
    """Return the plug-ins that can be used, by id."""
    return MappingProxyType({plugin.id: _plugged(plugin, plugin.cls) for plugin in plugins() if plugin.cls})


@cache
def plugins() -> tuple[Plugin, ...]:
    """Return what other packages have registered, with a reason where it cannot be used; the first call imports it."""
    baselines = {algorithm.cls: algorithm.id for algorithm in ALGORITHMS.values() if algorithm.is_baseline}
    return find_plugins({*ALGORITHMS, *FAMILIES, *IMPOSSIBLE, *_RESERVED}, baselines)


def _plugged(plugin: Plugin, cls: type[OnPolicyAlgorithm]) -> Algorithm:
    limits_step_by = str(getattr(cls, "limits_step_by", "not said"))
    own_search_space: SearchSpace = getattr(cls, "own_search_space", {})
    return Algorithm(plugin.id, cls, limits_step_by, own_search_space, is_baseline=False, plugin=plugin)


def _variant(cls: type[UpdateLoop]) -> Algorithm:
    return Algorithm(cls.zoo_config, cls, cls.limits_step_by, cls.own_search_space, is_baseline=False)


def _form(family: str, variant: Algorithm) -> Algorithm:
    cls = getattr(families, f"{''.join(word.capitalize() for word in family.split('_'))}{variant.cls.__name__}")
    return replace(variant, id=f"{family}_{variant.id}", cls=cls, variant_id=variant.id)


_PPO_SEARCH_SPACE: SearchSpace = {
    "clip_range": FloatRange(0.1, 0.4),
    "target_kl": Choice((None, 0.01, 0.02, 0.05)),
}

# rl_zoo3 samples target_kl, cg_max_steps and n_critic_updates in the same ranges; its published settings move
# cg_damping between 1e-3 and 0.1 as well, and its source names the line search's factor as a candidate
_TRPO_SEARCH_SPACE: SearchSpace = {
    "target_kl": FloatRange(0.001, 0.1, log=True),
    "cg_damping": FloatRange(0.001, 0.2, log=True),
    "cg_max_steps": IntRange(5, 30),
    "n_critic_updates": CRITIC_PASSES,
    "line_search_shrinking_factor": FloatRange(0.6, 0.9),
}

_REGISTERED = (
    _variant(ClipPPO),
    _variant(AdaptiveClipPPO),
    _variant(KLStopPPO),
    _variant(TrustRegionPPO),
    _variant(KLPenaltyPPO),
    _variant(AdaptiveLRPPO),
    _variant(SPO),
    _variant(TrulyPPO),
    _variant(TRGPPO),
    _variant(ESPO),
    _variant(DiscoveredPPO),
    _variant(RPO),
    Algorithm("ppo", PPO, "clipped ratio (baseline, SB3)", _PPO_SEARCH_SPACE, is_baseline=True),
    Algorithm("trpo", TRPO, "KL constraint (baseline, sb3-contrib)", _TRPO_SEARCH_SPACE, is_baseline=True),
)

# rl_zoo3's own, which keep their ids in its commands, and what --algos takes for every algorithm
_RESERVED = ("a2c", "ars", "crossq", "ddpg", "dqn", "ppo_lstm", "qrdqn", "sac", "td3", "tqc", "all")

ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType({algorithm.id: algorithm for algorithm in _REGISTERED})
VARIANTS: Mapping[str, Algorithm] = MappingProxyType(
    {algorithm.id: algorithm for algorithm in _REGISTERED if not algorithm.is_baseline}
)
_MASKS_NEED_DISCRETE = "masks need discrete actions, and RPO shifts the mean of a Gaussian; use {}clip_ppo"
IMPOSSIBLE: Mapping[str, str] = MappingProxyType(
    {f"{family}_rpo": _MASKS_NEED_DISCRETE.format(f"{family}_") for family in ("maskable", "maskable_recurrent")}
)
"""Ids that a form would have which no environment can run -> why."""
FAMILIES: Mapping[str, Algorithm] = MappingProxyType(
    {
        form_id: _form(family, variant)
        for family in ("maskable", "recurrent", "maskable_recurrent")
        for variant in VARIANTS.values()
        if (form_id := f"{family}_{variant.id}") not in IMPOSSIBLE
    }
)
"""The variants with action masks, with memory, and with both: ``maskable_clip_ppo``, ``recurrent_clip_ppo``, ..."""
