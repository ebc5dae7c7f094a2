"""Evaluation of every model of the package: the masks of the environment reach those that know masks."""

from typing import Any, cast

import gymnasium as gym
from gymnasium.vector import VectorEnv
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy as evaluate_without_masks
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_ppo_variants.families.maskable_recurrent import MaskableRecurrent
from sb3_ppo_variants.vec_env import as_vec_env


def evaluate_policy(
    model: BaseAlgorithm, env: gym.Env[Any, Any] | VecEnv | VectorEnv[Any, Any, Any], **arguments: Any
) -> Any:
    """Evaluate as SB3's function of this name does, with action masks where the model knows them.

    sb3-contrib's function for masks forgets the state of a recurrent policy at every step; this one keeps it.

    :param model: a model of this package, SB3 or sb3-contrib
    :param env: the environment to evaluate in
    :param arguments: SB3's: ``n_eval_episodes``, ``deterministic``, ``return_episode_rewards``, ...
    :return: as SB3's: mean and standard deviation of the return, or returns and lengths of all episodes
    :raises ValueError: if the model knows masks and the environment has none
    """
    known = as_vec_env(env)
    vec_env = known if isinstance(known, VecEnv) else DummyVecEnv([lambda: known])
    return evaluate_without_masks(with_masks(model, vec_env), vec_env, **arguments)


class MaskedEvalCallback(EvalCallback):
    """SB3's ``EvalCallback``, with action masks where the model knows them.

    :param eval_env: the environment to evaluate in; a vector environment of Gymnasium too
    :param arguments: SB3's
    :raises ValueError: when training starts, if the model knows masks and the environment has none
    """

    def __init__(
        self, eval_env: gym.Env[Any, Any] | VecEnv | VectorEnv[Any, Any, Any], *arguments: Any, **keywords: Any
    ) -> None:
        super().__init__(as_vec_env(eval_env), *arguments, **keywords)

    def _init_callback(self) -> None:
        super()._init_callback()
        self._predictor = with_masks(self.model, self.eval_env)

    def _on_step(self) -> bool:
        # Only SB3's evaluation is to see it: child callbacks keep the model itself
        model, self.model = self.model, self._predictor
        try:
            return super()._on_step()
        finally:
            self.model = model


def knows_masks(cls: type[BaseAlgorithm]) -> bool:
    """Tell whether ``predict`` of a class takes action masks.

    :param cls: an algorithm class
    """
    return issubclass(cls, (MaskablePPO, MaskableRecurrent))


def with_masks(model: BaseAlgorithm, env: VecEnv) -> BaseAlgorithm:
    """Return a model whose ``predict`` gets the masks of ``env``, for code that knows nothing of masks.

    :param model: any model; one that knows no masks is returned as it is
    :param env: the environment whose observations ``predict`` will be given
    :raises ValueError: if the model knows masks and the environment has none
    """
    if not knows_masks(type(model)):
        return model
    if not is_masking_supported(env):
        raise ValueError(
            f"{type(model).__name__} asks for action masks, and the environment has no method action_masks: give it "
            "one, or wrap it in sb3_contrib's ActionMasker. To evaluate without masks, use SB3's evaluate_policy."
        )
    return cast(BaseAlgorithm, _WithMasks(model, env))


class _WithMasks:
    """Everything of a model, but a ``predict`` that asks the environment for masks."""

    def __init__(self, model: BaseAlgorithm, env: VecEnv) -> None:
        self._model = model
        self._env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, *arguments: Any, **keywords: Any) -> Any:
        return self._model.predict(*arguments, **(keywords | {"action_masks": get_action_masks(self._env)}))
