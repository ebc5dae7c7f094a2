"""SB3's PPO and sb3-contrib's TRPO, their updates on arrays: those of the classes, up to rounding."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import ARRAY_ENGINES, BOX, DISCRETE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, LogRecorder, tensors_of
from sb3_contrib import TRPO
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize
from test_changed_objects import TO_PYTORCH, AtTheStart, Once
from test_non_finite import PoisonBuffer
from torch import nn

from sb3_ppo_variants import NonFiniteUpdateError
from sb3_ppo_variants.baselines import on_arrays
from sb3_ppo_variants.testing import make_env

pytestmark = [
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size"),  # the last one is to be shorter
    pytest.mark.filterwarnings("ignore:overflow encountered"),
]

BASELINES = (PPO, TRPO)
FAST = ARRAY_ENGINES[-1]
BUFFER = ("observations", "actions", "rewards", "episode_starts", "values", "log_probs", "advantages", "returns")
ACTOR = ("policy_net", "action_net", "log_std")


def make(cls: Any, env: Any = None, **chosen: Any) -> Any:
    """Make a model whose last minibatch is shorter than the others."""
    settings = {"n_steps": 16, "batch_size": 12, "seed": 3, "device": "cpu"}
    passes = {"n_critic_updates": 3} if issubclass(cls, TRPO) else {"n_epochs": 3}
    return cls("MlpPolicy", env or make_env(VECTOR, DISCRETE, n_envs=2), **(settings | passes | chosen))


def pair(cls: Any, **chosen: Any) -> tuple[Any, Any]:
    return make(on_arrays(cls), **chosen), make(cls, **chosen)


def assert_same(ours: Any, theirs: Any, rtol: float = 1e-4, atol: float = 2e-6) -> None:
    """Assert equal parameters, moments and numbers of steps, up to rounding."""
    for name, tensor in tensors_of(theirs).items():
        th.testing.assert_close(tensors_of(ours)[name], tensor, rtol=rtol, atol=atol, msg=name)
    assert tensors_of(ours).keys() == tensors_of(theirs).keys()
    groups = [model.policy.optimizer.state_dict()["param_groups"] for model in (ours, theirs)]
    assert groups[0] == groups[1]


def update_alone(model: Any, rollout: dict[str, np.ndarray], last_obs: np.ndarray) -> dict[str, Any]:
    """Update with a given rollout and given random numbers; return what is logged."""
    model._setup_learn(32)
    model.set_logger(Logger(None, []))
    buffer = model.rollout_buffer
    buffer.reset()
    for name, array in rollout.items():
        getattr(buffer, name)[...] = array
    buffer.pos, buffer.full = buffer.buffer_size, True
    model._last_obs = last_obs.copy()
    np.random.seed(8)
    th.manual_seed(8)
    model.train()
    model.random_states = (th.get_rng_state(), np.random.get_state()[1].tolist())
    return dict(model.logger.name_to_value)


def updated(cls: Any, **chosen: Any) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """Update with the same bits of a rollout; return both models and their logs."""
    collecting = make(cls, **chosen)
    _, callback = collecting._setup_learn(32)
    collecting.collect_rollouts(collecting.env, callback, collecting.rollout_buffer, 16)
    rollout = {name: getattr(collecting.rollout_buffer, name).copy() for name in BUFFER}
    ours, theirs = pair(cls, **chosen)
    return ours, theirs, *(update_alone(model, rollout, collecting._last_obs) for model in (ours, theirs))


# One update -----------------------------------------------------------------------------------------------------------

UPDATES: list[tuple[Any, Any, dict[str, Any]]] = [
    (TRPO, DISCRETE, {}),
    (TRPO, BOX, {"sub_sampling_factor": 3}),
    (TRPO, MULTI_BINARY, {"normalize_advantage": False, "batch_size": 1}),
    (TRPO, MULTI_DISCRETE, {"batch_size": np.int64(100)}),
    (PPO, BOX, {"ent_coef": 0.01, "clip_range_vf": 0.1}),
    (PPO, DISCRETE, {"target_kl": 1e-4, "learning_rate": 3e-3}),
]


@pytest.mark.parametrize(("cls", "actions", "settings"), UPDATES)
def test_an_update_is_that_of_the_class(cls: Any, actions: Any, settings: dict[str, Any]) -> None:
    ours, theirs, our_log, their_log = updated(cls, env=make_env(VECTOR, actions, n_envs=2), **settings)
    assert ours.engine_in_use == FAST
    assert_same(ours, theirs, rtol=2e-5, atol=1e-3 * ours.lr_schedule(1))  # a thousandth of one step of Adam
    for mine, other in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        assert (mine.grad is None) == (other.grad is None)
        if other.grad is not None:
            th.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-6)
    assert th.equal(ours.random_states[0], theirs.random_states[0])
    assert ours.random_states[1] == theirs.random_states[1]
    assert {key: our_log[key] for key in their_log} == pytest.approx(their_log, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("actions", [DISCRETE, BOX], ids=str)
def test_trpos_policy_step_has_the_bits_of_the_class(actions: Any) -> None:
    ours, theirs, our_log, their_log = updated(TRPO, env=make_env(VECTOR, actions, n_envs=2))
    names = [name for name in theirs.policy.state_dict() if any(part in name for part in ACTOR)]
    assert len(names) >= 6
    for name in names:
        assert th.equal(ours.policy.state_dict()[name], theirs.policy.state_dict()[name]), name
    assert list(our_log) == list(their_log)
    apart = "train/value_loss"
    assert {**our_log, apart: 0} == {**their_log, apart: 0}
    assert ours.policy.optimizer.state.keys() <= {*ours.policy.parameters()}
    assert len(ours.policy.optimizer.state) == len(theirs.policy.optimizer.state) == 6, "the critic's alone"


def test_trpos_update_on_arrays_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        make(on_arrays(TRPO)).learn(64)


# Several updates ------------------------------------------------------------------------------------------------------


def logged(model: Any, steps: int, **keywords: Any) -> list[dict[str, Any]]:
    recorder = LogRecorder()
    model.set_logger(Logger(None, [recorder]))
    model.learn(steps, **keywords)
    return [*recorder.dumps, dict(model.logger.name_to_value)]


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (TRPO, {"sub_sampling_factor": 2}),
        (TRPO, {"normalize_advantage": False}),
        (PPO, {"clip_range": LinearSchedule(0.3, 0.1, 1.0)}),
    ],
)
def test_updates_with_schedules_normalised_rewards_and_time_limits_are_those_of_the_class(
    cls: Any, settings: dict[str, Any]
) -> None:
    rate, models, logs = LinearSchedule(3e-3, 0.0, 1.0), [], []
    for kind in (on_arrays(cls), cls):
        env = VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=1), gamma=0.9)
        models.append(make(kind, env, n_steps=105, gamma=0.9, learning_rate=rate, **settings))
        logs.append(logged(models[-1], 3 * 210))
    ours, theirs = models
    assert ours.engine_in_use == FAST
    assert_same(ours, theirs, rtol=1e-3, atol=1e-4)
    assert len(logs[0]) == len(logs[1])
    for mine, other in zip(*logs, strict=True):
        shared = {key: value for key, value in other.items() if not key.startswith("time/")}
        assert {key: mine[key] for key in shared} == pytest.approx(shared, rel=2e-2, abs=1e-3)
    assert logs[0][-1]["train/learning_rate"] == logs[1][-1]["train/learning_rate"] < 2e-3


# Saved and loaded -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", BASELINES)
@pytest.mark.parametrize("by_the_class", [False, True])
def test_a_loaded_model_goes_on_as_the_one_that_was_saved(cls: Any, by_the_class: bool, tmp_path: Path) -> None:
    model = make(on_arrays(cls)).learn(64)
    model.save(tmp_path / "model")
    kind = cls if by_the_class else on_arrays(cls)
    loaded = kind.load(tmp_path / "model", device="cpu")
    for one in (model, loaded):
        one.set_env(make_env(VECTOR, DISCRETE, n_envs=2))
        one.set_random_seed(5)
        one.learn(64, reset_num_timesteps=False)
    if by_the_class:
        assert_same(model, loaded)
    else:
        assert_same(model, loaded, rtol=0, atol=0)


@pytest.mark.parametrize("cls", BASELINES)
def test_parameters_and_moments_that_are_set_count_from_the_next_update(cls: Any) -> None:
    source = make(cls, seed=9).learn(64)
    models = pair(cls)
    for model in models:
        model.set_random_seed(4)
        model.learn(32)
        model.set_parameters(source.get_parameters())
        model.learn(64, reset_num_timesteps=False)
    assert_same(*models)


# Models that did not stay as they were made ---------------------------------------------------------------------------


def changed(cls: Any, change: Callable[[Any], Any], when: type[Once] = AtTheStart) -> Any:
    """Train, and change something as the third rollout begins, or within it."""
    model = make(cls).learn(32)
    return model.learn(96, reset_num_timesteps=False, callback=when(change))


@pytest.mark.parametrize("name", ["one trunk", "forward of the extractor", "a hook of the optimizer"])
def test_a_trpo_of_which_a_part_is_unknown_is_left_to_the_class(name: str) -> None:
    change, _ = TO_PYTORCH[name]
    ours, theirs = (changed(cls, change) for cls in (on_arrays(TRPO), TRPO))
    assert ours.engine_in_use == "torch"
    assert_same(ours, theirs)


def _hook(model: Any) -> None:
    model.policy.value_net.register_forward_hook(lambda _module, _inputs, output: 0.5 * output)


def _targets_changed(model: Any) -> None:
    get = model.rollout_buffer.get
    model.rollout_buffer.get = lambda batch_size: (
        batch._replace(returns=0 * batch.returns) for batch in get(batch_size)
    )


def _predict_values(model: Any) -> None:
    theirs = type(model.policy).predict_values
    model.policy.predict_values = lambda observations: 0.5 * theirs(model.policy, observations)


def _decay(model: Any) -> None:
    model.policy.optimizer.param_groups[0]["weight_decay"] = 0.3


def _other_optimizer(model: Any) -> None:
    model.policy.optimizer = th.optim.RMSprop(model.policy.parameters(), lr=1e-3)


def _critics_optimizer(model: Any) -> None:
    model.policy.optimizer = th.optim.Adam(model.policy.value_net.parameters(), lr=1e-3)


@pytest.mark.parametrize(
    "change", [_hook, _targets_changed, _predict_values, _decay, _other_optimizer, _critics_optimizer]
)
def test_what_a_callback_puts_on_a_trpo_acts_as_on_the_class(change: Callable[[Any], None]) -> None:
    ours, theirs = (changed(cls, change) for cls in (on_arrays(TRPO), TRPO))
    assert ours.engine_in_use == "torch"
    assert_same(ours, theirs)


def _adams_numbers(model: Any) -> None:
    model.policy.optimizer.param_groups[0].update(betas=(0.5, 0.8), eps=1e-2)


def _new_adam(model: Any) -> None:
    model.policy.optimizer = th.optim.Adam(model.policy.parameters(), lr=1e-3, betas=(0.8, 0.9))


def _new_policy(model: Any) -> None:
    model.policy = model.policy_class(model.observation_space, model.action_space, model.lr_schedule)


def _other_activation(model: Any) -> None:
    model.policy.mlp_extractor.value_net[1] = nn.ReLU()


def _shrunk(model: Any) -> None:
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.mul_(0.3)


def _passes(model: Any) -> None:
    if isinstance(model, TRPO):
        model.n_critic_updates, model.batch_size = 7, 8
    else:
        model.n_epochs, model.batch_size = 7, 8


@pytest.mark.parametrize(
    ("change", "when"),
    [
        (_adams_numbers, Once),
        (_new_adam, Once),
        (_new_policy, Once),
        (_shrunk, Once),
        (_passes, Once),
        (_other_activation, AtTheStart),
    ],
)
@pytest.mark.parametrize("cls", BASELINES)
def test_what_arrays_know_of_a_change_acts_on_a_baseline(
    cls: Any, change: Callable[[Any], None], when: type[Once]
) -> None:
    ours, theirs = (changed(kind, change, when) for kind in (on_arrays(cls), cls))
    assert ours.engine_in_use == FAST
    assert_same(ours, theirs)


class OwnBuffer(RolloutBuffer):
    """Might compute anything."""


@pytest.mark.parametrize("cls", BASELINES)
@pytest.mark.parametrize(
    "settings", [{"policy_kwargs": {"optimizer_class": th.optim.RMSprop}}, {"rollout_buffer_class": OwnBuffer}]
)
def test_a_baseline_that_arrays_do_not_know_has_the_bits_of_the_class(cls: Any, settings: dict[str, Any]) -> None:
    models = [make(kind, **settings) for kind in (on_arrays(cls), cls)]
    logs = []
    for model in models:
        model.set_random_seed(4)
        logs.append({key: value for key, value in logged(model, 64)[-1].items() if not key.startswith("time/")})
    assert models[0].engine_in_use == "torch"
    assert_same(*models, rtol=0, atol=0)
    assert logs[0] == logs[1]


def test_no_pass_of_the_critic_is_left_to_the_class() -> None:
    with pytest.warns(RuntimeWarning, match="Mean of empty slice"):
        ours, theirs = (make(kind, n_critic_updates=0).learn(64) for kind in (on_arrays(TRPO), TRPO))
    assert ours.engine_in_use == "torch"
    assert_same(ours, theirs, rtol=0, atol=0)
    assert np.isnan(ours.logger.name_to_value["train/value_loss"])


@pytest.mark.parametrize(("name", "count"), [("batch_size", 12.0), ("n_critic_updates", 2.0)])
def test_a_count_that_is_none_meets_the_classs_error(name: str, count: Any) -> None:
    messages = []
    for kind in (on_arrays(TRPO), TRPO):
        model = make(kind)
        setattr(model, name, count)
        with pytest.raises(TypeError) as caught:
            model.learn(64)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_part_of_trpos_policy_step_that_was_replaced_is_called() -> None:
    def damped(model: Any) -> None:
        theirs = type(model).hessian_vector_product
        model.hessian_vector_product = lambda *arguments, **keywords: 2 * theirs(model, *arguments, **keywords)

    ours, theirs = (changed(cls, damped) for cls in (on_arrays(TRPO), TRPO))
    assert_same(ours, theirs)
    assert ours.n_critic_updates == 3


# What is not finite ---------------------------------------------------------------------------------------------------


class _Keep(BaseCallback):
    def _on_step(self) -> bool:
        self.before = tensors_of(self.model)
        return True


@pytest.mark.parametrize("cls", BASELINES)
@pytest.mark.parametrize(("array", "name"), [("advantages", "advantage"), ("rewards", "reward")])
def test_a_rollout_that_is_not_finite_is_named_and_reaches_no_parameter(cls: Any, array: str, name: str) -> None:
    model, keep = make(on_arrays(cls)), _Keep()
    with pytest.raises(NonFiniteUpdateError) as caught:
        model.learn(96, callback=[keep, PoisonBuffer(array, np.nan)])
    assert caught.value.tensor == name
    for before, after in zip(keep.before.values(), tensors_of(model).values(), strict=True):
        assert th.equal(before, after)


def test_a_critic_that_overflows_is_named_before_its_parameters_do() -> None:
    class Huge(Once):
        def _on_rollout_end(self) -> None:
            self.model.rollout_buffer.returns[3] = 3e38

    model = make(on_arrays(TRPO)).learn(64)
    with pytest.raises(NonFiniteUpdateError, match="loss"):
        model.learn(64, reset_num_timesteps=False, callback=Huge(lambda _: None))
    assert all(bool(th.isfinite(tensor).all()) for tensor in tensors_of(model).values())
    assert model.n_critic_updates == 3


def test_an_interrupted_policy_step_leaves_the_number_of_passes() -> None:
    model = make(on_arrays(TRPO))

    def broken(*_: Any) -> None:
        raise KeyboardInterrupt

    model.hessian_vector_product = broken
    with pytest.raises(KeyboardInterrupt):
        model.learn(64)
    assert model.n_critic_updates == 3
