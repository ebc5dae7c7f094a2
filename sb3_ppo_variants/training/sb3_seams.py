"""Where the loop meets SB3: setting up, learning, collecting, loading, saving."""

import io
import math
import pathlib
from abc import abstractmethod
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.vec_env import VecEnv
from typing_extensions import Self

from sb3_ppo_variants.engines.engine import Engine, Update
from sb3_ppo_variants.engines.torch_engine import TorchEngine
from sb3_ppo_variants.entries.constructors import constructor_parameters
from sb3_ppo_variants.entries.entry import model_from_zoo
from sb3_ppo_variants.entries.policy_kwargs import resolve_policy_kwargs
from sb3_ppo_variants.resume.model import Resumable
from sb3_ppo_variants.training.asymmetric import AsymmetricMultiInputPolicy, policy_with_keys
from sb3_ppo_variants.training.checks import check_count, check_number
from sb3_ppo_variants.training.policy_checks import NoImagesError, check_policy
from sb3_ppo_variants.update_parts.errors import NonFiniteUpdateError
from sb3_ppo_variants.update_parts.finite import all_finite, in_the_rollout, is_invalid_distribution
from sb3_ppo_variants.vec_env import as_vec_env

COUNTS = ("n_steps", "batch_size", "n_epochs")
"""SB3's options that are a number of times."""

if TYPE_CHECKING:  # the mixin is type-checked as the PPO that it is always combined with

    class _Base(Resumable, PPO): ...
else:
    _Base = Resumable


