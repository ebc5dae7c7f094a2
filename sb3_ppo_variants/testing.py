"""The public conformance suite: ``check_variant(cls)`` holds a variant to what every variant promises.

It needs no pytest. A failure is an AssertionError that names the class, the check and what was wrong::

    from sb3_ppo_variants.testing import check_variant

    check_variant(MyPPO)
    check_variant(MyPPO, my_coefficient=0.5)

With pytest, parametrise over :data:`CHECKS` and call :func:`run_check` to see each check on its own.
"""

import contextlib
import copy
import inspect
import io
import json
import math
import pickle
import random
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_ppo_variants.entries.policy_kwargs import ACTIVATIONS
from sb3_ppo_variants.search_space import Choice, Parameter
from sb3_ppo_variants.training.update_loop import UpdateLoop
from sb3_ppo_variants.update_parts.errors import NonFiniteUpdateError
from sb3_ppo_variants.update_parts.statistics import RolloutMeasurement

VECTOR = spaces.Box(-1.0, 1.0, (4,), dtype=np.float32)
IMAGE = spaces.Box(0, 255, (36, 36, 1), dtype=np.uint8)
DICT = spaces.Dict({"position": spaces.Box(-1.0, 1.0, (3,), dtype=np.float32), "kind": spaces.Discrete(3)})

BOX = spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)
DISCRETE = spaces.Discrete(3)
MULTI_DISCRETE = spaces.MultiDiscrete([3, 2])
MULTI_BINARY = spaces.MultiBinary(3)

_N_STEPS = 32
_SMALL: dict[str, Any] = {"n_steps": _N_STEPS, "batch_size": 16, "n_epochs": 2, "learning_rate": 3e-3}
_SMALL |= {"seed": 1, "device": "cpu"}
_SB3_TRAIN_KEYS = (
    *("approx_kl", "clip_fraction", "clip_range", "entropy_loss", "explained_variance", "learning_rate"),
    *("loss", "n_updates", "policy_gradient_loss", "value_loss"),
)
_DIAGNOSTICS = ("effective_sample_size", "epochs", "ratio_q05", "ratio_q95", "zero_gradient_fraction")


