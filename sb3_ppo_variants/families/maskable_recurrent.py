"""Variants with action masks and memory: what sb3-contrib has in two classes that cannot be combined."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.families.asymmetric import MaskableRecurrentAsymmetricMultiInputPolicy
from sb3_ppo_variants.families.buffers import MaskableRecurrentDictRolloutBuffer, MaskableRecurrentRolloutBuffer
from sb3_ppo_variants.families.maskable import Maskable
from sb3_ppo_variants.families.policies import (
    MaskableRecurrentActorCriticCnnPolicy,
    MaskableRecurrentActorCriticPolicy,
    MaskableRecurrentMultiInputActorCriticPolicy,
)
from sb3_ppo_variants.families.recurrent import Recurrent, with_short_names


class MaskableRecurrent(Maskable, Recurrent):
    """Action masks and an LSTM together.

    Stands before sb3-contrib's ``RecurrentPPO``, whose loop collects the rollouts. The environment must have a method
    ``action_masks``, as with :class:`Maskable`; its masks are always applied.

    Evaluate with :func:`sb3_ppo_variants.evaluation.evaluate_policy`: sb3-contrib's function for masks loses the
    memory, SB3's the masks.

    :raises ValueError: as :class:`Maskable`, or if the policy class knows no masks
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = with_short_names(
        {
            "MlpLstmPolicy": MaskableRecurrentActorCriticPolicy,
            "CnnLstmPolicy": MaskableRecurrentActorCriticCnnPolicy,
            "MultiInputLstmPolicy": MaskableRecurrentMultiInputActorCriticPolicy,
        }
    )
    asymmetric_policy: ClassVar[type[ActorCriticPolicy]] = MaskableRecurrentAsymmetricMultiInputPolicy
    policy: MaskableRecurrentActorCriticPolicy

    def _setup_model(self) -> None:
        if not issubclass(self.policy_class, MaskableRecurrentActorCriticPolicy):
            raise ValueError(
                f"{self.policy_class.__name__} knows no masks: use one of {', '.join(self.policy_aliases)}, "
                "or a subclass of MaskableRecurrentActorCriticPolicy."
            )
        if self.rollout_buffer_class is None:
            is_dict = isinstance(self.observation_space, spaces.Dict)
            self.rollout_buffer_class = (
                MaskableRecurrentDictRolloutBuffer if is_dict else MaskableRecurrentRolloutBuffer
            )
        super()._setup_model()

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Return actions and the next state of the memory.

        :param observation: of one or of several environments
        :param state: what the last call returned; None: no memory yet
        :param episode_start: which environments begin an episode, and so forget
        :param deterministic: take the likeliest valid action instead of drawing one
        :param action_masks: True where an action is valid; None: all are
        """
        return self.policy.predict(observation, state, episode_start, deterministic, action_masks)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
        *family_arguments: Any,
    ) -> bool:
        """Collect as sb3-contrib's ``RecurrentPPO`` does, with the environment's masks.

        :raises ValueError: if the environment has none
        """
        if not is_masking_supported(env):
            raise ValueError(
                "The environment has no method action_masks: give it one, wrap it in sb3_contrib's ActionMasker, "
                "or use the recurrent form without masks."
            )
        assert isinstance(rollout_buffer, (MaskableRecurrentRolloutBuffer, MaskableRecurrentDictRolloutBuffer))

        aside: Any = _Aside(callback)

        def mask(_policy: th.nn.Module, arguments: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
            if aside.runs:
                return None
            masks = get_action_masks(env)
            rollout_buffer.keep_action_masks(masks)
            return arguments, keywords | {"action_masks": masks}

        # The loop calls the policy without masks, once for each step that it then adds to the buffer
        hook = self.policy.register_forward_pre_hook(mask, with_kwargs=True)
        try:
            return super().collect_rollouts(env, aside, rollout_buffer, n_rollout_steps, *family_arguments)
        finally:
            hook.remove()


class _Aside:
    """A callback that says when it runs: its own calls of the policy are no steps of the rollout.

    :ivar runs: whether one of the callback's methods is running
    """

    def __init__(self, callback: BaseCallback) -> None:
        self._callback = callback
        self.runs = False

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._callback, name)
        if not callable(attribute):
            return attribute

        def call(*arguments: Any, **keywords: Any) -> Any:
            self.runs = True
            try:
                return attribute(*arguments, **keywords)
            finally:
                self.runs = False

        return call
