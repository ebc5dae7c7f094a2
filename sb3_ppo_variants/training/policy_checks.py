"""Whether a policy class suits an algorithm and its observations."""

import sys
from dataclasses import dataclass
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor

from sb3_ppo_variants.entries.constructors import constructor_parameters


class NoImagesError(ValueError, AssertionError):
    """A policy for images got other observations: a ValueError, and the AssertionError that SB3's callers expect."""


@dataclass(frozen=True)
class _Kind:
    """What the policies below one class have, and what an algorithm for them needs.

    The class goes by its name: sb3-contrib is not imported for those who want neither masks nor memory, and where
    nobody has imported it there is no policy of its kinds.
    """

    module: str
    name: str
    has: str
    wanted: str

    def includes(self, policy: type) -> bool:
        base = getattr(sys.modules.get(self.module), self.name, None)
        return base is not None and issubclass(policy, base)


# The nearest class first: those with memory are SB3's too
_KINDS = (
    _Kind("sb3_contrib.common.recurrent.policies", "RecurrentActorCriticPolicy", "has memory", "one with memory"),
    _Kind(
        "sb3_contrib.common.maskable.policies",
        "MaskableActorCriticPolicy",
        "knows masks and has no memory",
        "one that knows masks",
    ),
    _Kind(
        "stable_baselines3.common.policies",
        "ActorCriticPolicy",
        "knows neither memory nor masks",
        "one without memory and masks",
    ),
)


def check_policy(algorithm: type, policy: Any, aliases: dict[str, type], policy_kwargs: Any, space: Any) -> None:
    """Refuse a policy of another kind than the algorithm's, or one that cannot read the observations.

    :param algorithm: a variant's class
    :param policy: class of the policy
    :param aliases: the algorithm's own policies, by their short names
    :param policy_kwargs: arguments of the policy
    :param space: of the observations
    :raises ValueError: naming the policy, what is wrong with it, and what to take
    """
    names = ", ".join(repr(name) for name in aliases)
    if not isinstance(policy, type):
        raise ValueError(f"policy={policy!r} is no policy: use one of {names}, or a class of your own.")
    kind, wanted = _kind(policy), _kind(next(iter(aliases.values())))
    if kind is not wanted and not (kind is None and hasattr(policy, "evaluate_actions")):
        is_ = kind.has if kind is not None else "is no policy of an actor and a critic"
        needs = wanted.wanted if wanted is not None else "another"
        raise ValueError(f"{policy.__name__} {is_}, and {algorithm.__name__} needs {needs}: use one of {names}.")
    extractor = (policy_kwargs or {}).get("features_extractor_class") or _default_extractor(policy)
    if not isinstance(extractor, type):
        return
    is_dict = isinstance(space, spaces.Dict)
    if is_dict and issubclass(extractor, FlattenExtractor):
        raise ValueError(f"{policy.__name__} cannot read Dict observations: use 'MultiInputPolicy'.")
    if issubclass(extractor, CombinedExtractor) and not is_dict:
        raise ValueError(
            f"{policy.__name__} reads Dict observations, and these are {space}: use 'MlpPolicy', or 'CnnPolicy' for "
            "images."
        )


def _kind(policy: type) -> _Kind | None:
    return next((kind for kind in _KINDS if kind.includes(policy)), None)


def _default_extractor(policy: type) -> Any:
    parameter = constructor_parameters(policy).get("features_extractor_class")
    return None if parameter is None else parameter.default
