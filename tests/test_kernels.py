"""The extension in C: each function against NumPy or PyTorch, on every instruction set that this processor has."""

import math
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from native_policy import (
    ACTOR,
    BERNOULLI,
    CATEGORICAL,
    CRITIC,
    GAUSSIAN,
    LINEAR,
    RELU,
    TANH,
    Guarded,
    NativePolicy,
    Network,
    Shape,
    empty,
)
from torch.distributions import Bernoulli, Categorical, Distribution, Normal, kl_divergence

from sb3_ppo_variants.engines.kernels.adam import Adam
from sb3_ppo_variants.engines.kernels.layout import ParameterGroup

native = pytest.importorskip("sb3_ppo_variants._kernels")
REPOSITORY = Path(__file__).resolve().parent.parent
INSTRUCTIONS = native.instruction_sets()

widths = st.integers(1, 130)
hidden = st.lists(widths, max_size=3).map(tuple)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    kind = draw(st.sampled_from([CATEGORICAL, BERNOULLI, GAUSSIAN]))
    if kind == CATEGORICAL:
        choices = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple))
    else:
        choices = (draw(st.integers(1, 20)),)
    activation = draw(st.sampled_from([TANH, RELU]))
    return Shape(kind, choices, draw(widths), draw(hidden), draw(hidden), activation)


policies = st.builds(
    lambda shape, instructions, seed: NativePolicy(native, instructions, shape, np.random.default_rng(seed)),
    shapes(),
    st.sampled_from(INSTRUCTIONS),
    st.integers(0, 1000),
)
batches = st.integers(1, 200)
quickly = settings(max_examples=40, deadline=None)


class Reference:
    """The same policy in PyTorch and float64."""

    def __init__(self, policy: NativePolicy) -> None:
        self.shape = policy.shape
        self.leaves = {part: self._leaves(net) for part, net in ((ACTOR, policy.actor), (CRITIC, policy.critic))}
        self.log_std = self._leaf(policy.log_std)
        self.nearest_kink = math.inf  # the smallest input of a ReLU so far

    def _leaf(self, array: np.ndarray) -> th.Tensor:
        return th.tensor(array, dtype=th.float64, requires_grad=True)

    def _leaves(self, network: Network) -> list[tuple[th.Tensor, th.Tensor, int]]:
        values = network.values.array
        return [
            (self._leaf(layer.weight(values)), self._leaf(layer.bias(values)), layer.activation)
            for layer in network.layers
        ]

    def forward(self, part: int, x: np.ndarray) -> th.Tensor:
        h = th.tensor(x, dtype=th.float64)
        functions = {LINEAR: lambda z: z, TANH: th.tanh, RELU: th.relu}
        for weight, bias, activation in self.leaves[part]:
            h = th.nn.functional.linear(h, weight, bias)
            if activation == RELU:
                self.nearest_kink = min(self.nearest_kink, float(h.detach().abs().min()))
            h = functions[activation](h)
        return h

    def distributions(self, outputs: th.Tensor, std: th.Tensor) -> list[Distribution]:
        if self.shape.kind == GAUSSIAN:
            return [Normal(outputs, std)]
        if self.shape.kind == BERNOULLI:
            return [Bernoulli(logits=outputs)]
        return [Categorical(logits=part) for part in outputs.split(self.shape.choices, dim=1)]

    def columns(self, actions: np.ndarray) -> list[th.Tensor]:
        tensor = th.tensor(actions, dtype=th.float64)
        return list(tensor.unbind(1)) if self.shape.kind == CATEGORICAL else [tensor]


def per_row(figures: Iterator[th.Tensor], rows: int) -> th.Tensor:
    """Sum the parts of a distribution, and its dimensions."""
    return sum((figure.reshape(rows, -1).sum(dim=1) for figure in figures), th.zeros(rows, dtype=th.float64))


def assert_close(ours: np.ndarray, expected: Any, name: str, bound: float = 2e-5) -> None:
    """Compare arrays by their norm: single numbers near zero carry the rounding of the others."""
    expected = np.asarray(expected.detach() if isinstance(expected, th.Tensor) else expected, np.float64)
    assert ours.shape == expected.shape
    assert np.linalg.norm(ours - expected) <= bound * max(np.linalg.norm(expected), math.sqrt(expected.size) * 0.1), (
        name
    )