class SpaceEnv(gym.Env[Any, Any]):
    """A seeded environment with any observation and action space, whose reward depends on both.

    Observations are drawn from the observation space; the reward is the size of the action where the observation is
    in the upper half of its space, and minus that elsewhere. Episodes end by turns with a terminal state and a time
    limit.

    :param observation_space: any space that SB3 takes
    :param action_space: any space that SB3 takes
    :param episode_length: steps per episode
    """

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], episode_length: int = 11
    ) -> None:
        # Own copies: SB3 seeds the model's action space, which must not reach into the environment
        self.observation_space = copy.deepcopy(observation_space)
        self.action_space = copy.deepcopy(action_space)
        self.episode_length = episode_length
        self.poison: str | None = None  # "observation" or "reward": the next steps return NaN there
        self._step = 0
        self._episode = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.observation_space.seed(seed)
            self._episode = 0
        self._step = 0
        self._episode += 1
        self._observation = self.observation_space.sample()
        return self._observation, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Reward the action, and draw the next observation."""
        flat = np.asarray(spaces.flatten(self.observation_space, self._observation), dtype=np.float64)
        sign = 1.0 if flat[0] > (127 if self.observation_space == IMAGE else 0) else -1.0
        reward = sign * float(np.mean(np.asarray(action, dtype=np.float64)))
        self._step += 1
        self._observation = self.observation_space.sample()
        is_over = self._step >= self.episode_length
        if self.poison == "observation":
            self._observation = np.full_like(self._observation, np.nan)
        if self.poison == "reward":
            reward = math.nan
        return self._observation, reward, is_over and self._episode % 2 == 0, is_over and self._episode % 2 == 1, {}


class NotApplicable(Exception):  # noqa: N818 -- not an error
    """A check cannot be made: the engine asked for refuses its model, or an optional package is missing."""


@dataclass(frozen=True)
class Variant:
    """A variant under test: the class, and keyword arguments for every construction.

    :param cls: class built on :class:`UpdateLoop`
    :param constructor_kwargs: its arguments in every check
    """

    cls: type[UpdateLoop]
    constructor_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def accepted(self) -> list[spaces.Space[Any]]:
        """Return the kinds of action space that the class takes."""
        accepted: list[spaces.Space[Any]] = []
        for actions in (DISCRETE, BOX, MULTI_DISCRETE, MULTI_BINARY):
            with contextlib.suppress(ValueError):
                self.make(actions=actions)
                accepted.append(actions)
        if not accepted:
            raise AssertionError("the class refuses every action space")
        return accepted

    @property
    def actions(self) -> spaces.Space[Any]:
        """Return the first action space that the class takes: many checks need no more than one."""
        return self.accepted[0]

    def make_env(
        self, observations: spaces.Space[Any] = VECTOR, actions: spaces.Space[Any] | None = None, **arguments: Any
    ) -> VecEnv:
        """Return an environment with an action space that the class takes."""
        return make_env(observations, actions if actions is not None else self.actions, **arguments)

    def make(
        self,
        observations: spaces.Space[Any] = VECTOR,
        actions: spaces.Space[Any] | None = None,
        *,
        env: VecEnv | None = None,
        **arguments: Any,
    ) -> UpdateLoop:
        """Return a small model of the class."""
        kwargs = _SMALL | dict(self.constructor_kwargs) | arguments
        if env is None:
            env = make_env(observations, actions if actions is not None else self.actions)
        try:
            return self.cls(_policy_for(env.observation_space), env, **kwargs)
        except ValueError as error:
            if "engine" in self.constructor_kwargs and "engine" in str(error):
                raise NotApplicable(str(error)) from error
            raise

    def make_baseline(self, env: VecEnv, **arguments: Any) -> OnPolicyAlgorithm:
        """Return the same model of the algorithm of SB3 (or sb3-contrib) that the class builds on."""
        baseline = next(
            base
            for base in self.cls.__mro__
            if issubclass(base, OnPolicyAlgorithm) and not issubclass(base, UpdateLoop)
        )
        known = inspect.signature(baseline.__init__).parameters
        shared = {name: value for name, value in self.constructor_kwargs.items() if name in known}
        return baseline(_policy_for(env.observation_space), env, **(_SMALL | shared | arguments))


Check: TypeAlias = Callable[[Variant], None]


def make_env(
    observations: spaces.Space[Any] = VECTOR, actions: spaces.Space[Any] = DISCRETE, *, n_envs: int = 1, seed: int = 0
) -> VecEnv:
    """Return vectorised, monitored :class:`SpaceEnv` instances."""
    return make_vec_env(lambda: SpaceEnv(observations, actions), n_envs=n_envs, seed=seed)


def check_variant(cls: type[UpdateLoop], **constructor_kwargs: Any) -> list[str]:
    """Run every check of :data:`CHECKS` on a variant.

    A check that the class cannot take part in, because an engine given in ``constructor_kwargs`` refuses its model or
    an optional package is missing, is left out and reported.

    :param cls: the class: a mixin on :class:`UpdateLoop` in front of SB3's PPO
    :param constructor_kwargs: arguments for every construction of the class
    :return: the checks left out, each with its reason
    :raises AssertionError: naming the class, and every failed check with its reason
    """
    variant = Variant(cls, constructor_kwargs)
    failures: list[tuple[str, Exception]] = []
    left_out = []
    for check in CHECKS:
        try:
            run_check(check, variant)
        except NotApplicable as reason:
            left_out.append(f"{check.__name__}: {reason}")
        except Exception as error:  # whatever the class raises is a failure to report
            failures.append((check.__name__, error))
    if failures:
        lines = [f"  {name}: {type(error).__name__}: {error}" for name, error in failures]
        summary = f"{cls.__name__} fails {len(failures)} of {len(CHECKS)} checks:"
        raise AssertionError("\n".join([summary, *lines])) from failures[0][1]
    return left_out


def run_check(check: Check, variant: Variant) -> None:
    """Run one check on one torch thread, without SB3's advice on batch sizes.

    :raises AssertionError: naming the class and the check
    :raises NotApplicable: if the check cannot be made
    """
    threads = th.get_num_threads()
    th.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            check(variant)
    except AssertionError as error:
        raise AssertionError(f"{variant.cls.__name__}, {check.__name__}: {error}") from error
    finally:
        th.set_num_threads(threads)


# Construction ---------------------------------------------------------------------------------------------------------


def check_constructor_arguments(variant: Variant) -> None:
    """Own arguments have defaults and are stored unchanged under their names."""
    model = variant.make()
    for name, default in _own_arguments(variant.cls).items():
        if default is inspect.Parameter.empty:
            raise AssertionError(f"{name} has no default: load() constructs the class without it")
        _require_stored(model, name, variant.constructor_kwargs.get(name, default))
    for name, value in _search_space_corners(variant.cls):
        _require_stored(variant.make(**{name: value}), name, value)


def check_search_space(variant: Variant) -> None:
    """Every parameter of ``own_search_space`` is a constructor argument."""
    known = inspect.signature(PPO.__init__).parameters.keys() | _own_arguments(variant.cls).keys()
    unknown = set(variant.cls.own_search_space) - known
    _require(not unknown, f"own_search_space names what the constructor does not take: {sorted(unknown)}")


def check_activation_by_name(variant: Variant) -> None:
    """``policy_kwargs`` accept an activation by name, as YAML and Optuna write it."""
    model = variant.make(policy_kwargs={"activation_fn": "relu"})
    found = any(isinstance(module, ACTIVATIONS["relu"]) for module in model.policy.mlp_extractor.modules())
    _require(found, 'policy_kwargs={"activation_fn": "relu"} built a policy without ReLU')
    _learn(model)


# Spaces, policies, environments ---------------------------------------------------------------------------------------


def check_box_actions(variant: Variant) -> None:
    """Continuous actions are learned, or refused with an alternative."""
    _learn_or_be_refused(variant, actions=BOX)


def check_discrete_actions(variant: Variant) -> None:
    """Discrete actions are learned, or refused with an alternative."""
    _learn_or_be_refused(variant, actions=DISCRETE)


def check_multi_discrete_actions(variant: Variant) -> None:
    """MultiDiscrete actions are learned, or refused with an alternative."""
    _learn_or_be_refused(variant, actions=MULTI_DISCRETE)


def check_multi_binary_actions(variant: Variant) -> None:
    """MultiBinary actions are learned, or refused with an alternative."""
    _learn_or_be_refused(variant, actions=MULTI_BINARY)


def check_state_dependent_noise(variant: Variant) -> None:
    """State-dependent noise (gSDE) is learned with, or refused with an alternative."""
    _learn_or_be_refused(variant, actions=BOX, use_sde=True, sde_sample_freq=4)


def check_image_observations(variant: Variant) -> None:
    """Image observations go through SB3's CNN, which actor and critic share, with every action space."""
    for actions in variant.accepted:
        _learn(variant.make(IMAGE, actions))


