"""What several tests share: settings, runs that keep every logged value, bit-for-bit comparison."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import nn
from torch.distributions import Bernoulli, Categorical, Distribution, Normal, kl_divergence

from sb3_ppo_variants import UpdateLoop
from sb3_ppo_variants.engines.kernels import extension
from sb3_ppo_variants.testing import (
    BOX,
    DICT,
    DISCRETE,
    IMAGE,
    MULTI_BINARY,
    MULTI_DISCRETE,
    VECTOR,
    VariantContract,
    make_env,
)

ARRAY_ENGINES = ("numpy",) if extension.why_not() else ("numpy", "compiled")
"""Names of the engines that run on arrays here, the fastest last."""


def mostly_slow(
    cases: Iterable[Any], always: Collection[Any] | Callable[[Any], bool], ids: Callable[[Any], str] | None = None
) -> list[Any]:
    """Return cases for ``parametrize``: a few run always, the others, which repeat what these show, as slow tests.

    :param cases: values, or tuples of the values of several parameters
    :param always: those of them that run always, or what tells whether one does
    :param ids: name of a case; pytest's own by default
    :raises ValueError: one of ``always`` is no case
    """
    cases = list(cases)
    runs_always = always if callable(always) else always.__contains__
    if not callable(always) and (unknown := [case for case in always if case not in cases]):
        raise ValueError(f"{unknown} are no cases")
    if not any(map(runs_always, cases)):
        raise ValueError("none of the cases runs always")
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=[] if runs_always(case) else [pytest.mark.slow],
            id=ids(case) if ids else None,
        )
        for case in cases
    ]


def contract_of(variant: type[UpdateLoop], repeated: Iterable[str]) -> type[VariantContract]:
    """Return the conformance tests of a variant.

    :param variant: class
    :param repeated: checks, without ``check_``, that others make always, and this one's with the slow tests
    """
    tests = {f"test_{name}": _with_the_slow_tests(getattr(VariantContract, f"test_{name}")) for name in repeated}
    return type(f"Test{variant.__name__}", (VariantContract,), {"variant": variant, **tests})


def _with_the_slow_tests(test: Callable[[Any], None]) -> Callable[[Any], None]:
    @pytest.mark.slow
    @wraps(test)
    def slow(self: Any) -> None:
        test(self)

    return slow


class DenseExtractor(BaseFeaturesExtractor):
    """A features extractor with parameters, which actor and critic share by default."""

    def __init__(self, observation_space: spaces.Space[Any], features_dim: int = 8) -> None:
        super().__init__(observation_space, features_dim)
        self.net = nn.Sequential(nn.Linear(observation_space.shape[0], features_dim), nn.Tanh())

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.net(observations)


class BatchNormExtractor(DenseExtractor):
    """Has running statistics too, which act on the policy without a gradient."""

    def __init__(self, observation_space: spaces.Space[Any], features_dim: int = 8) -> None:
        super().__init__(observation_space, features_dim)
        self.net = nn.Sequential(self.net, nn.BatchNorm1d(features_dim), nn.Dropout(0.1))


@dataclass(frozen=True)
class Setting:
    """An environment, and the arguments of a model that learns in it."""

    env: Callable[[], VecEnv]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    policy: str = "MlpPolicy"
    rollouts: int = 2


def _spaces(observations: spaces.Space[Any], actions: spaces.Space[Any], n_envs: int = 1) -> Callable[[], VecEnv]:
    return lambda: make_env(observations, actions, n_envs=n_envs)


def _normalised() -> VecEnv:
    return VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=0), gamma=0.9)


_SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 3, "seed": 11, "device": "cpu"}

SETTINGS: dict[str, Setting] = {
    "discrete": Setting(lambda: make_vec_env("CartPole-v1", seed=0), {"learning_rate": 1e-3}),
    "box": Setting(lambda: make_vec_env("Pendulum-v1", seed=0), {"gamma": 0.9, "gae_lambda": 0.8}),
    "entropy and value weights": Setting(_spaces(VECTOR, DISCRETE), {"ent_coef": 0.013, "vf_coef": 0.37}),
    "image, shared extractor": Setting(_spaces(IMAGE, DISCRETE), {"n_epochs": 2}, "CnnPolicy"),
    "image, separate extractors": Setting(
        _spaces(IMAGE, BOX), {"n_epochs": 2, "policy_kwargs": {"share_features_extractor": False}}, "CnnPolicy"
    ),
    "dense extractor, shared": Setting(
        _spaces(VECTOR, BOX, 2), {"policy_kwargs": {"features_extractor_class": DenseExtractor}, "ent_coef": 0.01}
    ),
    "batch normalisation and dropout": Setting(
        _spaces(VECTOR, BOX, 2), {"policy_kwargs": {"features_extractor_class": BatchNormExtractor}}
    ),
    "dict, multi-discrete": Setting(_spaces(DICT, MULTI_DISCRETE, 2), {}, "MultiInputPolicy"),
    "multi-binary, raw advantages": Setting(_spaces(VECTOR, MULTI_BINARY), {"normalize_advantage": False}),
    "state-dependent noise, value clip": Setting(
        _spaces(VECTOR, BOX), {"use_sde": True, "sde_sample_freq": 4, "clip_range_vf": 0.1, "ent_coef": 0.01}
    ),
    "squashed noise, no closed entropy": Setting(
        _spaces(VECTOR, BOX), {"use_sde": True, "policy_kwargs": {"squash_output": True}, "ent_coef": 0.01}
    ),
    "schedules": Setting(
        _spaces(VECTOR, DISCRETE, 3),
        {
            "learning_rate": LinearSchedule(3e-3, 0.0, 1.0),
            "clip_range": LinearSchedule(0.3, 0.1, 1.0),
            "clip_range_vf": lambda remaining: 0.05 + 0.1 * remaining,
        },
    ),
    "last minibatch of one sample": Setting(_spaces(VECTOR, BOX), {"n_steps": 33}),
    "VecNormalize": Setting(_normalised, {"gamma": 0.9, "max_grad_norm": 0.3}),
    "target_kl": Setting(_spaces(VECTOR, BOX, 2), {"target_kl": 0.003, "learning_rate": 3e-3}),
}


class LogRecorder(KVWriter):
    """Keep every dump of a logger."""

    def __init__(self) -> None:
        self.dumps: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.dumps.append(dict(key_values))

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Run:
    """A trained model, everything it logged, and the random generators' states at its end."""

    model: PPO
    logs: list[dict[str, Any]]
    random_states: tuple[th.Tensor, Any]