@quickly
@given(policies, batches)
def test_outputs_of_both_networks_are_those_of_pytorch(policy: NativePolicy, rows: int) -> None:
    x, reference = policy.observations(rows), Reference(policy)
    for part in (ACTOR, CRITIC):
        assert_close(policy.forward(part, x), reference.forward(part, x.array), "outputs")
    policy.check()


@settings(max_examples=15, deadline=None)
@given(policies, st.integers(1, 100), st.booleans(), st.booleans())
def test_figures_and_gradients_are_those_of_autograd(
    policy: NativePolicy, rows: int, with_old: bool, with_noise: bool
) -> None:
    """Of a loss that is a random combination of log-probability, entropy, KL and value of each sample."""
    shape, rng, reference = policy.shape, policy.rng, Reference(policy)
    is_gaussian = shape.kind == GAUSSIAN
    x, actions = policy.observations(rows), policy.actions(rows)
    noise = Guarded(rng.normal(size=(rows, shape.outputs)).astype(np.float32)) if with_noise and is_gaussian else None
    old = Guarded(rng.normal(size=(rows, shape.outputs)).astype(np.float32)) if with_old else None
    old_std = Guarded(np.exp(rng.normal(size=shape.outputs) * 0.3).astype(np.float32)) if is_gaussian else None
    slopes = [Guarded(rng.normal(size=rows).astype(np.float32)) for _ in range(4)]
    if not with_old:
        slopes[2].array[...] = 0

    figures = policy.evaluate(x, actions, noise, old, old_std)
    squared_norm = policy.backward(*slopes)

    outputs, values = reference.forward(ACTOR, x.array), reference.forward(CRITIC, x.array)[:, 0]
    assume(reference.nearest_kink > 2e-6)  # rounding to float32 may carry an input across, and its slope to 0 or 1
    std = reference.log_std.exp()
    new = reference.distributions(outputs, std)
    shifted = outputs if noise is None else outputs + th.tensor(noise.array)
    pairs = list(zip(reference.distributions(shifted, std), reference.columns(actions.array), strict=True))
    log_probs = per_row((part.log_prob(column) for part, column in pairs), rows)
    entropies = per_row((part.entropy() for part in new), rows)
    kls = th.zeros(rows, dtype=th.float64)
    if old is not None:
        its_std = None if old_std is None else th.tensor(old_std.array).double()
        before = reference.distributions(th.tensor(old.array).double(), its_std)
        kls = per_row((kl_divergence(p, q) for p, q in zip(before, new, strict=True)), rows)
        assert_close(figures.kls.array, kls, "kl")
    assert_close(figures.log_probs.array, log_probs, "log-prob")
    assert_close(figures.entropies.array, entropies, "entropy")
    assert_close(figures.values.array, values, "values")
    by_log_prob, by_entropy, by_kl, by_value = (th.tensor(slope.array).double() for slope in slopes)
    (by_log_prob @ log_probs + by_entropy @ entropies + by_kl @ kls + by_value @ values).backward()
    assert_gradients(policy, reference)
    every = [network.gradients.array.astype(np.float64) for network in (policy.actor, policy.critic)]
    assert squared_norm == pytest.approx(sum(float(gradient @ gradient) for gradient in every), rel=1e-4)


