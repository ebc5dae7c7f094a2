"""Nothing that is not finite reaches the parameters: the error names it, and the model stays whole."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from helpers import ARRAY_ENGINES, differing, mostly_slow, tensors_of
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_ppo_variants import AdaptiveClipPPO, ClipPPO, KLStopPPO, NonFiniteUpdateError, TrustRegionPPO
from sb3_ppo_variants.testing import BOX, DICT, DISCRETE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, SpaceEnv, make_env

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered")  # NumPy says so as well

N_STEPS = 32
SMALL: dict[str, Any] = {"n_steps": N_STEPS, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}
ENGINES = ["torch", *ARRAY_ENGINES]
ACTIONS = {"Box": BOX, "Discrete": DISCRETE, "MultiDiscrete": MULTI_DISCRETE, "MultiBinary": MULTI_BINARY}
BAD = [math.nan, math.inf, -math.inf]


class Poisoned(gym.Wrapper):
    """Returns a bad observation or reward at one step of its life."""

    def __init__(self, env: gym.Env, what: str, at: int, bad: float) -> None:
        super().__init__(env)
        self.what, self.at, self.bad, self.steps = what, at, bad, 0

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        self.steps += 1
        if self.steps == self.at and self.what == "observation":
            observation = self._spoilt(observation)
        if self.steps == self.at and self.what == "reward":
            reward = self.bad
        return observation, reward, *rest

    def _spoilt(self, observation: Any) -> Any:
        if isinstance(observation, dict):
            return observation | {"position": self._spoilt(observation["position"])}
        observation = observation.copy()
        observation[0] = self.bad
        return observation


def poisoned_env(what: str, at: int, bad: float, observations: Any = VECTOR, actions: Any = DISCRETE) -> VecEnv:
    return make_vec_env(lambda: Poisoned(SpaceEnv(observations, actions), what, at, bad), seed=0)


class PoisonBuffer(BaseCallback):
    """Spoils one entry of the rollout's second fill."""

    def __init__(self, array: str, bad: float) -> None:
        super().__init__()
        self.array, self.bad, self.rollouts = array, bad, 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.rollouts += 1
        if self.rollouts == 2:
            getattr(self.model.rollout_buffer, self.array)[5] = self.bad


class KeepUpdates(BaseCallback):
    """Keeps the model's tensors as they were before each rollout: what a refused one must leave."""

    def _on_rollout_start(self) -> None:
        self.before = tensors_of(self.model)

    def _on_step(self) -> bool:
        return True


def refused(model: Any, tensor: str, callback: list[BaseCallback] | None = None) -> NonFiniteUpdateError:
    """Learn until the refusal of the second rollout; assert that nothing of it reached the model."""
    keep = KeepUpdates()
    with pytest.raises(NonFiniteUpdateError) as caught:
        model.learn(3 * N_STEPS, callback=[keep, *(callback or [])])
    assert caught.value.tensor == tensor
    assert f"Non-finite {tensor} " in str(caught.value)
    assert model._n_updates == model.n_epochs, "the first rollout was good"
    assert differing(keep.before, tensors_of(model)) == []
    assert any(name.startswith("optimizer") for name in keep.before), "there were moments to spoil"
    return caught.value


def assert_whole(model: Any, path: Path, env: VecEnv) -> None:
    """Assert that a model saves, loads, predicts and learns on."""
    model.save(path / "model")
    loaded = type(model).load(path / "model", env=env, device="cpu")
    assert differing(tensors_of(model), tensors_of(loaded)) == []
    for one in (loaded, model):
        one.set_env(env)
        one.learn(N_STEPS)
        assert all(bool(th.isfinite(parameter).all()) for parameter in one.policy.parameters())


