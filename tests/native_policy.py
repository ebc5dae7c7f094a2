"""A policy of the extension's on arrays that notice what is written around them; needs NumPy alone.

Guards of NaN stand before and behind every array: a write outside changes their bits, and a read outside makes NaN of
the result. Arrays start at odd addresses, since callers may pass any slice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

CATEGORICAL, BERNOULLI, GAUSSIAN = range(3)
LINEAR, TANH, RELU = range(3)
ACTOR, CRITIC = range(2)

_GUARD = 67  # elements before and behind: no multiple of a vector
_POISON = 0x7FC0BEEF  # a NaN that no computation makes


class Guarded:
    """An array between guards.

    :param array: its first contents
    """

    def __init__(self, array: Any) -> None:
        contents = np.ascontiguousarray(array)
        assert contents.itemsize % 4 == 0
        words, guard = contents.nbytes // 4, _GUARD * contents.itemsize // 4
        self._memory = np.full(words + 2 * guard, _POISON, np.uint32)
        self._inner = slice(guard, guard + words)
        self.array = self._memory[self._inner].view(contents.dtype).reshape(contents.shape)
        self.array[...] = contents

    @property
    def address(self) -> int:
        return int(self.array.ctypes.data)

    def check(self) -> None:
        outside = np.delete(self._memory, self._inner)
        assert (outside == _POISON).all(), "something was written outside an array"


def empty(*shape: int, dtype: Any = np.float32) -> Guarded:
    return Guarded(np.full(shape, 77, dtype))


@dataclass
class Layer:
    """A linear layer: views on the flat buffers, in which it starts at some odd place."""

    inputs: int
    outputs: int
    activation: int
    weight_at: int
    bias_at: int

    def weight(self, buffer: np.ndarray) -> np.ndarray:
        return buffer[self.weight_at : self.weight_at + self.inputs * self.outputs].reshape(self.outputs, self.inputs)

    def bias(self, buffer: np.ndarray) -> np.ndarray:
        return buffer[self.bias_at : self.bias_at + self.outputs]


class Network:
    """Flat buffers with random values: parameters, gradients and Adam's moments.

    :param widths: from the input to the output
    :param activation: of all layers but the last
    :param extra: further parameters at the end
    """

    def __init__(self, rng: np.random.Generator, widths: Sequence[int], activation: int, extra: int = 0) -> None:
        self.layers, at = [], 0
        for index, (inputs, outputs) in enumerate(pairwise(widths)):
            weight_at = at + int(rng.integers(4))
            bias_at = weight_at + inputs * outputs + int(rng.integers(4))
            at = bias_at + outputs
            kind = activation if index < len(widths) - 2 else LINEAR
            self.layers.append(Layer(inputs, outputs, kind, weight_at, bias_at))
        self.extra_at, self.size = at, at + extra
        values = np.zeros(self.size, np.float32)
        for layer in self.layers:
            layer.weight(values)[...] = rng.normal(size=(layer.outputs, layer.inputs)) * layer.inputs**-0.5
            layer.bias(values)[...] = rng.normal(size=layer.outputs) * 0.1
        values[at:] = rng.normal(size=extra) * 0.3
        self.values, self.gradients, self.first_moments, self.second_moments = (
            Guarded(values),
            *(Guarded(np.zeros_like(values)) for _ in range(3)),
        )

    @property
    def buffers(self) -> tuple[Guarded, ...]:
        return self.values, self.gradients, self.first_moments, self.second_moments

    @property
    def description(self) -> Any:
        layers = tuple(
            (layer.inputs, layer.outputs, layer.weight_at, layer.bias_at, layer.activation) for layer in self.layers
        )
        return layers, self.size, *(buffer.address for buffer in self.buffers)


@dataclass
class Shape:
    """What a policy looks like.

    :param kind: of the action distribution
    :param choices: outputs of each part of an action
    """

    kind: int = GAUSSIAN
    choices: tuple[int, ...] = (3,)
    inputs: int = 5
    hidden_actor: tuple[int, ...] = (7, 6)
    hidden_critic: tuple[int, ...] = (8,)
    activation: int = TANH

    @property
    def outputs(self) -> int:
        return sum(self.choices)

    @property
    def actions(self) -> int:
        return len(self.choices) if self.kind == CATEGORICAL else self.outputs


@dataclass
class Figures:
    """What ``evaluate`` writes."""

    log_probs: Guarded
    values: Guarded
    entropies: Guarded
    kls: Guarded


@dataclass
class NativePolicy:
    """A policy with random parameters.

    :param module: the extension
    :param instructions: one of its instruction sets
    """

    module: ModuleType | Any
    instructions: str
    shape: Shape
    rng: np.random.Generator
    actor: Network = field(init=False)
    critic: Network = field(init=False)

    def __post_init__(self) -> None:
        shape = self.shape
        extra = shape.outputs if shape.kind == GAUSSIAN else 0
        self.actor = Network(self.rng, [shape.inputs, *shape.hidden_actor, shape.outputs], shape.activation, extra)
        self.critic = Network(self.rng, [shape.inputs, *shape.hidden_critic, 1], shape.activation)
        self.handle = self.module.policy(
            self.instructions,
            self.actor.description,
            self.critic.description,
            shape.kind,
            shape.choices,
            self.actor.extra_at,
        )

    @property
    def log_std(self) -> np.ndarray:
        return self.actor.values.array[self.actor.extra_at :]

    def observations(self, rows: int) -> Guarded:
        return Guarded(self.rng.normal(size=(rows, self.shape.inputs)).astype(np.float32))

    def actions(self, rows: int) -> Guarded:
        shape = self.shape
        if shape.kind == CATEGORICAL:
            return Guarded(self.rng.integers(shape.choices, size=(rows, shape.actions)).astype(np.float32))
        if shape.kind == BERNOULLI:
            return Guarded(self.rng.integers(2, size=(rows, shape.actions)).astype(np.float32))
        return Guarded(self.rng.normal(size=(rows, shape.actions)).astype(np.float32))

    def noise(self, rows: int) -> Guarded:
        """Random numbers as ``act`` wants them."""
        draw = (self.rng.exponential, self.rng.uniform, self.rng.normal)[self.shape.kind]
        return Guarded(draw(size=rows * self.shape.outputs).astype(np.float32))

    def forward(self, part: int, x: Guarded) -> np.ndarray:
        outputs = empty(len(x.array), self.shape.outputs if part == ACTOR else 1)
        self.module.forward(self.handle, part, len(x.array), x.address, outputs.address)
        outputs.check()
        return outputs.array

    def act(self, x: Guarded, noise: Guarded) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw actions for observations as they are, and once more in float64: the same."""
        wide, narrowed = Guarded(x.array.astype(np.float64)), empty(*x.array.shape)
        drawn = self._act(0, x, noise)
        for array, again in zip(drawn, self._act(wide.address, narrowed, noise), strict=True):
            assert np.array_equal(array, again, equal_nan=True)
        narrowed.check()
        return drawn

    def _act(self, wide: int, x: Guarded, noise: Guarded) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = len(x.array)
        actions = empty(rows, self.shape.actions, dtype=np.int64 if self.shape.kind == CATEGORICAL else np.float32)
        values, log_probs = empty(rows), empty(rows)
        addresses = [guarded.address for guarded in (x, noise, actions, values, log_probs)]
        are_finite = self.module.act(self.handle, rows, wide, *addresses)
        for guarded in (actions, values, log_probs):
            guarded.check()
        assert are_finite == (np.isfinite(log_probs.array).all() and np.isfinite(actions.array).all())
        return actions.array, values.array, log_probs.array

    def evaluate(
        self,
        x: Guarded,
        actions: Guarded,
        mean_noise: Guarded | None = None,
        old: Guarded | None = None,
        old_std: Guarded | None = None,
    ) -> Figures:
        rows = len(x.array)
        figures = Figures(*(empty(rows) for _ in range(4)))
        inputs = [0 if guarded is None else guarded.address for guarded in (x, actions, mean_noise, old, old_std)]
        outputs = [figures.log_probs, figures.entropies, figures.kls, figures.values]
        self.module.evaluate(self.handle, rows, *inputs, *(guarded.address for guarded in outputs))
        for guarded in outputs:
            guarded.check()
        return figures

    def backward(self, *slopes: Guarded | None) -> float:
        """Slopes by log-probability, entropy, KL and value."""
        norm = self.module.backward(self.handle, *(0 if slope is None else slope.address for slope in slopes))
        self.check()
        return float(norm)

    def adam(self, part: int, step: int, scale: float, settings: dict[str, Any]) -> None:
        lr, betas, eps = (settings[name] for name in ("lr", "betas", "eps"))
        self.module.adam(self.handle, part, step, scale, lr, *betas, eps)
        self.check()

    def check(self) -> None:
        for network in (self.actor, self.critic):
            for buffer in network.buffers:
                buffer.check()


