"""Activation functions and their derivatives on memory that arrays and tensors share."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch as th
from torch import nn

from sb3_ppo_variants.engines.kernels.layout import Shared
from sb3_ppo_variants.maths.arrays import FloatArray

_aten = th.ops.aten


@dataclass(frozen=True)
class Activation:
    """An elementwise function h = f(z).

    :param forward: writes f(z) into its second argument
    :param backward: multiplies its first argument, a gradient by h, with f'(z) in place, given z and h
    :param exact: as ``forward``, with the bits of PyTorch's module
    """

    forward: Callable[[Shared, Shared], None]
    backward: Callable[[FloatArray, FloatArray, FloatArray], None]
    exact: Callable[[Shared, Shared], None]


def _tanh_forward(z: Shared, h: Shared) -> None:
    np.tanh(z.array, out=h.array)


def _tanh_exact(z: Shared, h: Shared) -> None:
    th.tanh(z.tensor, out=h.tensor)


def _tanh_backward(gradient: FloatArray, z: FloatArray, h: FloatArray) -> None:
    np.multiply(h, h, out=z)  # z is not needed any more: use it as scratch
    np.subtract(1.0, z, out=z)
    np.multiply(gradient, z, out=gradient)


def _relu_forward(z: Shared, h: Shared) -> None:
    np.maximum(z.array, 0.0, out=h.array)


def _relu_backward(gradient: FloatArray, z: FloatArray, h: FloatArray) -> None:  # noqa: ARG001
    np.multiply(gradient, z > 0.0, out=gradient)


def _leaky_relu(slope: float) -> Activation:
    def forward(z: Shared, h: Shared) -> None:
        _aten.leaky_relu.out(z.tensor, slope, out=h.tensor)

    def backward(gradient: FloatArray, z: FloatArray, h: FloatArray) -> None:  # noqa: ARG001
        np.multiply(gradient, slope, out=gradient, where=z <= 0.0)

    return Activation(forward, backward, forward)


def _elu(alpha: float) -> Activation:
    def forward(z: Shared, h: Shared) -> None:
        _aten.elu.out(z.tensor, alpha, out=h.tensor)

    def backward(gradient: FloatArray, z: FloatArray, h: FloatArray) -> None:  # noqa: ARG001
        np.multiply(gradient, alpha * np.exp(np.minimum(z, 0.0)), out=gradient, where=z <= 0.0)

    return Activation(forward, backward, forward)


def _silu_forward(z: Shared, h: Shared) -> None:
    _aten.silu.out(z.tensor, out=h.tensor)


def _silu_backward(gradient: FloatArray, z: FloatArray, h: FloatArray) -> None:  # noqa: ARG001
    sigmoid = 0.5 * (1.0 + np.tanh(0.5 * z))  # tanh does not overflow
    np.multiply(gradient, sigmoid * (1.0 + z * (1.0 - sigmoid)), out=gradient)


def activation_of(module: nn.Module) -> Activation | None:
    """Return the array form of a torch activation, or None if there is none.

    :param module: a Tanh, ReLU, LeakyReLU, ELU or SiLU; exact types, since a subclass may compute anything
    """
    kind = type(module)
    if kind is nn.Tanh:
        return Activation(_tanh_forward, _tanh_backward, _tanh_exact)
    if kind is nn.ReLU:
        return Activation(_relu_forward, _relu_backward, _relu_forward)
    if kind is nn.LeakyReLU:
        assert isinstance(module, nn.LeakyReLU)
        return _leaky_relu(module.negative_slope)
    if kind is nn.ELU:
        assert isinstance(module, nn.ELU)
        return _elu(module.alpha)
    if kind is nn.SiLU:
        return Activation(_silu_forward, _silu_backward, _silu_forward)
    return None