# Data -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("what", "bad"),
    mostly_slow(itertools.product(["observation", "reward"], BAD), [("observation", BAD[0]), ("reward", BAD[1])]),
)
def test_an_environments_bad_number_is_named_with_its_time(what: str, bad: float, engine: str, tmp_path: Path) -> None:
    model = ClipPPO("MlpPolicy", poisoned_env(what, N_STEPS + 9, bad), engine=engine, **SMALL)
    error = refused(model, what)
    assert any(f"after {steps} timesteps" in str(error) for steps in (N_STEPS + 9, 2 * N_STEPS)), str(error)
    assert "VecCheckNan" in str(error)
    if math.isnan(bad):
        assert_whole(model, tmp_path, make_env())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("actions", ACTIONS)
def test_a_bad_observation_is_named_for_every_action_space(actions: str, engine: str) -> None:
    model = ClipPPO(
        "MlpPolicy",
        poisoned_env("observation", N_STEPS + 9, math.nan, VECTOR, ACTIONS[actions]),
        engine=engine,
        **SMALL,
    )
    refused(model, "observation")


@pytest.mark.parametrize("cls", [AdaptiveClipPPO, KLStopPPO, TrustRegionPPO])
def test_every_variant_refuses_bad_data(cls: type[ClipPPO]) -> None:
    refused(cls("MlpPolicy", poisoned_env("reward", N_STEPS + 9, math.nan), **SMALL), "reward")


def test_a_bad_entry_of_a_dict_observation_is_an_observation() -> None:
    env = poisoned_env("observation", N_STEPS + 9, math.nan, DICT)
    refused(ClipPPO("MultiInputPolicy", env, **SMALL), "observation")


@pytest.mark.parametrize("policy_kwargs", [{}, {"activation_fn": "relu"}], ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_infinite_observation_is_named_whatever_the_network_makes_of_it(policy_kwargs: Any, engine: str) -> None:
    env = poisoned_env("observation", N_STEPS + 9, math.inf, VECTOR, BOX)
    refused(ClipPPO("MlpPolicy", env, policy_kwargs=policy_kwargs, engine=engine, **SMALL), "observation")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bad_last_observation_is_an_observation_too(engine: str) -> None:
    # It never enters the buffer: the critic's value of it spoils the advantages
    env = poisoned_env("observation", 2 * N_STEPS, math.nan)
    refused(ClipPPO("MlpPolicy", env, engine=engine, **SMALL), "observation")


def test_normalised_observations_and_rewards_are_watched_too() -> None:
    for what in ("observation", "reward"):
        env = VecNormalize(poisoned_env(what, N_STEPS + 9, math.nan))
        refused(ClipPPO("MlpPolicy", env, **SMALL), what)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("array", "tensor", "bad"),
    [
        *(("advantages", "advantage", bad) for bad in BAD),
        ("values", "value", math.nan),
        ("log_probs", "log-prob", math.inf),
        ("rewards", "reward", -math.inf),
    ],
)
def test_a_bad_entry_of_the_rollout_is_named(array: str, tensor: str, bad: float, engine: str, tmp_path: Path) -> None:
    model = ClipPPO("MlpPolicy", make_env(), engine=engine, **SMALL)
    error = refused(model, tensor, [PoisonBuffer(array, bad)])
    assert f"{2 * N_STEPS} timesteps" in str(error)
    if bad is math.inf:
        assert_whole(model, tmp_path, make_env())


# What arises in the update --------------------------------------------------------------------------------------------


def refused_in_update(model: Any, tensor: str, steps: int = N_STEPS) -> NonFiniteUpdateError:
    """Learn until the refusal; the parameters are finite."""
    with pytest.raises(NonFiniteUpdateError) as caught:
        model.learn(steps)
    assert caught.value.tensor == tensor
    assert all(bool(th.isfinite(tensor).all()) for tensor in tensors_of(model).values())
    return caught.value


