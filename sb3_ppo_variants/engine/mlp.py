"""Forward and backward pass of a multilayer perceptron on arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sb3_ppo_variants.engine.activations import Activation
from sb3_ppo_variants.engine.array_batch import FloatArray


@dataclass(frozen=True)
class Layer:
    """A linear layer with an optional activation: h = f(x W^T + b).

    :param weight: W, shape (outputs, inputs), a view on the parameters
    :param weight_transposed: its transpose, kept because making the view costs as much as a small product
    :param bias: b, shape (outputs,), likewise
    :param weight_gradient: where the backward pass writes dL/dW
    :param bias_gradient: where the backward pass writes dL/db
    :param activation: f; None for the last layer
    """

    weight: FloatArray
    weight_transposed: FloatArray
    bias: FloatArray
    weight_gradient: FloatArray
    bias_gradient: FloatArray
    activation: Activation | None


class _Workspace:
    """Arrays for one batch size: per layer the pre-activation z, the output h and the gradient by h."""

    def __init__(self, layers: Sequence[Layer], batch_size: int) -> None:
        def arrays() -> list[FloatArray]:
            return [np.empty((batch_size, len(layer.bias)), layer.bias.dtype) for layer in layers]

        self.pre_activations = arrays()
        self.outputs = arrays()
        self.gradients = arrays()
        self.ones = np.ones(batch_size, layers[0].bias.dtype)


class MLP:
    """A chain of layers that remembers its last forward pass.

    Arrays are allocated once per batch size and overwritten by the next pass of that size.

    :param layers: from input to output; the last one without activation
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = list(layers)
        self._workspaces: dict[int, _Workspace] = {}
        self._input: FloatArray = np.empty(0)

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the output, shape (batch, outputs); valid until the next pass of this batch size.

        :param x: input, shape (batch, inputs)
        """
        workspace = self._workspace(len(x))
        self._input = x
        for layer, z, h in zip(self._layers, workspace.pre_activations, workspace.outputs, strict=True):
            np.dot(x, layer.weight_transposed, out=z)
            if layer.activation is None:
                x = np.add(z, layer.bias, out=h)
            else:
                np.add(z, layer.bias, out=z)
                layer.activation.forward(z, h)
                x = h
        return x

    def backward(self, gradient: FloatArray) -> None:
        r"""Write the gradients of all layers, given the gradient by the output of the last forward pass.

        With :math:`\delta_l = dL/dz_l`: :math:`dL/dW_l = \delta_l^T h_{l-1}`, :math:`dL/db_l = \sum \delta_l`,
        :math:`dL/dh_{l-1} = \delta_l W_l`.

        :param gradient: dL/d(output), shape (batch, outputs)
        """
        workspace = self._workspace(len(gradient))
        for index in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[index]
            if layer.activation is not None:
                layer.activation.backward(gradient, workspace.pre_activations[index], workspace.outputs[index])
            below = workspace.outputs[index - 1] if index > 0 else self._input
            np.dot(gradient.T, below, out=layer.weight_gradient)
            # A product with ones is a faster sum over the batch than a reduction along axis 0
            np.dot(workspace.ones, gradient, out=layer.bias_gradient)
            if index > 0:
                gradient = np.dot(gradient, layer.weight, out=workspace.gradients[index - 1])

    def _workspace(self, batch_size: int) -> _Workspace:
        workspace = self._workspaces.get(batch_size)
        if workspace is None:
            workspace = self._workspaces[batch_size] = _Workspace(self._layers, batch_size)
        return workspace