def check_dict_observations(variant: Variant) -> None:
    """Dict observations are learned from, with every action space."""
    for actions in variant.accepted:
        _learn(variant.make(DICT, actions))


def check_several_environments(variant: Variant) -> None:
    """Several environments fill one rollout, with every action space."""
    for actions in variant.accepted:
        model = _learn(variant.make(env=variant.make_env(actions=actions, n_envs=3)))
        steps = model.num_timesteps
        _require(steps % (3 * _N_STEPS) == 0, f"{steps} timesteps are no number of rollouts")


def check_last_minibatch_of_one_sample(variant: Variant) -> None:
    """A minibatch of one sample, whose standard deviation is undefined, does no harm, with every action space."""
    for actions in variant.accepted:
        _learn(variant.make(actions=actions, n_steps=33, batch_size=32))


def check_vec_normalize(variant: Variant) -> None:
    """VecNormalize works around the environment, with every action space."""
    for actions in variant.accepted:
        env = VecNormalize(variant.make_env(actions=actions, n_envs=2))
        model = _learn(variant.make(env=env))
        _require(model.get_vec_normalize_env() is env, "get_vec_normalize_env() does not find the VecNormalize")


def check_evaluate_policy(variant: Variant) -> None:
    """SB3's ``evaluate_policy`` gives a finite return."""
    model = _learn(variant.make())
    mean, _ = evaluate_policy(model, variant.make_env(), n_eval_episodes=2)
    _require(math.isfinite(float(np.mean(mean))), f"evaluate_policy returned {mean}")


