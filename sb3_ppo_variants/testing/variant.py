"""A variant under test, and the small models that the checks make of it."""

import contextlib
import inspect
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar
from unittest import SkipTest

from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.evaluation import knows_masks
from sb3_ppo_variants.testing.environments import (
    BOX,
    DISCRETE,
    MULTI_BINARY,
    MULTI_DISCRETE,
    VECTOR,
    MaskedSpaceEnv,
    SpaceEnv,
    make_env,
)
from sb3_ppo_variants.testing.requirements import learn
from sb3_ppo_variants.training.update_loop import UpdateLoop

N_STEPS = 16
"""Steps per rollout and environment of the models that the checks make."""

_Algorithm = TypeVar("_Algorithm", bound=OnPolicyAlgorithm)

_SMALL: Mapping[str, Any] = {
    **{"n_steps": N_STEPS, "batch_size": 8, "n_epochs": 2, "learning_rate": 3e-3},
    **{"seed": 1, "device": "cpu"},
}


class NotApplicable(SkipTest):
    """A check cannot be made: the engine asked for refuses its model, or an optional package is missing.

    pytest and unittest count it as skipped.
    """


@dataclass(frozen=True)
class Variant:
    """A variant under test: the class, and keyword arguments for every construction.

    A class that knows action masks gets environments that have them, a recurrent one a small LSTM.

    :param cls: class built on :class:`UpdateLoop`
    :param constructor_kwargs: its arguments in every check
    :raises ValueError: if ``cls`` is no such class
    """

    cls: type[UpdateLoop]
    constructor_kwargs: Mapping[str, Any] = field(default_factory=dict)
    _trained: dict[str, UpdateLoop] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what no check can be made of."""
        is_class = isinstance(self.cls, type) and issubclass(self.cls, UpdateLoop)
        if not (is_class and issubclass(self.cls, OnPolicyAlgorithm)):
            raise ValueError(f"{self.cls!r} is no variant: give a class that puts an UpdateLoop in front of SB3's PPO.")

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

    @property
    def baseline(self) -> type[OnPolicyAlgorithm]:
        """Return the algorithm of SB3 (or sb3-contrib) that the class builds on."""
        return next(
            base
            for base in self.cls.__mro__
            if issubclass(base, OnPolicyAlgorithm) and not issubclass(base, UpdateLoop)
        )

    def make_env(
        self,
        observations: spaces.Space[Any] = VECTOR,
        actions: spaces.Space[Any] | None = None,
        *,
        n_envs: int = 1,
        all_valid: bool = False,
    ) -> VecEnv:
        """Return an environment with an action space that the class takes, and with masks if it knows them.

        :param observations: observation space
        :param actions: action space; None: the first that the class takes
        :param n_envs: number of copies
        :param all_valid: whether masks forbid nothing
        """
        actions = actions if actions is not None else self.actions
        # With masks, continuous actions are for the class to refuse
        masked = knows_masks(self.cls) and not isinstance(actions, spaces.Box)
        env_class = partial(MaskedSpaceEnv, valid=1.0 if all_valid else 0.5) if masked else SpaceEnv
        return make_env(observations, actions, n_envs=n_envs, env_class=env_class)

    def make(
        self,
        observations: spaces.Space[Any] = VECTOR,
        actions: spaces.Space[Any] | None = None,
        *,
        env: VecEnv | None = None,
        **arguments: Any,
    ) -> UpdateLoop:
        """Return a small model of the class.

        :param observations: observation space of its environment
        :param actions: action space of its environment; None: the first that the class takes
        :param env: its environment, instead of one with these spaces
        :param arguments: of the constructor, over those of every construction
        :raises NotApplicable: if an engine in ``constructor_kwargs`` cannot run it
        """
        try:
            return _small_model(
                self.cls, env or self.make_env(observations, actions), self.constructor_kwargs, arguments
            )
        except ValueError as error:
            if "engine" in self.constructor_kwargs and "engine" in str(error):
                raise NotApplicable(str(error)) from error
            raise

    def make_baseline(self, env: VecEnv, **arguments: Any) -> OnPolicyAlgorithm:
        """Return the same model of :attr:`baseline`.

        :param env: its environment
        :param arguments: of the constructor
        """
        known = inspect.signature(self.baseline.__init__).parameters
        shared = {name: value for name, value in self.constructor_kwargs.items() if name in known}
        return _small_model(self.baseline, env, shared, arguments)

    def trained(self, actions: spaces.Space[Any] | None = None) -> UpdateLoop:
        """Return a model after two rollouts that the checks share: they look at it and save it, and never change it.

        :param actions: action space of its environment; None: the first that the class takes
        :raises AssertionError: if it does not learn
        """
        actions = actions if actions is not None else self.actions
        if str(actions) not in self._trained:
            self._trained[str(actions)] = learn(self.make(actions=actions))
        return self._trained[str(actions)]

    def trained_copy(self) -> UpdateLoop:
        """Return a model as :meth:`trained` does, to do with as one likes."""
        file = io.BytesIO()
        self.trained().save(file)
        file.seek(0)
        return self.cls.load(file, env=self.make_env(), device="cpu")


def _small_model(
    algorithm: type[_Algorithm], env: VecEnv, everywhere: Mapping[str, Any], here: Mapping[str, Any]
) -> _Algorithm:
    policy = _policy_for(algorithm, env.observation_space)
    policy_kwargs: dict[str, Any] = {"lstm_hidden_size": 8} if "Lstm" in policy else {}
    for arguments in (everywhere, here):
        policy_kwargs |= arguments.get("policy_kwargs") or {}
    constructor: Any = algorithm
    model: _Algorithm = constructor(policy, env, **{**_SMALL, **everywhere, **here, "policy_kwargs": policy_kwargs})
    return model


def _policy_for(cls: type[OnPolicyAlgorithm], observations: spaces.Space[Any]) -> str:
    is_image = len(observations.shape or ()) == 3
    kind = "MultiInput" if isinstance(observations, spaces.Dict) else "Cnn" if is_image else "Mlp"
    names = (f"{kind}LstmPolicy", f"{kind}Policy")
    name = next((name for name in names if name in cls.policy_aliases), None)
    if name is None:
        raise AssertionError(f"policy_aliases has no {names[1]}")
    return name
