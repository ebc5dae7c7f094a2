"""Variants with action masks: invalid actions are never taken, and never count."""

from typing import Any, ClassVar

from gymnasium import spaces
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from typing_extensions import Unpack

from sb3_ppo_variants.families.asymmetric import MaskableAsymmetricMultiInputPolicy
from sb3_ppo_variants.families.family import Family
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs


class Maskable(Family):
    """The environment's method ``action_masks`` says which actions are valid; the policy takes no other.

    Stands before sb3-contrib's ``MaskablePPO``, whose policies, buffers, ``predict(..., action_masks=...)`` and
    ``learn(..., use_masking=...)`` stay. An environment without the method needs sb3-contrib's ``ActionMasker``.

    Evaluate with :func:`sb3_ppo_variants.evaluation.evaluate_policy`, which passes masks on.

    :raises ValueError: with continuous actions, or gSDE

    Source: Huang and Ontanon 2020 (2006.14171).
    """

    asymmetric_policy: ClassVar[type[ActorCriticPolicy]] = MaskableAsymmetricMultiInputPolicy

    def __init__(self, policy: Any, env: Any, **kwargs: Unpack[PPOKwargs]) -> None:
        env = maybe_make_env(env, kwargs.get("verbose", 0))
        if isinstance(getattr(env, "action_space", None), spaces.Box):
            raise ValueError(
                f"{type(self).__name__} masks Discrete, MultiDiscrete or MultiBinary actions, not {env.action_space}: "
                "use a form of the variant without masks."
            )
        if kwargs.pop("use_sde", False):
            raise ValueError("use_sde=True is noise for continuous actions, which cannot be masked: leave it out.")
        kwargs.pop("sde_sample_freq", None)
        super().__init__(policy, env, **kwargs)

    def _policy_arguments(self, rollout_data: RolloutBufferSamples) -> dict[str, Any]:
        masks: Any = rollout_data  # sb3-contrib's samples, which are no subclass of SB3's
        return super()._policy_arguments(rollout_data) | {"action_masks": masks.action_masks}
