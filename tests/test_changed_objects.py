"""Objects that did not stay as their constructors made them: what the array engines do not know goes to PyTorch."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import ARRAY_ENGINES, differing, mostly_slow, tensors_of
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from sb3_ppo_variants import ClipPPO
from sb3_ppo_variants.baselines import on_arrays
from sb3_ppo_variants.testing import BOX, DISCRETE, VECTOR, make_env

FAST = ARRAY_ENGINES[-1]


def make(cls: Any = ClipPPO, actions: spaces.Space[Any] = DISCRETE, **chosen: Any) -> Any:
    settings = {"n_steps": 16, "batch_size": 8, "n_epochs": 2, "seed": 3, "device": "cpu"}
    return cls("MlpPolicy", make_env(VECTOR, actions, n_envs=2), **(settings | chosen))


def assert_same(ours: Any, theirs: Any) -> None:
    """Assert equal parameters and an equal next draw, up to rounding."""
    for name, tensor in theirs.policy.state_dict().items():
        th.testing.assert_close(ours.policy.state_dict()[name], tensor, rtol=1e-4, atol=2e-6, msg=name)


def changed(change: Callable[[Any], Any], callback: type["Once"] | None = None, **chosen: Any) -> Any:
    """Train, change something, and train on."""
    model = make(**chosen).learn(32)
    if callback is None:
        change(model)
    return model.learn(64, reset_num_timesteps=False, callback=None if callback is None else callback(change))


# What sends a model to PyTorch ----------------------------------------------------------------------------------------


def _bounded_mean(model: Any) -> None:
    model.policy.action_net = nn.Sequential(model.policy.action_net, nn.Tanh())


def _bounded_value(model: Any) -> None:
    model.policy.value_net = nn.Sequential(model.policy.value_net, nn.Tanh())


def _parametrised(model: Any) -> None:
    nn.utils.parametrizations.orthogonal(model.policy.value_net)


def _forward_of(layer: Callable[[Any], nn.Module]) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        forward = layer(model.policy).forward
        layer(model.policy).forward = lambda x: 0.5 * forward(x)  # type: ignore[method-assign]

    return change


def _critics_own_extractor(model: Any) -> None:
    class Halving(type(model.policy.features_extractor)):  # type: ignore[misc]
        def forward(self, observations: th.Tensor) -> th.Tensor:
            return 0.5 * super().forward(observations)

    model.policy.share_features_extractor = False
    model.policy.vf_features_extractor = Halving(model.observation_space)


def _one_trunk(model: Any) -> None:
    networks = model.policy.mlp_extractor
    networks.value_net = networks.policy_net
    model.policy.optimizer = th.optim.Adam(model.policy.parameters(), lr=1e-3)


def _tied_weights(model: Any) -> None:
    networks = model.policy.mlp_extractor
    networks.value_net[0].weight = networks.policy_net[0].weight
    model.policy.optimizer = th.optim.Adam(model.policy.parameters(), lr=1e-3)


def _one_parameter_more(model: Any) -> None:
    model.policy.temperature = nn.Parameter(th.ones(1))
    model.policy.optimizer = th.optim.Adam(model.policy.parameters(), lr=1e-3)


def _fixed_deviation(model: Any) -> None:
    del model.policy.log_std
    model.policy.log_std = th.full((2,), -0.7)
    model.policy.optimizer = th.optim.Adam(model.policy.parameters(), lr=1e-3)


def _shared_memory(model: Any) -> None:
    model.policy.share_memory()


def _log_prob_replaced(model: Any) -> None:
    distribution = model.policy.action_dist
    theirs = type(distribution).log_prob
    distribution.log_prob = lambda actions: 0.5 * theirs(distribution, actions)


def _rewards_doubled(model: Any) -> None:
    add = model.rollout_buffer.add
    model.rollout_buffer.add = lambda obs, action, reward, *rest: add(obs, action, 2 * reward, *rest)


def _advantages_halved(model: Any) -> None:
    buffer = model.rollout_buffer
    compute = buffer.compute_returns_and_advantage

    def halved(*arguments: Any, **keywords: Any) -> None:
        compute(*arguments, **keywords)
        buffer.returns *= 0.5

    buffer.compute_returns_and_advantage = halved


def _minibatches_changed(model: Any) -> None:
    get = model.rollout_buffer.get
    model.rollout_buffer.get = lambda size: (batch._replace(returns=0 * batch.returns) for batch in get(size))


def _decay_after_each_step(model: Any) -> None:
    def decay(*_: Any) -> None:
        with th.no_grad():
            for parameter in model.policy.parameters():
                parameter.mul_(0.99)

    model.policy.optimizer.register_step_post_hook(decay)


def _scheduler(model: Any) -> None:
    model.scheduler = th.optim.lr_scheduler.StepLR(model.policy.optimizer, 1)


def _own_objective(model: Any) -> None:
    model._surrogate = lambda batch: 0.1 * batch.ratio * batch.advantages


TO_PYTORCH: dict[str, tuple[Callable[[Any], None], str]] = {
    "a bounded mean": (_bounded_mean, "Sequential"),
    "a bounded value": (_bounded_value, "Sequential"),
    "a parametrisation": (_parametrised, "ParametrizedLinear"),
    "forward of a layer": (_forward_of(lambda policy: policy.action_net), "forward of a Linear"),
    "forward of the extractor": (_forward_of(lambda policy: policy.features_extractor), "forward of a Flatten"),
    "an extractor of the critic's": (_critics_own_extractor, "Halving"),
    "one trunk": (_one_trunk, "share parameters"),
    "tied weights": (_tied_weights, "share parameters"),
    "one parameter more": (_one_parameter_more, "beside those"),
    "shared memory": (_shared_memory, "processes share"),
    "log_prob of the distribution": (_log_prob_replaced, "log_prob of the action distribution"),
    "add of the buffer": (_rewards_doubled, "method of the rollout buffer"),
    "returns of the buffer": (_advantages_halved, "method of the rollout buffer"),
    "get of the buffer": (_minibatches_changed, "method of the rollout buffer"),
    "a hook of the optimizer": (_decay_after_each_step, "watched"),
    "a scheduler": (_scheduler, "watched"),
    "the model's objective": (_own_objective, "_surrogate of the model"),
}


@pytest.mark.parametrize("name", TO_PYTORCH)
def test_what_arrays_do_not_know_of_a_changed_object_runs_in_pytorch(name: str) -> None:
    change, reason = TO_PYTORCH[name]
    ours = changed(change)
    assert ours.engine_in_use == "torch"
    ours.engine = "numpy"
    with pytest.raises(ValueError, match=reason):
        ours.learn(32)


@pytest.mark.parametrize(
    "name", mostly_slow(TO_PYTORCH, ["a bounded mean", "one trunk", "add of the buffer", "a hook of the optimizer"])
)
def test_a_changed_object_is_trained_as_pytorch_alone_would(name: str) -> None:
    change, _ = TO_PYTORCH[name]
    assert_same(changed(change), changed(change, engine="torch"))


@pytest.mark.parametrize("name", ["add of the buffer", "get of the buffer", "log_prob of the distribution"])
def test_a_method_put_on_an_object_is_called_as_sb3_calls_it(name: str) -> None:
    change, _ = TO_PYTORCH[name]
    theirs = changed(change, cls=PPO)
    assert differing(tensors_of(changed(change, engine="torch")), tensors_of(theirs)) == []


def test_a_deviation_that_is_no_parameter_runs_in_pytorch() -> None:
    ours = changed(_fixed_deviation, actions=BOX)
    assert ours.engine_in_use == "torch"


# What array engines notice --------------------------------------------------------------------------------------------


def _other_activation(model: Any) -> None:
    model.policy.mlp_extractor.policy_net[1] = nn.ReLU()


def _other_network(model: Any) -> None:
    networks = model.policy.mlp_extractor
    networks.value_net = nn.Sequential(networks.value_net[0], nn.ReLU(), networks.value_net[2], nn.ReLU())


def _single_samples(model: Any) -> None:
    model.batch_size = 1


def _numpy_sizes(model: Any) -> None:
    model.batch_size, model.n_epochs = np.int64(8), np.int32(3)


def _vector(model: Any) -> None:
    model.policy.load_from_vector(0.3 * model.policy.parameters_to_vector())


def _new_policy(model: Any) -> None:
    model.policy = model.policy_class(model.observation_space, model.action_space, model.lr_schedule)


def _another_model_trains(model: Any) -> None:
    """Both use the policy: the memory of the one is then that of the other."""
    other = make(engine=model.engine)
    other.policy = model.policy
    other.learn(32)


NOTICED = (_other_activation, _other_network, _single_samples, _numpy_sizes, _vector, _new_policy)


@pytest.mark.parametrize("change", NOTICED)
def test_what_arrays_know_of_a_changed_object_acts_from_the_next_learn_on(change: Callable[[Any], None]) -> None:
    ours = changed(change)
    assert ours.engine_in_use == FAST
    assert_same(ours, changed(change, engine="torch"))


def test_another_slope_of_an_activation_acts_from_the_next_learn_on() -> None:
    def steeper(model: Any) -> None:
        model.policy.mlp_extractor.policy_net[1].negative_slope = 0.5

    kwargs = {"policy_kwargs": {"activation_fn": nn.LeakyReLU}}
    ours = changed(steeper, **kwargs)
    assert ours.engine_in_use == "numpy"
    assert_same(ours, changed(steeper, engine="torch", **kwargs))


class Once(BaseCallback):
    """Changes something at its tenth step."""

    def __init__(self, change: Callable[[Any], None]) -> None:
        super().__init__()
        self.change = change

    def _on_step(self) -> bool:
        if self.n_calls == 10:
            self.change(self.model)
        return True


class AtTheStart(Once):
    """Changes something as the second rollout begins."""

    rollouts = 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self.rollouts += 1
        if self.rollouts == 2:
            self.change(self.model)


@pytest.mark.parametrize("change", [_vector, _new_policy, _another_model_trains])
def test_a_policy_exchanged_within_a_rollout_acts_on_the_next_step(change: Callable[[Any], None]) -> None:
    ours = changed(change, Once)
    assert ours.engine_in_use == FAST
    assert_same(ours, changed(change, Once, engine="torch"))


@pytest.mark.parametrize("change", [_other_activation, _bounded_mean, _forward_of(lambda policy: policy.value_net)])
def test_layers_exchanged_as_a_rollout_begins_act_on_it(change: Callable[[Any], None]) -> None:
    assert_same(changed(change, AtTheStart), changed(change, AtTheStart, engine="torch"))


def test_noise_with_memory_goes_on_under_a_new_policy() -> None:
    ours = changed(_new_policy, Once, actions=BOX, exploration_noise_color=1.0)
    assert ours.exploration_noise.position == ours.num_timesteps / ours.n_envs


def test_rates_that_are_tensors_are_taken_as_sb3_takes_them() -> None:
    kwargs = {"policy_kwargs": {"optimizer_kwargs": {"betas": (th.tensor(0.8), th.tensor(0.99))}}}
    theirs = make(PPO, **kwargs).learn(64)
    assert differing(tensors_of(make(engine="torch", **kwargs).learn(64)), tensors_of(theirs)) == []
    assert_same(make(**kwargs).learn(64), theirs)


class Soft(ClipPPO):
    """Has a hook without a slope beside it: it is differentiated by PyTorch."""

    def _surrogate(self, batch: Any) -> th.Tensor:
        return th.tanh(batch.ratio * batch.advantages)


@pytest.mark.parametrize("mode", [th.no_grad, th.inference_mode])
def test_modes_of_pytorch_around_a_model_change_nothing_and_leave_nothing(mode: Any) -> None:
    with mode():
        ours = make(Soft, engine="torch")
        ours.engine = "auto"
        assert ours.engine_in_use == FAST
        ours.learn(32)
    expected = make(Soft).learn(32)
    assert differing(tensors_of(ours), tensors_of(expected)) == []
    if mode is th.no_grad:  # PyTorch trains no parameter that was made in inference mode
        ours.engine = "torch"
        ours.learn(32, reset_num_timesteps=False)


def test_an_engine_that_is_made_in_inference_mode_leaves_parameters_that_pytorch_can_train() -> None:
    model = make(engine="torch").learn(32)
    with th.inference_mode():
        model.engine = "auto"
        model.learn(32, reset_num_timesteps=False)
    model.engine = "torch"
    model.learn(32, reset_num_timesteps=False)


# Copies ---------------------------------------------------------------------------------------------------------------


def _through_pickle(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))  # noqa: S301 -- what was just written


def _through_cloudpickle(model: Any) -> Any:
    return cloudpickle.loads(cloudpickle.dumps(model))


# SB3's own policy cannot be copied once it was trained
MODELS = {"variant": lambda: make().learn(32), "baseline": lambda: make(on_arrays(PPO))}


@pytest.mark.parametrize(
    ("name", "copied"),
    [
        ("variant", copy.deepcopy),
        ("variant", _through_pickle),
        ("variant", _through_cloudpickle),
        ("baseline", copy.deepcopy),
    ],
)
def test_a_copy_of_a_model_trains_on_its_own_as_the_model_would(name: str, copied: Callable[[Any], Any]) -> None:
    model = MODELS[name]()
    assert model.engine_in_use == FAST
    twin = copied(model)
    before = tensors_of(model)
    state, numpy_state = th.get_rng_state(), np.random.get_state()
    twin.learn(64, reset_num_timesteps=False)
    assert differing(tensors_of(model), before) == [], "the copy has memory of its own"
    th.set_rng_state(state)
    np.random.set_state(numpy_state)
    model.learn(64, reset_num_timesteps=False)
    assert differing(tensors_of(model), tensors_of(twin)) == []
    assert twin.engine_in_use == model.engine_in_use == FAST


# SB3's and sb3-contrib's own algorithms -------------------------------------------------------------------------------


def test_a_baselines_policy_that_changed_is_left_to_its_class() -> None:
    ours = changed(_bounded_mean, cls=on_arrays(PPO))
    assert ours.engine_in_use == "torch"
    assert_same(ours, changed(_bounded_mean, cls=PPO))


def test_a_callback_that_writes_parameters_acts_on_a_baselines_next_step() -> None:
    def shrink(model: Any) -> None:
        with th.no_grad():
            for parameter in model.policy.parameters():
                parameter.mul_(0.3)

    ours = changed(shrink, Once, cls=on_arrays(PPO))
    assert_same(ours, changed(shrink, Once, cls=PPO))
