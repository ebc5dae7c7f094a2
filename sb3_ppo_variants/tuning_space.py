"""What is tuned: the shared hyperparameters, stated once for all algorithms, and each one's own.

Optuna sees flat parameters; a cell carries a raw zoo entry. :meth:`TuningSpace.entry` and
:meth:`TuningSpace.params` are the two directions.
"""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from sb3_ppo_variants.entries.constructors import constructor_parameters
from sb3_ppo_variants.entries.schedules import is_schedule, resolve_schedule
from sb3_ppo_variants.experiment import registered_entry
from sb3_ppo_variants.registry import Algorithm, get_algorithm
from sb3_ppo_variants.search_space import CRITIC_PASSES, Choice, FloatRange, IntRange, Parameter, SearchSpace

LEARNING_RATES = FloatRange(1e-5, 1e-2, log=True)

SHARED: SearchSpace = {
    "learning_rate": LEARNING_RATES,
    "learning_rate_schedule": Choice(("constant", "linear")),
    "log2_rollout_size": IntRange(6, 14),
    "log2_batch_size": IntRange(5, 10),
    "n_epochs": IntRange(1, 20, log=True),
    "one_minus_gamma": FloatRange(1e-4, 0.1, log=True),
    "gae_lambda": FloatRange(0.8, 1.0),
    "ent_coef": FloatRange(1e-6, 0.1, log=True),
    "log2_net_width": IntRange(5, 8),
    "activation_fn": Choice(("tanh", "relu")),
    "normalize": Choice((True, False)),
    "own_critic": Choice((False, True)),
    "critic_epochs": CRITIC_PASSES,
    "critic_learning_rate": LEARNING_RATES,
}
"""The same ranges for every algorithm.

Rollout size is n_steps * n_envs and at most a quarter of the steps; batch_size is the largest divisor
of it up to 2**log2_batch_size; both networks have two layers of 2**log2_net_width units.
``n_epochs`` and ``ent_coef`` are left out where the constructor has no such argument, the schedule where the class
steers the learning rate itself.

The critic of a variant is trained with the actor, as SB3's PPO does, or on its own (``own_critic``) with passes and a
rate of its own, whose ranges are those of TRPO's critic: ``n_critic_updates`` and ``learning_rate``, which in TRPO is
the critic's alone. So each side may choose what the other has. SB3's PPO offers no choice: it has the joint critic.
The three are left out where the constructor has no such arguments, and where actor and critic may share parameters (a
features extractor or an LSTM for both), which a critic of its own cannot.
"""

_CONSTRUCTOR_ARGUMENTS = ("n_epochs", "ent_coef")
_OWN_CRITIC = ("own_critic", "critic_epochs", "critic_learning_rate")
JOINT_CRITIC: Mapping[str, Any] = {
    "critic_epochs": None,
    "critic_learning_rate": None,
    "critic_batch_size": None,
    "critic_gae_lambda": None,
    "critic_max_grad_norm": None,
    "critic_first": False,
}
"""A critic that is trained with the actor: the arguments that need one of its own, and their neutral values."""
_MIN_UPDATES = 4
_PASSES_WHEN_JOINT = 10  # SB3's epochs: where the search begins beside a registered joint critic
# Key of a zoo entry -> the parameters that decide it, where these have other names
_DECIDED_BY = {
    "learning_rate": ("learning_rate", "learning_rate_schedule"),
    "n_steps": ("log2_rollout_size",),
    "batch_size": ("log2_batch_size",),
    "gamma": ("one_minus_gamma",),
    "net_arch": ("log2_net_width",),
}