# Saving and loading ---------------------------------------------------------------------------------------------------


def check_save_and_load(variant: Variant) -> None:
    """A model loaded in mid-training continues as the one that was never saved, adaptive state included."""
    for actions in variant.accepted:
        model = _learn(variant.make(actions=actions, learning_rate=0.01), rollouts=3)
        loaded = _save_and_load(model, env=variant.make_env(actions=actions))
        _require_equal_models(model, loaded, "after load()")
        for one in (model, loaded):
            one.set_env(variant.make_env(actions=actions))
            one.set_random_seed(5)
            one.learn(2 * _N_STEPS, reset_num_timesteps=False)
        _require_equal_models(model, loaded, "after training on from load()")


def check_get_and_set_parameters(variant: Variant) -> None:
    """``set_parameters`` takes what ``get_parameters`` of another model gave, optimizer included."""
    model = _learn(variant.make())
    other = variant.make(seed=2)
    parameters: Any = model.get_parameters()  # SB3 annotates the two ends of this round trip differently
    other.set_parameters(parameters, exact_match=True)
    _require_equal_tensors(model, other, "after set_parameters()")
    _learn(other)


def check_custom_objects(variant: Variant) -> None:
    """Loading survives the ``custom_objects`` that rl_zoo3's ``enjoy`` injects."""
    model = _learn(variant.make())
    replaced = {"learning_rate": 0.0, "lr_schedule": _zero, "clip_range": _zero}
    loaded = _save_and_load(model, custom_objects=replaced)
    observation: Any = variant.make_env().reset()
    before, after = (one.predict(observation, deterministic=True)[0] for one in (model, loaded))
    _require(np.array_equal(before, after), "the model loaded with custom_objects predicts other actions")


def check_saved_file_holds_nothing_big(variant: Variant) -> None:
    """The saved attributes hold no policy: old parameters belong to one update."""
    wide = {"net_arch": [256, 256]}
    env = variant.make_env()
    sizes = []
    for model in (variant.make(env=env, policy_kwargs=wide), variant.make_baseline(env, policy_kwargs=wide)):
        model.learn(_N_STEPS)
        file = io.BytesIO()
        model.save(file)
        with zipfile.ZipFile(file) as archive:
            sizes.append(len(json.dumps(json.loads(archive.read("data")))))
    ours, baseline = sizes
    _require(ours < baseline + 32_768, f"the saved attributes take {ours} bytes, the baseline's {baseline}")


# Reproducibility ------------------------------------------------------------------------------------------------------


def check_same_seed(variant: Variant) -> None:
    """The same seed gives the same parameters, another seed others."""
    one, same, other = (_learn(variant.make(env=variant.make_env(), seed=seed)) for seed in (1, 1, 2))
    _require_equal_models(one, same, "of the same seed")
    differ = any(not th.equal(tensor, _tensors(other)[name]) for name, tensor in _tensors(one).items())
    _require(differ, "two different seeds gave the same parameters")


def check_first_rollout_is_the_baselines(variant: Variant) -> None:
    """Collection draws the random numbers of the algorithm that the class builds on: the same first rollout."""
    seen = []
    for make in (variant.make, variant.make_baseline):
        model = make(env=variant.make_env(n_envs=2))
        callback = _KeepFirstRollout()
        model.learn(_N_STEPS * 2, callback=callback)
        seen.append(callback)
    ours, baseline = seen
    for name in ("observations", "actions", "episode_starts"):
        same = np.array_equal(ours.rollout[name], baseline.rollout[name])
        _require(same, f"{name} of the first rollout differ from the baseline's")
    for name in ("rewards", "values", "log_probs", "advantages", "returns"):  # an engine may round differently
        same = np.allclose(ours.rollout[name], baseline.rollout[name], rtol=1e-4, atol=1e-5)
        _require(same, f"{name} of the first rollout differ from the baseline's")
    _require(ours.random_state == baseline.random_state, "another number of random draws than the baseline's")