@pytest.mark.parametrize(
    ("parameter", "bad"),
    mostly_slow(
        itertools.product(["action_net.weight", "value_net.bias", "mlp_extractor.policy_net.0.weight"], BAD),
        [("action_net.weight", BAD[0]), ("value_net.bias", BAD[1]), ("mlp_extractor.policy_net.0.weight", BAD[2])],
    ),
)
def test_a_bad_gradient_is_refused(parameter: str, bad: float, tmp_path: Path) -> None:
    model = ClipPPO("MlpPolicy", make_env(), **SMALL)
    model.learn(N_STEPS)
    before = tensors_of(model)
    hook = dict(model.policy.named_parameters())[parameter].register_hook(lambda gradient: gradient * 0 + bad)
    error = refused_in_update(model, "gradient")
    assert "epoch 0, minibatch 0" in str(error)
    assert differing(before, tensors_of(model)) == []
    hook.remove()
    assert_whole(model, tmp_path, make_env())


def test_earlier_minibatches_of_the_update_stay() -> None:
    model = ClipPPO("MlpPolicy", make_env(), **SMALL)
    calls: list[int] = []

    def third(gradient: th.Tensor) -> th.Tensor:
        calls.append(1)
        return gradient * math.nan if len(calls) == 3 else gradient

    model.policy.action_net.weight.register_hook(third)
    error = refused_in_update(model, "gradient")
    assert "epoch 1, minibatch 0" in str(error)
    assert {int(state["step"]) for state in model.policy.optimizer.state.values()} == {2}


def _nan_returns(model: Any) -> None:
    model.rollout_buffer.returns[:] = math.nan