@dataclass(frozen=True)
class TuningSpace:
    """The search space of one algorithm on one environment.

    :param algorithm: registered algorithm
    :param default: its registered zoo entry for the environment, with the fixed values in it
    :param steps: environment steps of a run
    :param fixed: part of the entry that is not tuned
    """

    algorithm: Algorithm
    default: Mapping[str, Any]
    steps: int
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        algorithm_id: str,
        env_id: str,
        steps: int,
        fixed: Mapping[str, Any] | None = None,
        registered: Mapping[str, Any] | None = None,
    ) -> "TuningSpace":
        """The space around the registered entry of ``algorithm_id`` for ``env_id``.

        :param algorithm_id: registered algorithm id
        :param env_id: gymnasium environment id
        :param steps: environment steps of a run
        :param fixed: values that replace the registered ones, and are not tuned
        :param registered: zoo entry in place of the registered one
        :raises ValueError: unknown algorithm, no entry, or a registered rollout larger than ``steps``
        """
        fixed = deepcopy(dict(fixed or {}))
        entry = registered_entry(algorithm_id, env_id) if registered is None else deepcopy(dict(registered))
        default = {**entry, **fixed, "n_timesteps": steps}
        space = cls(get_algorithm(algorithm_id), default, steps, fixed)
        rollout = space.rollout_size
        if rollout > steps:
            raise ValueError(
                f"{env_id}: steps is {steps}, but one rollout of {algorithm_id}'s "
                f"{'' if fixed else 'registered '}configuration takes {rollout}: give at least that many steps"
            )
        return space

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Parameter name -> range, shared ones first; without those that decide a fixed value."""
        keys = [*self.fixed, *(self.fixed.get("policy_kwargs") or {})]
        decided = {name for key in keys for name in _DECIDED_BY.get(key, (key,))}
        if "critic_epochs" in self.fixed:
            decided |= {"own_critic"} if self.fixed["critic_epochs"] else set(_OWN_CRITIC)
        return {name: parameter for name, parameter in self._ranges.items() if name not in decided}

    @property
    def _ranges(self) -> dict[str, Parameter]:
        arguments = constructor_parameters(self.algorithm.cls)
        shared = {
            name: parameter
            for name, parameter in SHARED.items()
            if name not in _CONSTRUCTOR_ARGUMENTS or name in arguments
        }
        largest = max(6, min(14, int(math.log2(self.steps / _MIN_UPDATES))))
        shared["log2_rollout_size"] = IntRange(6, largest)
        if "lr_max" in arguments:  # such a class steers the rate itself and refuses a schedule
            del shared["learning_rate_schedule"]
        if "critic_epochs" not in arguments or not self._critic_stands_apart:
            for name in _OWN_CRITIC:
                del shared[name]
        return {**shared, **self.algorithm.own_search_space}

    def entry(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The registered entry with the sampled values in place of its own.

        :param params: a value for each of :attr:`parameters`
        """
        if self.fixed:  # the parameters that are left out need a value, which what is fixed replaces in the end
            params = self._nearest_default | dict(params)
        entry = deepcopy(dict(self.default))
        n_envs = int(entry.get("n_envs", 1))
        n_steps = int(self.fixed.get("n_steps", max(1, 2 ** params["log2_rollout_size"] // n_envs)))
        rate = params["learning_rate"]
        width = 2 ** params["log2_net_width"]
        entry |= {
            "learning_rate": f"lin_{rate!r}" if params.get("learning_rate_schedule") == "linear" else rate,
            "n_steps": n_steps,
            "batch_size": _largest_divisor(n_steps * n_envs, 2 ** params["log2_batch_size"]),
            "gamma": 1.0 - params["one_minus_gamma"],
            "gae_lambda": params["gae_lambda"],
            "normalize": params["normalize"] and (entry.get("normalize") or True),
            "policy_kwargs": {
                **(entry.get("policy_kwargs") or {}),
                "net_arch": {"pi": [width, width], "vf": [width, width]},
                "activation_fn": params["activation_fn"],
                **(self.fixed.get("policy_kwargs") or {}),
            },
        }
        as_they_are = {*_CONSTRUCTOR_ARGUMENTS, *self.algorithm.own_search_space} & params.keys()
        entry |= {name: params[name] for name in sorted(as_they_are)}
        if "own_critic" in params:
            own = {name: params[name] for name in ("critic_epochs", "critic_learning_rate")}
            joint = {name: value for name, value in JOINT_CRITIC.items() if name in entry}
            entry |= own if params["own_critic"] else joint
        return entry | {name: deepcopy(value) for name, value in self.fixed.items() if name != "policy_kwargs"}

    @property
    def critic(self) -> str:
        """How the critic is trained: "joint" with the actor, on its "own", or either, as tuning chooses."""
        if "own_critic" in self.parameters:
            return "joint or own, tuned"
        # sb3-contrib's TRPO has no other than its own
        own = self.default.get("critic_epochs") or "n_critic_updates" in constructor_parameters(self.algorithm.cls)
        return "own" if own else "joint"

    @property
    def rollout_size(self) -> int:
        """Environment steps between two updates of the registered entry, over all of its environments."""
        return int(self._value("n_steps")) * int(self.default.get("n_envs", 1))

    @property
    def default_params(self) -> dict[str, Any]:
        """The point of the space nearest to the registered entry, for Optuna's eyes.

        The first trial runs the registered entry itself, which may lie outside (a schedule of the clip
        range, a network of three layers).
        """
        nearest = self._nearest_default
        return {name: nearest[name] for name in self.parameters}

    @property
    def _nearest_default(self) -> dict[str, Any]:
        entry = self.default
        policy_kwargs = entry.get("policy_kwargs") or {}
        wanted = {
            "learning_rate": _number(self._value("learning_rate")),
            "learning_rate_schedule": "linear" if str(self._value("learning_rate")).startswith("lin_") else "constant",
            "log2_rollout_size": math.log2(self.rollout_size),
            "log2_batch_size": math.log2(self._value("batch_size")),
            "one_minus_gamma": 1.0 - self._value("gamma"),
            "log2_net_width": math.log2(_first_width(policy_kwargs.get("net_arch"))),
            "activation_fn": policy_kwargs.get("activation_fn", "tanh"),
            "normalize": bool(entry.get("normalize", False)),
            "own_critic": bool(entry.get("critic_epochs")),
            "critic_epochs": entry.get("critic_epochs") or _PASSES_WHEN_JOINT,
            "critic_learning_rate": _number(entry.get("critic_learning_rate") or self._value("learning_rate")),
        }
        return {
            name: _nearest(parameter, wanted[name] if name in wanted else _number(self._value(name)))
            for name, parameter in self._ranges.items()
        }

    def nearest(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The point of this space nearest to one of the same algorithm on another environment.

        :param params: a value for each of its :attr:`parameters`; what is fixed there may be searched here
        """
        point = self.default_params | dict(params)
        return {name: _nearest(parameter, point[name]) for name, parameter in self.parameters.items()}

    @property
    def _critic_stands_apart(self) -> bool:
        """Whether actor and critic share no trainable parameter, as far as an entry can tell."""
        policy_kwargs = self.default.get("policy_kwargs") or {}
        if policy_kwargs.get("shared_lstm"):
            return False
        if policy_kwargs.get("share_features_extractor") is False:
            return True
        plain = str(self.default.get("policy", "MlpPolicy")).startswith("Mlp")
        return plain and policy_kwargs.get("features_extractor_class") is None

    def _value(self, name: str) -> Any:
        """What the registered entry says, or else the constructor's default."""
        return self.default[name] if name in self.default else self._constructor_default(name)

    def _constructor_default(self, name: str) -> Any:
        return constructor_parameters(self.algorithm.cls)[name].default


def _largest_divisor(number: int, limit: int) -> int:
    return max(divisor for divisor in range(1, min(number, limit) + 1) if number % divisor == 0)


def _number(value: Any) -> Any:
    """The starting value of a schedule such as ``lin_0.1``; anything else as it is."""
    return resolve_schedule(value, "a registered value")(1.0) if is_schedule(value) else value


def _first_width(net_arch: Any) -> int:
    layers = net_arch.get("pi") if isinstance(net_arch, Mapping) else net_arch
    return int(layers[0]) if layers else 64


def _nearest(parameter: Parameter, value: Any) -> Any:
    if isinstance(parameter, Choice):
        return value if value in parameter.options else parameter.options[0]
    low, high = parameter.low, parameter.high
    inside = min(max(low if value is None else value, low), high)
    return round(inside) if isinstance(parameter, IntRange) else float(inside)
