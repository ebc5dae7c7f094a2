"""Whether a policy class suits an algorithm and its observations."""

from typing import Any

from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor

from sb3_ppo_variants.entries.constructors import constructor_parameters

# The nearest class first: those with memory are SB3's too
_KINDS: dict[type, tuple[str, str]] = {
    RecurrentActorCriticPolicy: ("has memory", "one with memory"),
    MaskableActorCriticPolicy: ("knows masks and has no memory", "one that knows masks"),
    ActorCriticPolicy: ("knows neither memory nor masks", "one without memory and masks"),
}


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
        is_ = _KINDS[kind][0] if kind is not None else "is no policy of an actor and a critic"
        needs = _KINDS[wanted][1] if wanted is not None else "another"
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


def _kind(policy: type) -> type | None:
    return next((kind for kind in _KINDS if issubclass(policy, kind)), None)


def _default_extractor(policy: type) -> Any:
    parameter = constructor_parameters(policy).get("features_extractor_class")
    return None if parameter is None else parameter.default
