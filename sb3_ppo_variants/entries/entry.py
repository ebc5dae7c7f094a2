"""A zoo entry for a class, resolved: environment and model with matching settings."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack, VecNormalize

from sb3_ppo_variants.entries.checks import (
    ENVIRONMENT_KEYS,
    accepted_keys,
    check_env_id,
    check_keys,
    check_values,
    positive_int,
)
from sb3_ppo_variants.entries.constructors import constructor_parameters
from sb3_ppo_variants.entries.policy_kwargs import resolve_policy_kwargs
from sb3_ppo_variants.entries.schedules import resolve_schedules
from sb3_ppo_variants.entries.vector import GymnasiumVectors, resolve_vec_env
from sb3_ppo_variants.entries.wrappers import Chain, Wrapper, import_dotted, resolve_wrapper
from sb3_ppo_variants.entries.zoo_files import file_title, read_entry


@dataclass(frozen=True)
class Entry:
    """A zoo entry for a class and an environment.

    Keys as in rl-zoo: ``policy``, ``n_envs``, ``n_timesteps``, ``normalize`` (true, or a mapping of VecNormalize's
    arguments), ``env_wrapper`` and ``vec_env_wrapper`` (dotted path, ``{dotted path: arguments}``, or a list of these),
    ``env_kwargs``, ``frame_stack``. Beyond rl-zoo, ``vec_env``: ``gymnasium`` or ``{gymnasium: make_vec arguments}``,
    makes the environments a vector environment of Gymnasium. All others are constructor arguments. ``"lin_x"`` and
    the other texts of :func:`~sb3_ppo_variants.entries.schedules.resolve_schedule` are schedules. Unlike rl-zoo, no
    string is evaluated as code: mappings are written in YAML.

    :param cls: an algorithm class
    :param env_id: a Gymnasium environment id
    :param entry: the raw zoo entry
    :param name: of the class, in messages
    :raises ValueError: if the environment is unknown, or a key or value of the entry makes no sense
    """

    cls: type[OnPolicyAlgorithm]
    env_id: str
    entry: Mapping[str, Any]
    name: str

    def __post_init__(self) -> None:
        """Check everything that can be wrong before any work is done."""
        object.__setattr__(self, "entry", copy.deepcopy(dict(self.entry)))
        check_keys(self.entry, accepted_keys(self.cls), self._title)
        check_env_id(self.env_id)
        check_values(self.entry, self.cls, self._title)
        self._normalize_kwargs()
        self._wrappers("env_wrapper")
        self._wrappers("vec_env_wrapper")
        self._vec_env()
        self.hyperparameters()

    @property
    def n_envs(self) -> int:
        """Number of parallel environments in training."""
        return positive_int(self.entry.get("n_envs", 1), self._where("n_envs"))

    @property
    def n_timesteps(self) -> int:
        """Training budget in environment steps, over all parallel environments.

        :raises ValueError: if the entry states none
        """
        return positive_int(self.entry.get("n_timesteps"), self._where("n_timesteps"))

    @property
    def gamma(self) -> float:
        """The model's discount factor, which VecNormalize shares."""
        default = constructor_parameters(self.cls)["gamma"].default
        return float(self.entry.get("gamma", default))

    def make_env(
        self,
        *,
        seed: int | None = None,
        n_envs: int | None = None,
        training: bool = True,
        vec_env_cls: type[DummyVecEnv | SubprocVecEnv] = DummyVecEnv,
    ) -> VecEnv:
        """Build the vectorised environment: Monitor, wrappers, VecNormalize, frame stack, channels first.

        :param seed: seed of the first environment, the others count up; None: not seeded
        :param n_envs: number of copies; None: the entry's, in evaluation too
        :param training: False for evaluation: VecNormalize passes raw rewards and leaves its statistics alone
            (``sync_envs_normalization`` copies the training environment's)
        :param vec_env_cls: SB3's class for the copies, where the entry has no ``vec_env``
        """
        env: VecEnv = make_vec_env(
            self.env_id,
            n_envs=self.n_envs if n_envs is None else n_envs,
            seed=seed,
            wrapper_class=Chain(self._wrappers("env_wrapper")),
            env_kwargs=self._mapping("env_kwargs"),
            vec_env_cls=cast(Any, self._vec_env() or vec_env_cls),
        )
        env = Chain(self._wrappers("vec_env_wrapper"))(env)
        normalize_kwargs = self._normalize_kwargs()
        if normalize_kwargs is not None:
            if not training:
                normalize_kwargs |= {"training": False, "norm_reward": False}
            env = VecNormalize(env, **{"gamma": self.gamma} | normalize_kwargs)
        if self.entry.get("frame_stack") is not None:
            env = VecFrameStack(env, positive_int(self.entry["frame_stack"], self._where("frame_stack")))
        # SB3 does this to a training environment only; evaluation has to show the same wrappers
        return BaseAlgorithm._wrap_env(env, monitor_wrapper=False)

    def make_model(self, env: VecEnv, *, seed: int | None = None, **constructor_kwargs: Any) -> OnPolicyAlgorithm:
        """Build the model on an environment of :meth:`make_env`.

        :param env: the training environment
        :param seed: seed of the model, and of the environment's next reset
        :param constructor_kwargs: arguments beside the entry's, such as ``verbose`` or ``tensorboard_log``
        :raises ValueError: if one is unknown, or is ``gamma``, which the environment has to know as well
        """
        accepted = [key for key in accepted_keys(self.cls) if key not in (*ENVIRONMENT_KEYS, "gamma")]
        check_keys(constructor_kwargs, accepted, f"arguments of make_model for {self.name}")
        return self.cls(env=env, seed=seed, **(self.hyperparameters() | constructor_kwargs))

    def hyperparameters(self) -> dict[str, Any]:
        """Return the constructor's arguments with schedules, policy class and activation resolved.

        :raises ValueError: if a value makes no sense
        """
        arguments = {key: value for key, value in self.entry.items() if key not in ENVIRONMENT_KEYS}
        resolved = resolve_schedules(self.cls, arguments, self._title)
        if isinstance(resolved["policy"], str) and "." in resolved["policy"]:
            resolved["policy"] = import_dotted(resolved["policy"], self._where("policy"))
        if resolved.get("policy_kwargs") is not None:
            resolved["policy_kwargs"] = resolve_policy_kwargs(self._mapping("policy_kwargs"))
        return resolved

    @property
    def _title(self) -> str:
        return f"the {self.name} entry for {self.env_id}"

    def _where(self, key: str) -> str:
        return f"{key} in {self._title}"

    def _mapping(self, key: str) -> dict[str, Any]:
        value = self.entry.get(key) or {}
        if not isinstance(value, Mapping):
            raise ValueError(f"{self._where(key)} must be a YAML mapping (nothing is evaluated), not {value!r}.")
        return copy.deepcopy(dict(value))

    def _normalize_kwargs(self) -> dict[str, Any] | None:
        """Return VecNormalize's arguments, or None for no VecNormalize."""
        value = self.entry.get("normalize", False)
        if value is True or value is False:
            return {} if value else None
        kwargs = self._mapping("normalize")
        accepted = [name for name in constructor_parameters(VecNormalize) if name not in ("venv", "training", "gamma")]
        check_keys(kwargs, accepted, self._where("normalize"))
        return kwargs

    def _vec_env(self) -> GymnasiumVectors | None:
        return resolve_vec_env(
            self.entry.get("vec_env"),
            self.env_id,
            self._mapping("env_kwargs"),
            wrapped=bool(self._wrappers("env_wrapper")),
            where=self._where("vec_env"),
        )

    def _wrappers(self, key: str) -> list[Wrapper]:
        value = self.entry.get(key) or []
        items = value if isinstance(value, list) else [value]
        return [resolve_wrapper(item, self._where(key)) for item in items]