def exercise(module: ModuleType | Any, rows: int, shape: Shape, instructions: str) -> None:
    """Call everything once."""
    policy = NativePolicy(module, instructions, shape, np.random.default_rng(rows))
    x, actions = policy.observations(rows), policy.actions(rows)
    for part in (ACTOR, CRITIC):
        assert np.isfinite(policy.forward(part, x)).all()
    assert np.isfinite(policy.act(x, policy.noise(rows))[2]).all()
    old = Guarded(policy.forward(ACTOR, x) + np.float32(0.1))
    std = Guarded(np.full(shape.outputs, 0.7, np.float32)) if shape.kind == GAUSSIAN else None
    figures = policy.evaluate(x, actions, None, old, std)
    for figure in (figures.log_probs, figures.values, figures.entropies, figures.kls):
        assert np.isfinite(figure.array).all()
    slopes = [Guarded(policy.rng.normal(size=rows).astype(np.float32)) for _ in range(4)]
    assert np.isfinite(policy.backward(*slopes))
    for part in (ACTOR, CRITIC):
        policy.adam(part, 1, 0.5, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-5})
    function = Guarded(np.linspace(-3, 90, rows, dtype=np.float32))
    for name in ("tanh", "exp", "log"):
        result = empty(rows)
        module.apply(instructions, name, rows, function.address, result.address)
        result.check()