def check_measuring_draws_no_random_number(variant: Variant) -> None:
    """Measuring the KL over the rollout leaves the random generators alone."""
    states: list[tuple[bytes, bytes]] = []

    def measure(self: UpdateLoop) -> RolloutMeasurement:
        before = _random_state()
        measurement = variant.cls._measure_rollout(self)
        states.append((before, _random_state()))
        return measurement

    watched = type(variant.cls.__name__, (variant.cls,), {"_measure_rollout": measure})
    _learn(Variant(watched, variant.constructor_kwargs).make())
    _require(len(states) > 0, "_measure_rollout was never called: train() of UpdateLoop is overridden")
    _require(all(before == after for before, after in states), "_measure_rollout draws random numbers")


# Logs, callbacks, stopping --------------------------------------------------------------------------------------------


def check_log_keys(variant: Variant) -> None:
    """SB3's log keys are there, and the package's diagnostics."""
    logged = _learn(variant.make(), rollouts=1).logger.name_to_value
    missing = [key for key in _SB3_TRAIN_KEYS + _DIAGNOSTICS if f"train/{key}" not in logged]
    _require(not missing, f"nothing is logged under train/ for {', '.join(missing)}")
    _require("train/kl" in logged or "train/kl_k3" in logged, "no train/kl is logged")


def check_callbacks(variant: Variant) -> None:
    """Callbacks see every step and rollout, and can stop the training."""
    counter = _Count()
    _learn(variant.make(), rollouts=2, callback=counter)
    _require(counter.steps == 2 * _N_STEPS, f"on_step was called {counter.steps} times in {2 * _N_STEPS} steps")
    _require(counter.rollouts == 2, f"on_rollout_end was called {counter.rollouts} times for 2 rollouts")
    _require({"rewards", "infos", "dones"} <= counter.names, "locals lack rewards, infos or dones")
    model = variant.make()
    model.learn(_N_STEPS, callback=_Count(stop_after=5))
    _require(model.num_timesteps == 5, f"a callback said stop after 5 steps, the model took {model.num_timesteps}")


def check_progress_bar(variant: Variant) -> None:
    """The progress bar runs to its end."""
    if find_spec("tqdm") is None or find_spec("rich") is None:
        raise NotApplicable("tqdm or rich is not installed")
    warnings.simplefilter("ignore")  # tqdm calls its rich bar experimental
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        variant.make().learn(_N_STEPS, progress_bar=True)


def check_tensorboard(variant: Variant) -> None:
    """A TensorBoard run is named after the class."""
    if find_spec("tensorboard") is None:
        raise NotApplicable("tensorboard is not installed")
    with tempfile.TemporaryDirectory() as folder:
        model = variant.make(tensorboard_log=folder)
        model.learn(2 * _N_STEPS)
        model.logger.close()
        runs = [run.name for run in Path(folder).iterdir() if any(run.iterdir())]
    _require(runs == [f"{variant.cls.__name__}_1"], f"the TensorBoard runs are {runs}")


def check_target_kl(variant: Variant) -> None:
    """SB3's ``target_kl`` ends an update early, and the logs say so."""
    model = variant.make(target_kl=1e-7, learning_rate=0.01, n_epochs=5)
    model.learn(_N_STEPS)
    logged = model.logger.name_to_value
    _require(logged["train/epochs"] < 5, "target_kl=1e-7 did not end the update early")
    _require("train/stop_epoch" in logged, "no train/stop_epoch is logged after a stop")
    _require("train/stop_reason" in logged, "no train/stop_reason is logged after a stop")


# What is not finite ---------------------------------------------------------------------------------------------------


def check_non_finite_observation(variant: Variant) -> None:
    """A NaN observation is refused before it reaches the parameters."""
    model = _learn(variant.make(), rollouts=1)
    with _poisoned_environment(model, "observation"):
        _require_refused(model, "observation")
    _require_usable(model)


def check_non_finite_reward(variant: Variant) -> None:
    """A NaN reward is refused before it reaches the parameters."""
    model = _learn(variant.make(), rollouts=1)
    with _poisoned_environment(model, "reward"):
        _require_refused(model, "reward")
    _require_usable(model)


def check_non_finite_advantage(variant: Variant) -> None:
    """A NaN advantage is refused before it reaches the parameters."""
    model = _learn(variant.make(), rollouts=1)
    _require_refused(model, "advantage", callback=_PoisonAdvantage())
    _require_usable(model)