def _huge_returns(model: Any) -> None:
    model.rollout_buffer.returns[:] = 3e38


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spoil", [_nan_returns, _huge_returns])
def test_a_bad_loss_is_refused(spoil: Callable[[Any], None], engine: str, tmp_path: Path) -> None:
    class Spoils(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            spoil(self.model)

    model = ClipPPO("MlpPolicy", make_env(), engine=engine, **SMALL)
    model.learn(N_STEPS)
    before = tensors_of(model)
    with pytest.raises(NonFiniteUpdateError, match="loss"):
        model.learn(N_STEPS, callback=Spoils())
    assert differing(before, tensors_of(model)) == []
    assert_whole(model, tmp_path, make_env())


def test_a_bad_surrogate_of_a_third_party_is_refused() -> None:
    class Bad(ClipPPO):
        def _surrogate(self, batch: Any) -> Any:
            return super()._surrogate(batch) * math.nan

    refused_in_update(Bad("MlpPolicy", make_env(), **SMALL), "loss")


def test_a_gradient_whose_norm_alone_overflows_is_harmless() -> None:
    # Gradient clipping scales it to zero, in SB3 as here
    class Steep(ClipPPO):
        def _value_loss(self, batch: Any) -> Any:
            return 1e30 * batch.values.mean()

    model = Steep("MlpPolicy", make_env(), **SMALL)
    model.learn(N_STEPS)
    assert all(bool(th.isfinite(tensor).all()) for tensor in tensors_of(model).values())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("actions", ACTIONS)
def test_a_diverged_policy_is_named_at_collection(actions: str, engine: str) -> None:
    model = ClipPPO("MlpPolicy", make_env(VECTOR, ACTIONS[actions]), engine=engine, **SMALL)
    for bad in (math.nan, math.inf):
        with th.no_grad():
            model.policy.action_net.bias[0] = bad
        with pytest.raises(NonFiniteUpdateError) as caught:
            model.learn(N_STEPS)
        assert caught.value.tensor == "log-prob"
        assert "learning rate" in str(caught.value)


def test_a_policy_that_diverges_within_an_update_is_named() -> None:
    model = ClipPPO("MlpPolicy", make_env(VECTOR, BOX), learning_rate=1e30, **(SMALL | {"n_epochs": 4}))
    with pytest.raises(NonFiniteUpdateError) as caught:
        model.learn(N_STEPS)
    assert caught.value.tensor in ("log-prob", "value", "loss")


def test_other_value_errors_are_not_hidden() -> None:
    class Raises(gym.Wrapper):
        def step(self, action: Any) -> Any:
            raise ValueError("the door is locked")

    env = make_vec_env(lambda: Raises(SpaceEnv(VECTOR, DISCRETE)))
    with pytest.raises(ValueError, match="the door is locked"):
        ClipPPO("MlpPolicy", env, **SMALL).learn(N_STEPS)


def test_integer_observations_are_always_finite() -> None:
    space = gym.spaces.Box(0, 9, (3,), dtype=np.int64)
    ClipPPO("MlpPolicy", make_env(space), **SMALL).learn(N_STEPS)


def test_the_error_is_an_arithmetic_error_with_its_parts() -> None:
    error = NonFiniteUpdateError("gradient", "in the update after 64 timesteps")
    assert isinstance(error, ArithmeticError)
    assert (error.tensor, error.where) == ("gradient", "in the update after 64 timesteps")
    assert "Usual cause" in str(error)


@pytest.mark.parametrize("own_critic", [{}, {"critic_epochs": 1}], ids=["with the actor", "on its own"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_value_loss_that_overflows_is_reported_by_every_engine(engine: str, own_critic: dict[str, Any]) -> None:
    """Its gradient is finite, and clipped to nothing: the critic would learn no more, without a word."""

    class Huge(SpaceEnv):
        def step(self, action: Any) -> Any:
            observation, _, *rest = super().step(action)
            return observation, 1e20, *rest

    env = make_vec_env(lambda: Huge(VECTOR, BOX), seed=0)
    model = ClipPPO("MlpPolicy", env, engine=engine, **(SMALL | own_critic))
    before = [parameter.detach().clone() for parameter in model.policy.value_net.parameters()]
    with pytest.raises(NonFiniteUpdateError, match="loss"):
        model.learn(N_STEPS)
    assert all(th.equal(a, b) for a, b in zip(before, model.policy.value_net.parameters(), strict=True))


# Beyond float32 -------------------------------------------------------------------------------------------------------

WIDE = gym.spaces.Box(-1.0, 1.0, (4,), np.float64)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("at", [5, N_STEPS])
def test_an_observation_beyond_float32_is_named(engine: str, at: int) -> None:
    model = ClipPPO("MlpPolicy", poisoned_env("observation", at, 1e300, WIDE), engine=engine, **SMALL)
    before = tensors_of(model)
    with pytest.raises(NonFiniteUpdateError, match=r"observation.*beyond float32.*scale it"):
        model.learn(N_STEPS)
    assert differing(before, tensors_of(model)) == []


def test_float64_observations_within_float32_are_fine() -> None:
    ClipPPO("MlpPolicy", poisoned_env("observation", 5, 3e38, WIDE), **SMALL).learn(N_STEPS)


@pytest.mark.parametrize("actions", [DISCRETE, MULTI_BINARY, BOX], ids=str)
@pytest.mark.parametrize("engine", ["torch", *ARRAY_ENGINES])
def test_numpy_set_to_raise_finds_no_error_where_a_probability_vanishes(engine: str, actions: Any) -> None:
    """SB3's guide to NaNs has users call ``np.seterr(all="raise")``; PyTorch's exp of -200 is 0 and no error."""
    activation = th.nn.Tanh if engine == "compiled" else th.nn.ELU
    kwargs = {"policy_kwargs": {"activation_fn": activation}, "learning_rate": 0.1}
    model = ClipPPO("MlpPolicy", make_env(VECTOR, actions), n_steps=32, batch_size=16, seed=1, engine=engine, **kwargs)
    with th.no_grad():
        model.policy.action_net.bias[0] += 200.0
        model.policy.mlp_extractor.policy_net[0].bias[0] -= 200.0
    with np.errstate(all="raise"):
        model.learn(96)