def assert_gradients(policy: NativePolicy, reference: Reference) -> None:
    scale = max(math.sqrt(policy.actor.gradients.array @ policy.actor.gradients.array), 1.0)
    for part, network in ((ACTOR, policy.actor), (CRITIC, policy.critic)):
        ours = network.gradients.array
        for layer, (weight, bias, _) in zip(network.layers, reference.leaves[part], strict=True):
            for mine, leaf in ((layer.weight(ours), weight), (layer.bias(ours), bias)):
                assert leaf.grad is not None
                difference = float(np.linalg.norm(mine - leaf.grad.numpy()))
                assert difference <= 3e-5 * max(float(leaf.grad.norm()), 0.03 * scale)
    if policy.shape.kind == GAUSSIAN:
        assert reference.log_std.grad is not None
        assert_close(policy.actor.gradients.array[policy.actor.extra_at :], reference.log_std.grad, "log std", 1e-4)


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("rows", [1, 64, 200])
@pytest.mark.parametrize("trained", ["actor", "critic"])
def test_of_two_networks_one_can_be_trained_alone(instructions: str, rows: int, trained: str) -> None:
    """The other's gradients are left as they are, and do not count."""
    policy = NativePolicy(native, instructions, Shape(), np.random.default_rng(0))
    both, alone = (policy.actor, policy.critic), getattr(policy, trained)
    x, actions = policy.observations(rows), policy.actions(rows)
    ones = Guarded(np.ones(rows, np.float32))
    policy.evaluate(x, actions)
    policy.backward(ones, None, None, ones)
    expected = alone.gradients.array.copy()
    for network in both:
        network.gradients.array[...] = 0.0 if network is alone else 3.0

    if trained == "critic":
        values = empty(rows)
        native.evaluate(policy.handle, rows, x.address, *(0,) * 7, values.address)
        values.check()
        assert_close(values.array, policy.forward(CRITIC, x)[:, 0], "values")
        squared_norm = policy.backward(None, None, None, ones)
    else:
        squared_norm = policy.backward(ones, None, None, None)
    assert np.array_equal(alone.gradients.array, expected)
    assert all((network.gradients.array == 3.0).all() for network in both if network is not alone)
    gradient = expected.astype(np.float64)
    assert gradient.any()
    assert squared_norm == pytest.approx(float(gradient @ gradient), rel=1e-5)


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_weights_that_change_between_calls_are_seen(instructions: str) -> None:
    policy = NativePolicy(native, instructions, Shape(), np.random.default_rng(0))
    for rows in (1, 3, 40):
        x = policy.observations(rows)
        policy.forward(ACTOR, x)
        policy.actor.values.array[: policy.actor.extra_at] *= 0.5
        assert_close(policy.forward(ACTOR, x), Reference(policy).forward(ACTOR, x.array), "outputs")


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_passes_over_other_rows_do_not_disturb_the_minibatch(instructions: str) -> None:
    """Between evaluation and gradient somebody may act, or measure the rollout."""
    gradients = []
    for disturbed in (False, True):
        policy = NativePolicy(native, instructions, Shape(), np.random.default_rng(0))
        policy.evaluate(policy.observations(20), policy.actions(20))
        slopes = [Guarded(policy.rng.normal(size=20).astype(np.float32)) for _ in range(2)]
        if disturbed:
            x = policy.observations(20)
            policy.forward(ACTOR, x)
            policy.forward(CRITIC, x)
            policy.act(x, policy.noise(20))
        policy.backward(slopes[0], None, None, slopes[1])
        gradients.append(policy.actor.gradients.array.copy())
    assert np.array_equal(*gradients)