def check_non_finite_gradient(variant: Variant) -> None:
    """A NaN gradient is refused before it reaches the parameters."""
    model = _learn(variant.make(), rollouts=1)
    calls = []

    def poison(gradient: th.Tensor) -> th.Tensor:
        calls.append(1)
        return gradient * math.nan

    hook = next(model.policy.action_net.parameters()).register_hook(poison)  # type: ignore[no-untyped-call]
    try:
        _require_refused(model, "gradient")
    except ValueError as error:
        if calls or "engine" not in variant.constructor_kwargs:
            raise
        raise NotApplicable(f"gradients without autograd, which a hook cannot poison: {error}") from error
    finally:
        hook.remove()
    _require_usable(model)


#: Every check, in the order in which :func:`check_variant` runs them.
CHECKS: tuple[Check, ...] = (
    check_constructor_arguments,
    check_search_space,
    check_activation_by_name,
    check_box_actions,
    check_discrete_actions,
    check_multi_discrete_actions,
    check_multi_binary_actions,
    check_state_dependent_noise,
    check_image_observations,
    check_dict_observations,
    check_several_environments,
    check_last_minibatch_of_one_sample,
    check_vec_normalize,
    check_evaluate_policy,
    check_save_and_load,
    check_get_and_set_parameters,
    check_custom_objects,
    check_saved_file_holds_nothing_big,
    check_same_seed,
    check_first_rollout_is_the_baselines,
    check_measuring_draws_no_random_number,
    check_log_keys,
    check_callbacks,
    check_progress_bar,
    check_tensorboard,
    check_target_kl,
    check_non_finite_observation,
    check_non_finite_reward,
    check_non_finite_advantage,
    check_non_finite_gradient,
)


# Tools ----------------------------------------------------------------------------------------------------------------


class _KeepFirstRollout(BaseCallback):
    """Copy the first rollout's arrays and the state of the random generators right after collection."""

    def __init__(self) -> None:
        super().__init__()
        self.rollout: dict[str, Any] = {}
        self.random_state = b""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.rollout:
            return
        self.random_state = _random_state()
        assert isinstance(self.model, OnPolicyAlgorithm)
        self.rollout = {
            name: value.copy()
            for name, value in vars(self.model.rollout_buffer).items()
            if isinstance(value, np.ndarray)
        }


class _Count(BaseCallback):
    """Count steps and rollouts, note the names of the locals, stop after some steps."""

    def __init__(self, stop_after: float = math.inf) -> None:
        super().__init__()
        self.steps = 0
        self.rollouts = 0
        self.names: set[str] = set()
        self.stop_after = stop_after

    def _on_step(self) -> bool:
        self.steps += 1
        self.names |= set(self.locals)
        return self.steps < self.stop_after

    def _on_rollout_end(self) -> None:
        self.rollouts += 1


class _PoisonAdvantage(BaseCallback):
    """Put a NaN into the advantages of every rollout."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        assert isinstance(self.model, OnPolicyAlgorithm)
        self.model.rollout_buffer.advantages[3] = math.nan


def _zero(_: float) -> float:
    return 0.0


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _policy_for(observations: spaces.Space[Any]) -> str:
    if isinstance(observations, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if len(observations.shape or ()) == 3 else "MlpPolicy"


def _own_arguments(cls: type[UpdateLoop]) -> dict[str, Any]:
    """Return the class's own arguments and their defaults: all constructors' keywords that are not SB3's."""
    baseline = inspect.signature(PPO.__init__).parameters
    parameters = [
        parameter
        for base in cls.__mro__
        if issubclass(base, UpdateLoop) and "__init__" in vars(base)
        for parameter in inspect.signature(base.__init__).parameters.values()
    ]
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.name not in baseline and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def _search_space_corners(cls: type[UpdateLoop]) -> Iterator[tuple[str, Any]]:
    own = _own_arguments(cls)
    for name, parameter in cls.own_search_space.items():
        if name in own:
            yield from ((name, value) for value in _corners(parameter))


def _corners(parameter: Parameter) -> tuple[Any, ...]:
    return parameter.options if isinstance(parameter, Choice) else (parameter.low, parameter.high)


