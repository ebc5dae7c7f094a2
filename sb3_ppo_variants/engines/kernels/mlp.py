"""Forward and backward pass of a multilayer perceptron, without autograd, on memory that arrays and tensors share.

NumPy does almost all of it: on small arrays its calls cost a third of PyTorch's. On one core, in microseconds (NumPy
2.4 with OpenBLAS, torch 2.13 with MKL; AMD EPYC of the fourth and of the first generation, with and without AVX-512):

===========================  =====================  =====================
.                            4th: NumPy, PyTorch    1st: NumPy, PyTorch
===========================  =====================  =====================
(1, 64) x (64, 64)               0.7         2.2          2           3
(64, 64) x (64, 64)                8           8         28          20
(4096, 256) x (256, 256)       5,700       8,600     45,000      16,000
tanh of (64, 64)                 1.8          11         31          23
===========================  =====================  =====================

So only large products are PyTorch's, where the processor has no AVX-512. And where the bits count - of a continuous
action, which decide what the environment does with it - the forward pass can be PyTorch's as a whole.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch as th

from sb3_ppo_variants.engines.kernels.activations import Activation
from sb3_ppo_variants.engines.kernels.layout import Shared
from sb3_ppo_variants.maths.arrays import FloatArray

# Multiplications from which a product is PyTorch's
_LARGE = math.inf if th.backends.cpu.get_cpu_capability() == "AVX512" else 2**20


class Layer:
    """A linear layer with an optional activation: h = f(x W^T + b).

    :param weight: W, shape (outputs, inputs), a view on the parameters
    :param bias: b, shape (outputs,), likewise
    :param weight_gradient: where the backward pass writes dL/dW
    :param bias_gradient: where the backward pass writes dL/db
    :param activation: f; None for the last layer
    """

    def __init__(
        self,
        weight: FloatArray,
        bias: FloatArray,
        weight_gradient: FloatArray,
        bias_gradient: FloatArray,
        activation: Activation | None,
    ) -> None:
        self.weight = weight
        self.weight_transposed = Shared(weight.T)
        self.bias = Shared(bias)
        self.weight_gradient = weight_gradient
        self.bias_gradient = bias_gradient
        self.activation = activation


class _Workspace:
    """Memory for one batch size: per layer the pre-activation z, the output h and the gradient by h."""

    def __init__(self, layers: Sequence[Layer], batch_size: int) -> None:
        def memory() -> list[Shared]:
            return [Shared(np.empty((batch_size, len(layer.bias.array)), layer.bias.array.dtype)) for layer in layers]

        self.pre_activations = memory()
        self.outputs = memory()
        self.gradients = [h.array for h in memory()]
        self.ones = np.ones(batch_size, layers[0].bias.array.dtype)


class MLP:
    """A chain of layers that remembers its last forward pass.

    Memory is allocated once per batch size and overwritten by the next pass of that size.

    :param layers: from input to output; the last one without activation
    :ivar n_outputs: size of the output
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = list(layers)
        self.n_outputs = len(self._layers[-1].bias.array)
        self._workspaces: dict[int, _Workspace] = {}
        self._input: FloatArray = np.empty(0)

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the output, shape (batch, outputs); valid until the next pass of this batch size.

        :param x: input, shape (batch, inputs)
        """
        workspace = self._workspace(len(x))
        self._input = h = x
        for index, layer in enumerate(self._layers):
            below, output = h, workspace.outputs[index]
            h = output.array
            z = output if layer.activation is None else workspace.pre_activations[index]
            _product(below, layer.weight_transposed.array, z.array)
            np.add(z.array, layer.bias.array, z.array)
            if layer.activation is not None:
                layer.activation.forward(z, output)
        return h

    def forward_exactly(self, x: FloatArray) -> FloatArray:
        """Return the output as :meth:`forward` does, with the bits of the torch policy; takes about twice as long.

        :param x: input, shape (batch, inputs)
        """
        workspace = self._workspace(len(x))
        below = th.from_numpy(x)
        for index, layer in enumerate(self._layers):
            output = workspace.outputs[index]
            z = output if layer.activation is None else workspace.pre_activations[index]
            th.addmm(layer.bias.tensor, below, layer.weight_transposed.tensor, out=z.tensor)
            if layer.activation is not None:
                layer.activation.exact(z, output)
            below = output.tensor
        return workspace.outputs[-1].array

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
                layer.activation.backward(
                    gradient, workspace.pre_activations[index].array, workspace.outputs[index].array
                )
            _product(
                gradient.T, workspace.outputs[index - 1].array if index > 0 else self._input, layer.weight_gradient
            )
            # A product with ones is a faster sum over the batch than a reduction along axis 0
            np.dot(workspace.ones, gradient, out=layer.bias_gradient)
            if index > 0:
                gradient = _product(gradient, layer.weight, workspace.gradients[index - 1])

    def _workspace(self, batch_size: int) -> _Workspace:
        workspace = self._workspaces.get(batch_size)
        if workspace is None:
            workspace = self._workspaces[batch_size] = _Workspace(self._layers, batch_size)
        return workspace


def _product(a: FloatArray, b: FloatArray, out: FloatArray) -> FloatArray:
    if len(a) * b.size < _LARGE:
        return np.dot(a, b, out=out)
    th.mm(th.from_numpy(a), th.from_numpy(b), out=th.from_numpy(out))
    return out