@quickly
@given(policies, batches)
def test_actions_are_drawn_as_the_noise_says(policy: NativePolicy, rows: int) -> None:
    shape, reference = policy.shape, Reference(policy)
    x, noise = policy.observations(rows), policy.noise(rows)
    actions, values, log_probs = policy.act(x, noise)
    outputs, std = reference.forward(ACTOR, x.array), reference.log_std.exp()
    parts = reference.distributions(outputs, std)
    expected_log_probs = per_row(
        (part.log_prob(column) for part, column in zip(parts, reference.columns(actions), strict=True)), rows
    )
    assert_close(log_probs, expected_log_probs, "log-prob")
    assert_close(values, reference.forward(CRITIC, x.array)[:, 0], "values")
    if shape.kind == GAUSSIAN:
        expected = outputs.detach().numpy() + std.detach().numpy() * noise.array.reshape(rows, -1)
        assert_close(actions, expected, "actions")
        return
    if shape.kind == BERNOULLI:
        margins = [th.sigmoid(outputs).detach().numpy() - noise.array.reshape(rows, -1)]
        expected = (margins[0] > 0).astype(np.float32)
        is_clear = np.abs(margins[0]) > 1e-5
    else:
        ends = np.cumsum([rows * n for n in shape.choices])[:-1]
        scores = [
            part.probs.detach().numpy() / drawn.reshape(rows, -1)
            for part, drawn in zip(parts, np.split(noise.array, ends), strict=True)
        ]
        expected = np.stack([score.argmax(axis=1) for score in scores], axis=1)
        runners_up = [np.sort(np.column_stack([score, np.zeros(rows)]), axis=1)[:, -2:] for score in scores]
        is_clear = np.stack([pair[:, 1] - pair[:, 0] > 1e-4 * pair[:, 1] for pair in runners_up], axis=1)
    assert is_clear.mean() > 0.9 or is_clear.size < 100
    assert np.array_equal(actions[is_clear], expected[is_clear])


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(INSTRUCTIONS), st.lists(widths, min_size=2, max_size=4), st.integers(0, 99))
def test_adam_has_the_bits_of_the_numpy_engines(instructions: str, sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    policy = NativePolicy(native, instructions, Shape(inputs=sizes[0], hidden_actor=tuple(sizes[1:])), rng)
    group = ParameterGroup([th.nn.Parameter(th.zeros(policy.actor.size))])
    group.values[: policy.actor.size] = policy.actor.values.array
    adam = Adam(group)
    for step in range(1, 40):
        gradient = (rng.normal(size=policy.actor.size) * 10.0 ** rng.integers(-12, 6)).astype(np.float32)
        policy.actor.gradients.array[...] = group.gradients[: policy.actor.size] = gradient
        now = {"lr": 3e-4 * rng.uniform(), "betas": (0.9, 0.999), "eps": 1e-5}
        scale = float(rng.uniform())
        policy.adam(ACTOR, step, scale, now)
        adam.step(now, scale)
        for ours, buffer in zip(
            policy.actor.buffers,
            (group.values, group.gradients, group.first_moments, group.second_moments),
            strict=True,
        ):
            assert np.array_equal(ours.array.view(np.uint32), buffer[: policy.actor.size].view(np.uint32)), step
    critic = [buffer.array.copy() for buffer in policy.critic.buffers]
    policy.adam(CRITIC, 1, 1.0, now)
    assert np.array_equal(policy.critic.gradients.array, critic[1])


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_a_gradient_that_clipping_took_to_nothing_moves_nothing(instructions: str) -> None:
    policy = NativePolicy(native, instructions, Shape(), np.random.default_rng(0))
    before = policy.actor.values.array.copy()
    policy.actor.gradients.array[...] = 1e30
    policy.adam(ACTOR, 1, 0.0, {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-5})
    assert np.array_equal(policy.actor.values.array, before)
    assert not policy.actor.first_moments.array.any()
    assert not policy.actor.second_moments.array.any()


# Elementwise functions ----------------------------------------------------------------------------------------------

FUNCTIONS = {"tanh": (np.tanh, 7.0), "exp": (np.exp, 1.5), "log": (np.log, 1.0)}


def largest_error(instructions: str, name: str, stride: int) -> float:
    """Return the largest error in ulp over every ``stride``-th of all floats, subnormal ones included.

    :raises AssertionError: if a NaN or an infinity is where there should be none, or the other way round
    """
    worst = 0.0
    for start in range(0, 2**32, stride * 2**20):
        x = np.arange(start, min(start + stride * 2**20, 2**32), stride, dtype=np.uint64).astype(np.uint32)
        worst = max(worst, error_in_ulp(instructions, name, x.view(np.float32)))
    return worst


def error_in_ulp(instructions: str, name: str, x: np.ndarray) -> float:
    y = np.empty_like(x)
    native.apply(instructions, name, len(x), x.ctypes.data, y.ctypes.data)
    with np.errstate(all="ignore"):
        exact = FUNCTIONS[name][0](x.astype(np.float64))
        rounded = exact.astype(np.float32)
        assert np.array_equal(np.isnan(y), np.isnan(rounded))
        finite = np.isfinite(rounded) & np.isfinite(y)
        # An overflow may come one ulp early or late
        is_clear = ~finite & (np.abs(exact) < 0.9999 * np.finfo(np.float32).max)
        assert np.array_equal(y[is_clear], rounded[is_clear], equal_nan=True)
        errors = np.abs(y[finite] - exact[finite]) / np.spacing(np.abs(rounded[finite]))
    return float(errors.max(initial=0.0))


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_keep_their_error_bounds_over_all_floats(name: str, instructions: str) -> None:
    assert 0.4 < largest_error(instructions, name, stride=4099) <= FUNCTIONS[name][1]


@pytest.mark.slow
@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_keep_their_error_bounds_over_many_more_floats(name: str, instructions: str) -> None:
    assert largest_error(instructions, name, stride=41) <= FUNCTIONS[name][1]


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_tanh_is_one_where_pytorchs_is_and_below_where_it_is_below(instructions: str) -> None:
    """Its slope 1 - h^2 is multiplied by the input, which may be any number where observations are not normalised."""
    x = np.array([5.0, 7.9, 8.0, 8.5, 10.0, 1e4, 1e30, np.inf], np.float32)
    x = np.concatenate([x, -x])
    y = np.empty_like(x)
    native.apply(instructions, "tanh", len(x), x.ctypes.data, y.ctypes.data)
    np.testing.assert_array_equal(np.abs(y) == 1, (th.tanh(th.from_numpy(x)).abs() == 1).numpy())


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_functions_at_their_special_points(instructions: str) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.0, 89.0, -104.0, -88.0], np.float32)
    expected = {
        "tanh": [0.0, -0.0, 1.0, -1.0, np.nan, 1e-45, -1e-45, np.tanh(1.0), 1.0, -1.0, -1.0],
        "exp": [1.0, 1.0, np.inf, 0.0, np.nan, 1.0, 1.0, np.e, np.inf, 0.0, np.exp(-88.0)],
        "log": [
            -np.inf,
            -np.inf,
            np.inf,
            np.nan,
            np.nan,
            np.log(1.401298e-45),
            np.nan,
            0.0,
            np.log(89.0),
            np.nan,
            np.nan,
        ],
    }
    for name, values in expected.items():
        y = empty(len(x))
        native.apply(instructions, name, len(x), x.ctypes.data, y.address)
        y.check()
        np.testing.assert_allclose(y.array, np.array(values, np.float32), rtol=3e-7)
    assert np.signbit(y.array[1]) == np.signbit(np.float32(-np.inf))


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_a_coin_that_hardly_ever_falls_keeps_the_digits_of_its_log_probability(instructions: str) -> None:
    """log(1 + t) of a small t, which 1 + t rounds away."""
    logits = np.linspace(-40.0, -5.0, 5, dtype=np.float32)
    policy = NativePolicy(native, instructions, Shape(BERNOULLI, choices=(1,)), np.random.default_rng(0))
    last, values = policy.actor.layers[-1], policy.actor.values.array
    last.weight(values)[:] = 0.0
    for logit in logits:
        last.bias(values)[:] = logit
        figures = policy.evaluate(policy.observations(3), Guarded(np.zeros((3, 1), np.float32)))
        np.testing.assert_allclose(figures.log_probs.array, -np.log1p(np.exp(np.float64(logit))), rtol=1e-6)