def sb3s_bits(cls: type[PPO]) -> dict[str, str]:
    """Return what a class has to be given to compute what SB3 computes, bit for bit."""
    return {"engine": "torch"} if issubclass(cls, UpdateLoop) else {}


def train(cls: type[PPO], setting: Setting, **arguments: Any) -> Run:
    """Train from scratch, the variants on the engine that has SB3's bits."""
    env = setting.env()
    model = cls(setting.policy, env, **(_SMALL | sb3s_bits(cls) | dict(setting.kwargs) | arguments))
    recorder = LogRecorder()
    model.set_logger(Logger(None, [recorder]))
    model.learn(setting.rollouts * model.n_steps * model.n_envs)
    logs = [*recorder.dumps, dict(model.logger.name_to_value)]  # the last update is not dumped
    return Run(model, logs, (th.get_rng_state(), np.random.get_state()))


@cache
def ppo(name: str, **arguments: Any) -> Run:
    """Train SB3's PPO in one of :data:`SETTINGS`, once a process: nobody may change what it returns."""
    return train(PPO, SETTINGS[name], **arguments)


def tensors_of(model: PPO) -> dict[str, th.Tensor]:
    """Return copies of every tensor of the policy and of its optimizer by name."""
    named = dict(model.policy.state_dict())
    for index, moments in model.policy.optimizer.state_dict()["state"].items():
        named |= {f"optimizer {index} {name}": value for name, value in moments.items()}
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def differing(one: Mapping[str, th.Tensor], other: Mapping[str, th.Tensor]) -> list[str]:
    """Return the names of the tensors that are not equal bit for bit."""
    assert one.keys() == other.keys()
    return [name for name, tensor in one.items() if not th.equal(tensor, other[name])]


