"""From a zoo entry to a vectorised environment and a model."""

import copy
import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

import gymnasium as gym
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack, VecNormalize

from sb3_ppo_variants.registry import ALGORITHMS, FAMILIES, constructor_parameters, get_algorithm
from sb3_ppo_variants.training.policy_kwargs import resolve_policy_kwargs

ENVIRONMENT_KEYS = (
    "n_envs",
    "n_timesteps",
    "normalize",
    "env_wrapper",
    "vec_env_wrapper",
    "env_kwargs",
    "frame_stack",
)
SCHEDULE_KEYS = ("learning_rate", "clip_range", "clip_range_vf")
# What make_env and make_model are given, so an entry cannot hold it
_RESERVED = ("env", "seed", "_init_setup_model")


def registered_entry(algorithm_id: str, env_id: str) -> dict[str, Any]:
    """Return the zoo entry of an environment as it stands in the algorithm's file.

    Atari games without their own entry have ``atari``, all other environments ``default``.

    :param algorithm_id: an id of the registry
    :param env_id: a Gymnasium environment id
    :raises ValueError: if the algorithm is unknown, or has neither an entry for the environment nor a default
    """
    config = get_algorithm(algorithm_id).config
    entries = _zoo_file(config)
    for name in (env_id, "atari" if _is_atari(env_id) else "default", "default"):
        if name in entries:
            return copy.deepcopy(entries[name])
    raise ValueError(f"zoo_configs/{config}.yml has no entry for {env_id!r} and no default: add one.")


def registered_envs(algorithm_id: str) -> list[str]:
    """Return the environments that have their own entry in the algorithm's file, in its order.

    :param algorithm_id: an id of the registry
    :raises ValueError: if the algorithm is unknown
    """
    return [name for name in _zoo_file(get_algorithm(algorithm_id).config) if name not in ("atari", "default")]


def model_from_zoo(cls: type[OnPolicyAlgorithm], env_id: str, **overrides: Any) -> OnPolicyAlgorithm:
    """Build a model of a class with its registered hyperparameters, its environment attached.

    A class that is not registered itself uses the entries of its nearest registered ancestor; its own parameters keep
    their defaults unless given here.

    :param cls: an algorithm class
    :param env_id: a Gymnasium environment id
    :param overrides: zoo keys and constructor arguments that replace registered ones; ``seed`` is the seed of
        model and environments
    :raises ValueError: if nothing is registered for the class or the environment, or an override makes no sense
    """
    seed = overrides.pop("seed", None)
    algorithm_id = _nearest_registered(cls)
    accepted = _accepted_keys(get_algorithm(algorithm_id).cls)
    only_here = {key: overrides.pop(key) for key in list(overrides) if key not in accepted}
    check_keys(only_here, _accepted_keys(cls), f"overrides of {cls.__name__} on {env_id}")
    experiment = Experiment.from_zoo(algorithm_id, env_id, **overrides)
    env = experiment.make_env(seed=seed)
    try:
        return cls(env=env, seed=seed, **(experiment.hyperparameters() | only_here))
    except BaseException:
        env.close()
        raise