# Numbers that are not finite ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("kind", [CATEGORICAL, BERNOULLI, GAUSSIAN])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("activation", [TANH, RELU])
@pytest.mark.parametrize("rows", [2, 20])
def test_what_is_not_finite_shows_in_the_figures(
    instructions: str, kind: int, bad: float, activation: int, rows: int
) -> None:
    policy = NativePolicy(native, instructions, Shape(kind, activation=activation), np.random.default_rng(0))
    first = policy.actor.layers[0]
    first.weight(policy.actor.values.array)[:, 2] = np.where(np.arange(first.outputs) % 2, bad, -bad)
    x, actions, noise = policy.observations(rows), policy.actions(rows), policy.noise(rows)
    figures = policy.evaluate(x, actions)
    slopes = Guarded(np.ones(rows, np.float32))
    squared_norm = policy.backward(slopes, None, None, slopes)
    drawn, _, log_probs = policy.act(x, noise)
    if np.isnan(bad):
        assert np.isnan(figures.log_probs.array).all()
        assert np.isnan(log_probs).all() or np.isnan(drawn).all()
    if np.isnan(bad) or activation == RELU:  # tanh bounds an infinity
        assert not math.isfinite(squared_norm)
    if kind == CATEGORICAL:
        assert ((drawn >= 0) & (drawn < 3)).all()


# The module's own checks --------------------------------------------------------------------------------------------