def assert_same_run(ours: Run, theirs: Run) -> None:
    """Assert that two runs are the same bit for bit: tensors, random draws, and every value that ``theirs`` logged."""
    assert differing(tensors_of(ours.model), tensors_of(theirs.model)) == []
    groups = [run.model.policy.optimizer.state_dict()["param_groups"] for run in (ours, theirs)]
    assert groups[0] == groups[1]
    assert th.equal(ours.random_states[0], theirs.random_states[0])
    np.testing.assert_equal(ours.random_states[1], theirs.random_states[1])
    assert ours.model.num_timesteps == theirs.model.num_timesteps
    np.testing.assert_equal(ours.model._last_obs, theirs.model._last_obs)
    assert len(ours.logs) == len(theirs.logs)
    assert any("train/loss" in dump for dump in theirs.logs), "nothing was trained"
    for our_dump, their_dump in zip(ours.logs, theirs.logs, strict=True):
        expected = {key: value for key, value in their_dump.items() if not key.startswith("time/")}
        np.testing.assert_equal({key: our_dump.get(key) for key in expected}, expected)


@dataclass(frozen=True)
class Audit:
    """One update as seen from outside: recomputed in float64 from copies of the policy."""

    kl: float
    gain: float
    changed: frozenset[str]  # names of the tensors that are not bitwise the old ones
    ratio: np.ndarray
    logs: dict[str, Any]


class Auditing(UpdateLoop):
    """Audits each of its updates."""

    audits: list[Audit]

    def learn(self, *arguments: Any, **kwargs: Any) -> Any:
        self.audits = []
        return super().learn(*arguments, **kwargs)

    def train(self) -> None:
        old = self._copy_of_the_policy()
        super().train()
        self.audits.append(self._audit(old, self._copy_of_the_policy()))

    def _copy_of_the_policy(self) -> ActorCriticPolicy:
        policy = self.policy_class(self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs)
        policy.load_state_dict(self.policy.state_dict())
        policy.set_training_mode(False)
        return policy

    @th.no_grad()
    def _audit(self, old: ActorCriticPolicy, new: ActorCriticPolicy) -> Audit:
        buffer = self.rollout_buffer  # flattened by the update
        observations, actions = th.as_tensor(buffer.observations), th.as_tensor(buffer.actions).double()
        before, after = distributions(old, observations), distributions(new, observations)
        kl = sum(kl_divergence(p, q).reshape(len(actions), -1).sum(dim=1) for p, q in zip(before, after, strict=True))
        ratio = th.exp(log_prob(after, actions) - log_prob(before, actions))
        advantages = th.as_tensor(buffer.advantages).double().flatten()
        gain = (ratio - 1) * (advantages - advantages.mean()) / advantages.std()
        new_state = new.state_dict()
        changed = frozenset(name for name, tensor in old.state_dict().items() if not th.equal(tensor, new_state[name]))
        logs = dict(self.logger.name_to_value)
        return Audit(kl.mean().item(), gain.mean().item(), changed, ratio.numpy(), logs)


def audited(cls: type[UpdateLoop]) -> type[Auditing]:
    """Return ``cls`` with :attr:`Auditing.audits`."""
    return type(cls.__name__, (Auditing, cls), {})


def distributions(policy: ActorCriticPolicy, observations: th.Tensor) -> list[Distribution]:
    """Return PyTorch's distributions of the actions in float64, one per independent part."""
    inner = policy.get_distribution(observations).distribution
    return [in_float64(part) for part in (inner if isinstance(inner, list) else [inner])]


def in_float64(distribution: Distribution) -> Distribution:
    if isinstance(distribution, Normal):
        return Normal(distribution.loc.double(), distribution.scale.double())
    return type(distribution)(logits=distribution.logits.double())


def log_prob(parts: list[Distribution], actions: th.Tensor) -> th.Tensor:
    if isinstance(parts[0], (Normal, Bernoulli)):
        return parts[0].log_prob(actions).sum(dim=1)
    assert isinstance(parts[0], Categorical)
    columns = actions.reshape(len(actions), -1).unbind(dim=1)
    return sum((part.log_prob(column) for part, column in zip(parts, columns, strict=True)), th.zeros(len(actions)))