@dataclass(frozen=True)
class Experiment:
    """A zoo entry resolved: environment and model with matching settings.

    Keys as in rl-zoo: ``policy``, ``n_envs``, ``n_timesteps``, ``normalize`` (true, or a mapping of VecNormalize's
    arguments), ``env_wrapper`` and ``vec_env_wrapper`` (dotted path, ``{dotted path: arguments}``, or a list of these),
    ``env_kwargs``, ``frame_stack``; all others are constructor arguments. ``"lin_x"`` in a schedule falls linearly
    from x to 0, ``"const_x"`` stays. Unlike rl-zoo, no string is evaluated as code: mappings are written in YAML.

    :param algorithm_id: an id of the registry
    :param env_id: a Gymnasium environment id
    :param entry: the raw zoo entry
    :raises ValueError: if an id is unknown, or a key or value of the entry makes no sense
    """

    algorithm_id: str
    env_id: str
    entry: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check everything that can be wrong before any work is done."""
        object.__setattr__(self, "entry", copy.deepcopy(dict(self.entry)))
        cls = get_algorithm(self.algorithm_id).cls
        check_keys(self.entry, _accepted_keys(cls), self._name)
        _check_env_id(self.env_id)
        check_values(self.entry, cls, self._name)
        self._normalize_kwargs()
        self._wrappers("env_wrapper")
        self._wrappers("vec_env_wrapper")
        self._mapping("env_kwargs")
        self.hyperparameters()

    @classmethod
    def from_zoo(cls, algorithm_id: str, env_id: str, **overrides: Any) -> "Experiment":
        """Take the registered entry; overrides replace whole values, as in rl-zoo.

        :param algorithm_id: an id of the registry
        :param env_id: a Gymnasium environment id
        :param overrides: zoo keys and constructor arguments
        :raises ValueError: as the class, or if nothing is registered
        """
        algorithm = get_algorithm(algorithm_id)
        accepted = _accepted_keys(algorithm.cls)
        entry = registered_entry(algorithm_id, env_id)
        check_keys(entry, accepted, f"entry {env_id} of zoo_configs/{algorithm.config}.yml")
        check_keys(overrides, accepted, f"overrides of {algorithm_id} on {env_id}")
        return cls(algorithm_id, env_id, entry | overrides)

    @property
    def n_envs(self) -> int:
        """Number of parallel environments in training."""
        return _positive_int(self.entry.get("n_envs", 1), self._where("n_envs"))

    @property
    def n_timesteps(self) -> int:
        """Training budget in environment steps, over all parallel environments.

        :raises ValueError: if the entry states none
        """
        return _positive_int(self.entry.get("n_timesteps"), self._where("n_timesteps"))

    @property
    def gamma(self) -> float:
        """The model's discount factor, which VecNormalize shares."""
        default = constructor_parameters(get_algorithm(self.algorithm_id).cls)["gamma"].default
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
        :param vec_env_cls: SB3's class for the copies
        """
        env: VecEnv = make_vec_env(
            self.env_id,
            n_envs=self.n_envs if n_envs is None else n_envs,
            seed=seed,
            wrapper_class=_Chain(self._wrappers("env_wrapper")),
            env_kwargs=self._mapping("env_kwargs"),
            vec_env_cls=vec_env_cls,
        )
        env = _Chain(self._wrappers("vec_env_wrapper"))(env)
        normalize_kwargs = self._normalize_kwargs()
        if normalize_kwargs is not None:
            if not training:
                normalize_kwargs |= {"training": False, "norm_reward": False}
            env = VecNormalize(env, **{"gamma": self.gamma} | normalize_kwargs)
        if self.entry.get("frame_stack") is not None:
            env = VecFrameStack(env, _positive_int(self.entry["frame_stack"], self._where("frame_stack")))
        # SB3 does this to a training environment only; evaluation has to show the same wrappers
        return BaseAlgorithm._wrap_env(env, monitor_wrapper=False)

    def make_model(self, env: VecEnv, *, seed: int | None = None, **constructor_kwargs: Any) -> OnPolicyAlgorithm:
        """Build the model on an environment of :meth:`make_env`.

        :param env: the training environment
        :param seed: seed of the model, and of the environment's next reset
        :param constructor_kwargs: arguments beside the entry's, such as ``verbose`` or ``tensorboard_log``
        :raises ValueError: if one is unknown, or is ``gamma``, which the environment has to know as well
        """
        algorithm = get_algorithm(self.algorithm_id)
        accepted = [key for key in _accepted_keys(algorithm.cls) if key not in (*ENVIRONMENT_KEYS, "gamma")]
        check_keys(constructor_kwargs, accepted, f"arguments of make_model for {self.algorithm_id}")
        return algorithm.cls(env=env, seed=seed, **(self.hyperparameters() | constructor_kwargs))

    def hyperparameters(self) -> dict[str, Any]:
        """Return the constructor's arguments with schedules, policy class and activation resolved.

        :raises ValueError: if a value makes no sense
        """
        resolved = {
            key: resolve_schedule(value, self._where(key)) if key in SCHEDULE_KEYS else value
            for key, value in self.entry.items()
            if key not in ENVIRONMENT_KEYS
        }
        if isinstance(resolved["policy"], str) and "." in resolved["policy"]:
            resolved["policy"] = _import_dotted(resolved["policy"], self._where("policy"))
        if resolved.get("policy_kwargs") is not None:
            resolved["policy_kwargs"] = resolve_policy_kwargs(self._mapping("policy_kwargs"))
        return resolved

    @property
    def _name(self) -> str:
        return f"the {self.algorithm_id} entry for {self.env_id}"

    def _where(self, key: str) -> str:
        return f"{key} in {self._name}"

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

    def _wrappers(self, key: str) -> list[tuple[Callable[..., Any], dict[str, Any]]]:
        value = self.entry.get(key) or []
        items = value if isinstance(value, list) else [value]
        return [_wrapper(item, self._where(key)) for item in items]


class _Chain:
    """Apply wrappers in order; a class, because environments in other processes need it pickled."""

    def __init__(self, wrappers: list[tuple[Callable[..., Any], dict[str, Any]]]) -> None:
        self.wrappers = wrappers

    def __call__(self, env: Any) -> Any:
        for wrapper, kwargs in self.wrappers:
            env = wrapper(env, **kwargs)
        return env


@cache
def _zoo_file(config: str) -> dict[str, dict[str, Any]]:
    """Read a file of hyperparameters; the caller must not change what it gets."""
    path = resources.files("sb3_ppo_variants.zoo_configs").joinpath(f"{config}.yml")
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(entries, dict)
    return entries


def _is_atari(env_id: str) -> bool:
    spec = gym.registry.get(env_id)
    return spec is not None and "AtariEnv" in str(spec.entry_point)


def _nearest_registered(cls: type[OnPolicyAlgorithm]) -> str:
    ids = {algorithm.cls: algorithm.id for algorithm in (*ALGORITHMS.values(), *FAMILIES.values())}
    for ancestor in cls.__mro__:
        if ancestor in ids:
            return ids[ancestor]
    names = ", ".join(algorithm.cls.__name__ for algorithm in ALGORITHMS.values())
    raise ValueError(f"No hyperparameters are registered for {cls.__name__}: derive it from one of {names}.")


def _accepted_keys(cls: type[OnPolicyAlgorithm]) -> list[str]:
    return [*ENVIRONMENT_KEYS, *(name for name in constructor_parameters(cls) if name not in _RESERVED)]


def check_keys(given: Mapping[str, Any], accepted: list[str], where: str) -> None:
    """Refuse keys that nothing reads.

    :param given: what a user wrote
    :param accepted: the keys that are read
    :param where: names the place in the message
    :raises ValueError: at the first other key, with near matches
    """
    for key in given:
        if key not in accepted:
            near = get_close_matches(str(key), accepted, n=2)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise ValueError(f"Unknown key {key!r} in {where}: {hint}Allowed are {', '.join(accepted)}.")


def check_values(entry: Mapping[str, Any], cls: type[OnPolicyAlgorithm], where: str) -> None:
    """Refuse values of a zoo entry that would end as a type error somewhere behind it.

    :param entry: its keys are known
    :param cls: the algorithm class that it is for
    :param where: names the entry in the message
    :raises ValueError: if there is no policy, a count is no positive number, or a number is a text
    """
    if "policy" not in entry:
        raise ValueError(f"{where} has no policy: add one, such as policy: MlpPolicy.")
    parameters = constructor_parameters(cls)
    for key, value in entry.items():
        if key in ("n_envs", "n_timesteps", "frame_stack"):
            if value is not None:
                _positive_int(value, f"{key} in {where}")
        elif key in parameters and key not in SCHEDULE_KEYS:
            _check_number_is_no_text(value, parameters[key].default, f"{key} in {where}")


def _check_env_id(env_id: str) -> None:
    module, _, name = env_id.rpartition(":")
    try:
        if module:  # "package:Name-v0", as in gymnasium.make: the package registers it when it is imported
            importlib.import_module(module)
        gym.spec(name)
    except (gym.error.Error, ImportError) as error:
        raise ValueError(f"Unknown environment {env_id!r}: {error}") from error


def _positive_int(value: Any, where: str) -> int:
    # YAML writes large budgets as floats: 1.0e+6
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not is_whole or value < 1:
        raise ValueError(f"{where} must be a whole number of at least 1, not {value!r}.")
    return int(value)


def resolve_schedule(value: Any, where: str) -> Any:
    """Resolve ``"lin_x"`` and ``"const_x"``; numbers, None and callables pass.

    :param value: what a zoo entry holds
    :param where: names the place in the message
    :raises ValueError: if it is another text
    """
    if not isinstance(value, str):
        return value
    kind, _, number = value.partition("_")
    try:
        start = float(number)
    except ValueError:
        start = math.nan
    if kind not in ("lin", "const") or not math.isfinite(start):
        raise ValueError(
            f"{where} is the text {value!r}: use a number, 'lin_x' (falls from x to 0) or 'const_x'. "
            "YAML reads 1e-3 as text: write 1.0e-3."
        )
    return LinearSchedule(start, 0.0, 1.0) if kind == "lin" else ConstantSchedule(start)


def _check_number_is_no_text(value: Any, default: Any, where: str) -> None:
    if not isinstance(value, str):
        return
    if value.startswith(("lin_", "const_")):
        raise ValueError(f"{where} cannot be a schedule ({value!r}): only {', '.join(SCHEDULE_KEYS)} can.")
    if isinstance(default, int | float) or _is_number(value):
        raise ValueError(f"{where} must be a number, not the text {value!r}. YAML reads 1e-3 as text: write 1.0e-3.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _wrapper(item: Any, where: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Resolve a dotted path, or a mapping of one dotted path to its keyword arguments."""
    kwargs: Any = {}
    if isinstance(item, Mapping):
        if len(item) != 1:
            raise ValueError(f"{where} has {dict(item)!r}: a mapping holds one dotted path and its arguments.")
        ((item, kwargs),) = item.items()
    if not isinstance(kwargs, Mapping):
        raise ValueError(f"{where} gives {item} the arguments {kwargs!r}: they must be a mapping.")
    return _import_dotted(item, where), dict(kwargs)


def _import_dotted(path: Any, where: str) -> Any:
    module, _, name = str(path).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{where} names {path!r}, which cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"{where} names {path!r}, which is no class or function but {found!r}.")
    return found