def test_a_description_that_does_not_fit_is_refused() -> None:
    policy = NativePolicy(native, INSTRUCTIONS[0], Shape(), np.random.default_rng(0))
    actor, critic = policy.actor.description, policy.critic.description

    right = {
        "instructions": INSTRUCTIONS[0],
        "actor": actor,
        "critic": critic,
        "kind": GAUSSIAN,
        "choices": (3,),
        "log_std": policy.actor.extra_at,
    }

    def make(**wrong: Any) -> Any:
        return native.policy(*(right | wrong).values())

    assert make() is not None
    with pytest.raises(ValueError, match="'mmx'"):
        make(instructions="mmx")
    with pytest.raises(ValueError, match="layer 0"):
        make(actor=(actor[0], 3, *actor[2:]))
    with pytest.raises(ValueError, match="layer 1"):
        make(actor=((actor[0][0], *actor[0][:2]), *actor[1:]))
    with pytest.raises(ValueError, match="needs a layer"):
        make(critic=((), *critic[1:]))
    for wrong in ({"critic": actor}, {"choices": (2,)}, {"choices": ()}, {"kind": 3}, {"log_std": policy.actor.size}):
        with pytest.raises(ValueError, match="fit each other"):
            make(**wrong)
    with pytest.raises(ValueError, match="needs an output"):
        make(choices=(3, 0))


def test_a_call_with_wrong_arguments_is_refused() -> None:
    policy = NativePolicy(native, INSTRUCTIONS[0], Shape(), np.random.default_rng(0))
    with pytest.raises(TypeError, match="expected 5 arguments, got 1"):
        native.backward(policy.handle)
    with pytest.raises(ValueError, match="PyCapsule"):
        native.backward("policy", 0, 0, 0, 0)
    with pytest.raises(TypeError, match="integer"):
        native.forward(policy.handle, 0, 1, "address", 0)
    with pytest.raises(ValueError, match="'sin'"):
        native.apply(INSTRUCTIONS[0], "sin", 1, 0, 0)


# Sanitizers ---------------------------------------------------------------------------------------------------------

EXERCISE = """
import importlib.util, itertools, sys
sys.path.insert(0, {tests!r})
spec = importlib.util.spec_from_file_location("sb3_ppo_variants._kernels", {library!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from native_policy import *
hidden = [(), (1,), (70, 33), (130,)]
for instructions, rows in itertools.product(module.instruction_sets(), (1, 3, 5, 64, 97, 200)):
    for kind, choices in ((CATEGORICAL, (2,)), (CATEGORICAL, (3, 1, 9)), (BERNOULLI, (5,)), (GAUSSIAN, (17,))):
        for inputs, widths, activation in ((1, hidden[rows % 4], TANH), (37, hidden[rows % 3 + 1], RELU)):
            exercise(module, rows, Shape(kind, choices, inputs, widths, widths[::-1], activation), instructions)
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [4, 16])  # 16: the code of AVX-512 in any processor's instructions
def test_sanitizers_find_nothing(width: int, tmp_path: Path) -> None:
    """Neither an access outside a block of memory nor undefined behaviour."""
    library = tmp_path / "_kernels.so"
    flags = ["-std=gnu11", "-O1", "-g", "-ffp-contract=off", "-fPIC", "-fno-sanitize-recover=all", "-Wno-psabi"]
    flags += ["-fsanitize=address,undefined", f"-I{sysconfig.get_path('include')}"]
    wide = ['-DINSTRUCTIONS="baseline"', "-DKERNELS=kernels_baseline", f"-DWIDTH={width}"]
    objects = []
    for name, more in (("module", []), ("kernels", wide), ("avx2", []), ("avx512", [])):
        objects.append(str(tmp_path / f"{name}.o"))
        subprocess.run(
            ["gcc", *flags, *more, "-c", str(REPOSITORY / f"native/{name}.c"), "-o", objects[-1]], check=True
        )
    subprocess.run(["gcc", "-shared", "-fsanitize=address,undefined", *objects, "-o", str(library), "-lm"], check=True)
    runtime = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}.so"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in ("libasan", "libubsan")
    ]
    script = EXERCISE.format(tests=str(REPOSITORY / "tests"), library=str(library))
    env = {"LD_PRELOAD": ":".join(runtime), "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "done\n"
