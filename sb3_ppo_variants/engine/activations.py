"""Activation functions and their derivatives on arrays."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from sb3_ppo_variants.engine.array_batch import FloatArray


@dataclass(frozen=True)
class Activation:
    """An elementwise function h = f(z).

    :param forward: writes f(z) into its second argument
    :param backward: multiplies its first argument, a gradient by h, with f'(z) in place, given z and h
    """

    forward: Callable[[FloatArray, FloatArray], None]
    backward: Callable[[FloatArray, FloatArray, FloatArray], None]


def _tanh_forward(z: FloatArray, h: FloatArray) -> None:
    np.tanh(z, out=h)


def _tanh_backward(gradient: FloatArray, z: FloatArray, h: FloatArray) -> None:
    np.multiply(h, h, out=z)  # z is not needed any more: use it as scratch
    np.subtract(1.0, z, out=z)
    np.multiply(gradient, z, out=gradient)


def _relu_forward(z: FloatArray, h: FloatArray) -> None:
    np.maximum(z, 0.0, out=h)


def _relu_backward(gradient: FloatArray, z: FloatArray, h: FloatArray) -> None:  # noqa: ARG001
    np.multiply(gradient, z > 0.0, out=gradient)


def _leaky_relu(slope: float) -> Activation:
    def forward(z: FloatArray, h: FloatArray) -> None:
        np.multiply(z, slope, out=h)
        np.copyto(h, z, where=z > 0.0)

    def backward(gradient: FloatArray, z: FloatArray, h: FloatArray) -> None:  # noqa: ARG001
        np.multiply(gradient, slope, out=gradient, where=z <= 0.0)

    return Activation(forward, backward)


def _elu(alpha: float) -> Activation:
    def forward(z: FloatArray, h: FloatArray) -> None:
        np.expm1(np.minimum(z, 0.0), out=h)
        np.multiply(h, alpha, out=h)
        np.copyto(h, z, where=z > 0.0)

    def backward(gradient: FloatArray, z: FloatArray, h: FloatArray) -> None:  # noqa: ARG001
        np.multiply(gradient, alpha * np.exp(np.minimum(z, 0.0)), out=gradient, where=z <= 0.0)

    return Activation(forward, backward)


def _sigmoid(z: FloatArray) -> FloatArray:
    # tanh does not overflow
    return 0.5 * (1.0 + np.tanh(0.5 * z))


def _silu_forward(z: FloatArray, h: FloatArray) -> None:
    np.multiply(z, _sigmoid(z), out=h)


def _silu_backward(gradient: FloatArray, z: FloatArray, h: FloatArray) -> None:  # noqa: ARG001
    sigmoid = _sigmoid(z)
    np.multiply(gradient, sigmoid * (1.0 + z * (1.0 - sigmoid)), out=gradient)


def activation_of(module: nn.Module) -> Activation | None:
    """Return the array form of a torch activation, or None if there is none.

    :param module: a Tanh, ReLU, LeakyReLU, ELU or SiLU; exact types, since a subclass may compute anything
    """
    kind = type(module)
    if kind is nn.Tanh:
        return Activation(_tanh_forward, _tanh_backward)
    if kind is nn.ReLU:
        return Activation(_relu_forward, _relu_backward)
    if kind is nn.LeakyReLU:
        assert isinstance(module, nn.LeakyReLU)
        return _leaky_relu(module.negative_slope)
    if kind is nn.ELU:
        assert isinstance(module, nn.ELU)
        return _elu(module.alpha)
    if kind is nn.SiLU:
        return Activation(_silu_forward, _silu_backward)
    return None