def _require_stored(model: UpdateLoop, name: str, value: Any) -> None:
    _require(hasattr(model, name), f"the argument {name} is not stored as an attribute of that name")
    stored = getattr(model, name)
    _require(stored is value or stored == value, f"{name}={value!r} is stored as {stored!r}")


def _learn(model: UpdateLoop, rollouts: int = 2, **arguments: Any) -> UpdateLoop:
    """Train, and see that the parameters have moved and are finite."""
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(rollouts * model.n_steps * model.n_envs, **arguments)
    after = list(model.policy.parameters())
    _require(all(bool(th.isfinite(tensor).all()) for tensor in after), "parameters are not finite after learning")
    _require(
        any(not th.equal(*pair) for pair in zip(before, after, strict=True)), "learning left every parameter as is"
    )
    return model


def _learn_or_be_refused(variant: Variant, **arguments: Any) -> None:
    try:
        model = variant.make(**arguments)
    except ValueError as refusal:
        names_alternative = re.search(r"\b(use|pass|give|choose|try|set)\b", str(refusal), re.IGNORECASE)
        _require(names_alternative is not None, f"the refusal names no alternative: {refusal}")
        return
    _learn(model)


def _save_and_load(model: UpdateLoop, **arguments: Any) -> UpdateLoop:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.zip"
        model.save(path)
        return type(model).load(path, device="cpu", **arguments)


def _random_state() -> bytes:
    """Return the state of the global generators of torch, NumPy and Python."""
    return pickle.dumps((th.get_rng_state().numpy(), np.random.get_state(), random.getstate()))


def _tensors(model: UpdateLoop) -> dict[str, th.Tensor]:
    """Return every tensor of the policy and of its optimizer by name."""
    named = dict(model.policy.state_dict())
    for index, moments in model.policy.optimizer.state_dict()["state"].items():
        named |= {f"optimizer {index} {name}": th.as_tensor(value) for name, value in moments.items()}
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def _require_equal_tensors(one: UpdateLoop, other: UpdateLoop, when: str) -> None:
    _require_same(_tensors(one), _tensors(other), when)


def _require_same(ours: Mapping[str, th.Tensor], theirs: Mapping[str, th.Tensor], when: str) -> None:
    _require(ours.keys() == theirs.keys(), f"the two models hold different tensors {when}")
    different = [name for name, tensor in ours.items() if not th.equal(tensor, theirs[name])]
    _require(not different, f"{', '.join(different[:3])} differ{'s' if len(different) == 1 else ''} {when}")


def _require_equal_models(one: UpdateLoop, other: UpdateLoop, when: str) -> None:
    """Require equal parameters, optimizer moments and plain attributes (adaptive state)."""
    _require_equal_tensors(one, other, when)
    plain = {
        name: value
        for name, value in vars(one).items()
        if isinstance(value, (bool, int, float, str)) and name != "start_time"
    }
    different = [
        f"{name} ({value!r}, {vars(other).get(name)!r})"
        for name, value in plain.items()
        if vars(other).get(name) != value
    ]
    _require(not different, f"attributes differ {when}: {', '.join(different)}")


@contextlib.contextmanager
def _poisoned_environment(model: UpdateLoop, poison: str) -> Generator[None, None, None]:
    assert model.env is not None
    environments = [env.unwrapped for env in model.env.unwrapped.envs]  # type: ignore[attr-defined]
    for env in environments:
        env.poison = poison
    try:
        yield
    finally:
        for env in environments:
            env.poison = None


def _require_refused(model: UpdateLoop, tensor: str, **arguments: Any) -> None:
    """Require a NonFiniteUpdateError that names ``tensor``, with parameters and moments as before."""
    before = _tensors(model)
    try:
        model.learn(_N_STEPS, reset_num_timesteps=False, **arguments)
    except NonFiniteUpdateError as error:
        _require(error.tensor == tensor, f"the error names the {error.tensor}, not the {tensor}")
        _require_same(before, _tensors(model), f"after a NaN {tensor}")
        return
    raise AssertionError(f"a NaN {tensor} went unnoticed")


def _require_usable(model: UpdateLoop) -> None:
    """Require that the model saves, loads and trains on."""
    _require_equal_tensors(model, _save_and_load(model), "after saving what a NaN had interrupted")
    _learn(model)