def overridden_entry(
    config: str, env_id: str, overrides: Mapping[str, Any], cls: type[OnPolicyAlgorithm], name: str
) -> dict[str, Any]:
    """Return a registered entry with overrides, which replace whole values, as in rl-zoo.

    :param config: name of the file, as in :mod:`sb3_ppo_variants.entries.zoo_files`
    :param env_id: a Gymnasium environment id
    :param overrides: zoo keys and constructor arguments
    :param cls: the class that it is for
    :param name: of the class, in messages
    :raises ValueError: if nothing is registered, or a key is unknown
    """
    accepted = accepted_keys(cls)
    entry = read_entry(config, env_id)
    check_keys(entry, accepted, f"entry {env_id} of {file_title(config)}")
    check_keys(overrides, accepted, f"overrides of {name} on {env_id}")
    return entry | dict(overrides)


def model_from_zoo(cls: type[OnPolicyAlgorithm], config: str, env_id: str, **overrides: Any) -> OnPolicyAlgorithm:
    """Build a model of a class with registered hyperparameters, its environment attached.

    :param cls: an algorithm class
    :param config: name of the file that holds its hyperparameters, as there
    :param env_id: a Gymnasium environment id
    :param overrides: zoo keys and constructor arguments that replace registered ones; ``seed`` is the seed of
        model and environments
    :raises ValueError: if nothing is registered for the environment, or an override makes no sense
    """
    seed = overrides.pop("seed", None)
    entry = Entry(cls, env_id, overridden_entry(config, env_id, overrides, cls, cls.__name__), cls.__name__)
    env = entry.make_env(seed=seed)
    try:
        return cls(env=env, seed=seed, **entry.hyperparameters())
    except BaseException:
        env.close()
        raise
