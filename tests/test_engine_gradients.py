"""Gradients of the engines on arrays against PyTorch's autograd: of NumPy's in float64, of the compiled in float32."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import ARRAY_ENGINES, mostly_slow
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from sb3_ppo_variants import ClipPPO, TrulyPPO
from sb3_ppo_variants.engines.array_engine import ArrayEngine
from sb3_ppo_variants.engines.kernels.activations import activation_of
from sb3_ppo_variants.engines.kernels.layout import Shared
from sb3_ppo_variants.registry import VARIANTS
from sb3_ppo_variants.training.update_loop import UpdateLoop
from sb3_ppo_variants.update_parts.snapshot import PolicySnapshot

SPACES: dict[str, spaces.Space[Any]] = {
    "Discrete": spaces.Discrete(5),
    "Box": spaces.Box(-2, 2, (3,), np.float32),
    "MultiDiscrete": spaces.MultiDiscrete([3, 2, 4]),
    "MultiBinary": spaces.MultiBinary(3),
}
ACTIVATIONS = {"tanh": nn.Tanh(), "relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(), "elu": nn.ELU(), "silu": nn.SiLU()}
COMPILED_ACTIVATIONS = ("tanh", "relu")
N_STEPS = 48


def make_env(action_space: spaces.Space[Any]) -> DummyVecEnv:
    env = FakeImageEnv(screen_height=1, screen_width=1, n_channels=1)
    env.observation_space = spaces.Box(-3, 3, (4,), np.float32)
    env.action_space = action_space
    return DummyVecEnv([lambda: env])


@pytest.fixture(autouse=True)
def _keep_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """SB3 casts observations to float32; both sides must read the same numbers."""

    def extract(self: Any, obs: th.Tensor, extractor: Any = None) -> th.Tensor:
        return obs.to(self.action_net.weight.dtype).flatten(1)

    monkeypatch.setattr("stable_baselines3.common.policies.ActorCriticPolicy.extract_features", extract)


@pytest.fixture(params=ARRAY_ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


def make_model(cls: type[UpdateLoop], action_space: spaces.Space[Any], engine: str, **kwargs: Any) -> UpdateLoop:
    """Build a model whose buffer holds a random rollout, and move it off the policy that collected it."""
    model = cls("MlpPolicy", make_env(action_space), n_steps=N_STEPS, batch_size=N_STEPS, seed=3, **kwargs)
    if engine == "numpy":
        model.policy.double()
    model.engine = engine
    model.max_grad_norm = 1e9
    rng = np.random.default_rng(5)
    buffer = model.rollout_buffer
    observations = rng.normal(size=buffer.observations.shape)
    with th.no_grad():
        actions, values, log_probs = model.policy(th.as_tensor(observations[:, 0]))
    buffer.observations[...] = observations
    buffer.actions[...] = actions.reshape(buffer.actions.shape).numpy()
    buffer.values[...] = values.numpy()
    buffer.log_probs[...] = log_probs[:, None].numpy()
    buffer.advantages[...] = rng.normal(size=buffer.advantages.shape)
    buffer.returns[...] = buffer.values + 0.5 * rng.normal(size=buffer.returns.shape)
    buffer.full = True
    return model


def gradients_of_engine(model: UpdateLoop, indices: np.ndarray) -> dict[str, np.ndarray]:
    engine = model._choose_engine()
    assert isinstance(engine, ArrayEngine)
    kernels = engine.kernels
    assert engine.name == model.engine
    model._update = update = engine.begin_update(PolicySnapshot(model.policy))
    perturb(model)
    update.start_epoch(0, indices)
    model.policy.optimizer.param_groups[0]["lr"] = 0.0
    th.manual_seed(11)
    update.evaluate(slice(0, len(indices)))
    update.step()
    groups = [(kernels.actor_group, p) for p in kernels.actor_group.parameters]
    groups += [(kernels.critic_group, p) for p in kernels.critic_group.parameters]
    names = {id(parameter): name for name, parameter in model.policy.named_parameters()}
    return {names[id(parameter)]: group.gradient(parameter).copy() for group, parameter in groups}


def gradients_of_autograd(model: UpdateLoop, indices: np.ndarray) -> dict[str, np.ndarray]:
    samples = model.rollout_buffer._get_samples(indices)
    dtype = model.policy.action_net.weight.dtype
    samples = RolloutBufferSamples(*(tensor.to(dtype) for tensor in samples))
    th.manual_seed(11)
    model.policy.optimizer.zero_grad()
    model._losses(model._minibatch(samples)).total.backward()  # type: ignore[no-untyped-call]
    return {
        name: np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.numpy()
        for name, parameter in model.policy.named_parameters()
    }


def perturb(model: UpdateLoop) -> None:
    """Move the policy so that ratios spread over both sides of every kink, and values past their clip range."""
    generator = th.Generator().manual_seed(7)
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(th.randn(parameter.shape, generator=generator, dtype=parameter.dtype), alpha=0.15)


def assert_equal_gradients(model: UpdateLoop, indices: np.ndarray) -> None:
    engine, autograd = gradients_of_engine(model, indices), gradients_of_autograd(model, indices)
    assert engine.keys() == autograd.keys()
    for name, expected in autograd.items():
        scale, bound = (1e-12, 1e-9) if expected.dtype == np.float64 else (1e-3, 2e-5)
        scale = max(float(np.linalg.norm(expected)), scale)
        assert float(np.linalg.norm(engine[name] - expected)) / scale < bound, name
    assert any(np.any(gradient) for gradient in autograd.values())


# Each variant with continuous actions and, in turn, with one of the other spaces, and the KL of every distribution; the
# rest with the slow tests
_ALWAYS = {(name, space) for number, name in enumerate(VARIANTS) for space in ("Box", list(SPACES)[number % 4])}
_ALWAYS |= {("kl_penalty_ppo", space) for space in SPACES}


@pytest.mark.parametrize(("algorithm_id", "space"), mostly_slow(itertools.product(VARIANTS, SPACES), _ALWAYS))
def test_gradients_of_every_variant_and_head(algorithm_id: str, space: str, engine: str) -> None:
    """With an activation that is told from the output (tanh) and with one that is not, where the engine has such."""
    cls = VARIANTS[algorithm_id].cls
    if algorithm_id == "rpo" and space != "Box":
        with pytest.raises(ValueError, match="ClipPPO"):
            make_model(cls, SPACES[space], engine)
        return
    for activation in ("tanh", "silu") if engine == "numpy" else COMPILED_ACTIVATIONS:
        kwargs = {"activation_fn": activation, "net_arch": {"pi": [9, 8], "vf": [7]}}
        model = make_model(cls, SPACES[space], ent_coef=0.013, vf_coef=0.7, engine=engine, policy_kwargs=kwargs)
        assert_equal_gradients(model, np.random.default_rng(1).permutation(N_STEPS))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("net_arch", [{"pi": [7], "vf": [6, 5, 4]}, {"pi": [], "vf": [8]}, [16, 16], []])
def test_gradients_of_every_shape(activation: str, net_arch: Any, engine: str) -> None:
    kwargs = {"activation_fn": activation, "net_arch": net_arch}
    model = make_model(ClipPPO, SPACES["Box"], policy_kwargs=kwargs, engine=engine)
    if net_arch and engine == "compiled" and activation not in COMPILED_ACTIVATIONS:
        with pytest.raises(ValueError, match=type(ACTIVATIONS[activation]).__name__):
            model._choose_engine()
        return
    assert_equal_gradients(model, np.arange(N_STEPS))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_beside_their_kink_and_far_away(activation: str) -> None:
    module = ACTIVATIONS[activation]
    points = np.array([-800.0, -20.0, -1e-3, -1e-9, 0.0, 1e-9, 1e-3, 20.0, 800.0])
    leaf = th.tensor(points, requires_grad=True)
    expected = module(leaf)
    expected.sum().backward()
    ours = activation_of(module)
    assert ours is not None
    z, h, exact, slope = Shared(points.copy()), Shared(np.empty(9)), Shared(np.empty(9)), np.ones(9)
    ours.forward(z, h)
    ours.exact(z, exact)
    ours.backward(slope, z.array, h.array)
    np.testing.assert_allclose(h.array, expected.detach(), rtol=1e-12)
    assert np.array_equal(exact.array, expected.detach())
    np.testing.assert_allclose(slope, leaf.grad, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(
    "options",
    [
        {"clip_range_vf": 0.1},
        {"clip_range_vf": 0.1, "value_clip": "max"},
        {"clip_range_high": 0.3, "dual_clip": 1.5},
        {"normalize_advantage": False},
    ],
)
def test_gradients_of_every_option(options: dict[str, Any], engine: str) -> None:
    model = make_model(ClipPPO, SPACES["Discrete"], engine=engine, **options)
    assert_equal_gradients(model, np.arange(N_STEPS))


@pytest.mark.parametrize("trigger", ["kl", "ratio"])
def test_gradients_of_both_triggers(trigger: Any, engine: str) -> None:
    model = make_model(TrulyPPO, SPACES["Box"], trigger=trigger, engine=engine)
    assert_equal_gradients(model, np.arange(N_STEPS))


@pytest.mark.parametrize("algorithm_id", [name for name in VARIANTS if name != "rpo"])  # which blurs the ratio
def test_gradients_beside_the_kinks_of_the_surrogate(algorithm_id: str, engine: str) -> None:
    """At r = 1, and at the bounds of the clip; on both sides of each."""
    ratios = np.array([kink + side for kink in (0.8, 1.0, 1.2) for side in (-1e-4, 1e-4)])
    cls = VARIANTS[algorithm_id].cls
    model, twin = (make_model(cls, SPACES["Discrete"], engine=engine) for _ in range(2))
    perturb(twin)
    buffer = model.rollout_buffer
    with th.no_grad():
        actions = th.as_tensor(buffer.actions.reshape(-1)).long()
        log_prob = twin.policy.evaluate_actions(th.as_tensor(buffer.observations[:, 0]), actions)[1]
    buffer.log_probs[:, 0] = log_prob.numpy() - np.log(np.resize(ratios, N_STEPS))
    assert_equal_gradients(model, np.arange(N_STEPS))


@pytest.mark.parametrize("value_clip", ["sb3", "max"])
def test_gradients_beside_the_kinks_of_the_value_loss(value_clip: Any, engine: str) -> None:
    model, twin = (
        make_model(ClipPPO, SPACES["Discrete"], engine=engine, clip_range_vf=0.1, value_clip=value_clip)
        for _ in range(2)
    )
    perturb(twin)
    buffer = model.rollout_buffer
    with th.no_grad():
        actions = th.as_tensor(buffer.actions.reshape(-1)).long()
        values = twin.policy.evaluate_actions(th.as_tensor(buffer.observations[:, 0]), actions)[0].numpy()[:, 0]
    buffer.values[:, 0] = values + np.resize([0.1 - 1e-4, 0.1 + 1e-4, -0.1 - 1e-4, -0.1 + 1e-4], N_STEPS)
    assert_equal_gradients(model, np.arange(N_STEPS))


def test_one_sample_and_short_minibatches(engine: str) -> None:
    for size in (1, 2, 5):
        model = make_model(ClipPPO, SPACES["Box"], engine=engine)
        assert_equal_gradients(model, np.arange(size))