class SB3Seams(_Base):
    """SB3's methods as far as the package changes them; :class:`UpdateLoop` stands on it."""

    zoo_config: ClassVar[str]
    asymmetric_policy: ClassVar[type[ActorCriticPolicy]] = AsymmetricMultiInputPolicy

    engine: str
    _engine: Engine | None = None
    _update: Update | None = None
    _reported_engine: str | None = None
    _is_loading: bool = False

    @abstractmethod
    def _prepare_critic(self) -> None:
        """Check that the critic can be trained as the options say, and make what that needs."""

    def _check_options(self) -> None:
        """Refuse options that make no sense; see UpdateLoop."""
        for name in COUNTS:
            value: Any = getattr(self, name)
            # sb3-contrib's classes take None for the whole rollout
            if value is not None or name != "batch_size" or isinstance(self, PPO):
                check_count(name, value, at_least=1)
        if self.max_grad_norm != math.inf:
            check_number("max_grad_norm", self.max_grad_norm, at_least=0)

    @abstractmethod
    def _choose_engine(self) -> Engine:
        """Return the engine that runs the model as it is now."""

    @property
    def engine_in_use(self) -> str:
        """The engine that runs rollouts and updates of this model as it is now: "torch", "numpy" or "compiled"."""
        return self._choose_engine().name

    @classmethod
    def from_zoo(cls, env_id: str, **overrides: Any) -> Self:
        """Return a model with its registered hyperparameters, its environment and wrappers attached.

        :param env_id: a Gymnasium environment id
        :param overrides: zoo keys or constructor arguments that replace registered ones; ``seed``, ``verbose``,
            ``device`` and ``tensorboard_log`` go to the constructor
        :raises ValueError: if a key is unknown, or nothing is registered for the environment and there is no default
        """
        if not issubclass(cls, OnPolicyAlgorithm):
            raise ValueError(f"{cls.__name__} is a mixin: call from_zoo on a class that puts it in front of SB3's PPO.")
        model = model_from_zoo(cls, cls.zoo_config, env_id, **overrides)
        assert isinstance(model, cls)
        return model

    def learn(  # noqa: PLR0917 -- SB3's signature
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
        **family_arguments: Any,
    ) -> Self:
        """Train as SB3's ``learn`` does, with the class name as the default name of the TensorBoard run.

        :raises ValueError: if an attribute was given a value that the constructor would refuse
        """
        self._check_options()
        self._prepare_critic()
        return super().learn(
            total_timesteps=total_timesteps,
            callback=callback,
            log_interval=log_interval,
            tb_log_name=tb_log_name if tb_log_name is not None else type(self).__name__,
            reset_num_timesteps=reset_num_timesteps,
            progress_bar=progress_bar,
            **family_arguments,
        )

    @classmethod
    def load(  # noqa: PLR0917 -- SB3's signature
        cls,
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Load as SB3 does; what is given beside the file is checked as in the constructor.

        :raises ValueError: if the file holds no whole model, or an argument is unknown or outside its range
        """
        _check_names(cls, kwargs)
        kwargs["_is_loading"] = True
        try:
            model = super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)
        except AssertionError as error:
            if "No data found" not in str(error):
                raise
            raise ValueError(
                f"{path} holds no whole model: it was cut short, or save() did not write it. Load another checkpoint."
            ) from error
        del model._is_loading
        return model

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
        *family_arguments: Any,
    ) -> bool:
        """Collect as SB3 does; a NaN met on the way is reported as what it is.

        :raises NonFiniteUpdateError: if an observation is not finite, or the policy's outputs are not
        """
        self._before_rollout()
        sb3_loop = partial(super().collect_rollouts, env, callback, rollout_buffer, n_rollout_steps, *family_arguments)
        try:
            return self._choose_engine().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps, sb3_loop)
        except ValueError as error:
            if not is_invalid_distribution(error):
                raise
            bad_observation = not all_finite(self._last_obs)
            name = "observation" if bad_observation else "log-prob"
            raise NonFiniteUpdateError(name, in_the_rollout(self.num_timesteps)) from error

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        *family_arguments: Any,
        **family_keywords: Any,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Return the actions and memory that SB3's ``predict`` returns, bit for bit; sooner on the array engines.

        :param observation: of one or of several environments
        :param state: what the last call returned, for policies with memory
        :param episode_start: which environments begin an episode, for policies with memory
        :param deterministic: take the likeliest action instead of drawing one
        :param family_arguments: what a family's ``predict`` takes beside these, such as action masks
        :param family_keywords: the same by name
        """
        if self._engine is not None and self.engine != TorchEngine.name and not (family_arguments or family_keywords):
            actions = self._engine.predict(observation, deterministic)
            if actions is not None:
                return actions, state
        return super().predict(observation, state, episode_start, deterministic, *family_arguments, **family_keywords)

    def set_parameters(
        self,
        load_path_or_dict: str | dict[str, Any],
        exact_match: bool = True,
        device: th.device | str = "auto",
    ) -> None:
        """Set parameters as SB3 does; the engine's memory takes them at once."""
        super().set_parameters(load_path_or_dict, exact_match, device)
        if self._engine is not None:
            self._engine.bind()

    @classmethod
    def _wrap_env(cls, env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Wrap as SB3 does, and take Gymnasium's vector environments too: every environment of a model enters here."""
        return super()._wrap_env(as_vec_env(env), verbose, monitor_wrapper)

    def _setup_model(self) -> None:
        self._check_options()
        self.policy_kwargs = resolve_policy_kwargs(self.policy_kwargs)
        check_policy(type(self), self.policy_class, self.policy_aliases, self.policy_kwargs, self.observation_space)
        self.policy_class = policy_with_keys(self.policy_class, self.policy_kwargs, self.asymmetric_policy)
        try:
            super()._setup_model()
        except AssertionError as error:  # SB3's words for CnnPolicy without images say what to do
            if "NatureCNN only with images" not in str(error):
                raise
            raise NoImagesError(str(error)) from error
        self._choose_engine()

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        if policy_name in self.policy_aliases:
            return self.policy_aliases[policy_name]
        hint = "; policies with memory are for the recurrent forms" if "Lstm" in policy_name else ""
        raise ValueError(
            f"{type(self).__name__} has no policy {policy_name!r}: use one of {', '.join(self.policy_aliases)}{hint}."
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the engine out of pickles and copies: it holds memory of this model."""
        return {name: value for name, value in vars(self).items() if name not in {"_engine", "_update"}}

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_engine", "_update", "_reported_engine", "_is_loading"]


def _check_names(cls: type, given: dict[str, Any]) -> None:
    """Refuse arguments of ``load`` that the constructor does not know and no model has: SB3 takes any name."""
    known = constructor_parameters(cls)
    attributes = {name for parent in cls.__mro__ for name in (*vars(parent), *vars(parent).get("__annotations__", ()))}
    for name in given:
        if name not in known and name not in attributes and name not in _SAVED:
            near = get_close_matches(name, known, n=3)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"{cls.__name__} has no option {name!r}, so load() cannot change it.{hint}")


# What SB3 keeps in a file beside the constructor's arguments, and callers replace
_SAVED = ("lr_schedule", "observation_space", "action_space", "n_envs", "num_timesteps", "policy_class")
