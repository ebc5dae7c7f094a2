"""Parameters, gradients and Adam's moments in flat buffers that PyTorch and NumPy share.

The torch policy stays the source of truth: its parameters and the optimizer's moments are views on the buffers, so
``predict``, ``save``, ``state_dict`` and callbacks always see the live values.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th

from sb3_ppo_variants.maths.arrays import FloatArray

_ALIGNMENT = 16  # elements: each tensor starts on a cache line of its own (64 bytes in float32)


class Shared:
    """An array and a tensor on the same memory.

    :param array: the array
    """

    __slots__ = ("array", "tensor")

    def __init__(self, array: FloatArray) -> None:
        self.array = array
        self.tensor = th.from_numpy(array)


class ParameterGroup:
    """A part of the policy (actor or critic) in flat buffers.

    Padding between tensors stays zero in every buffer, so whole-buffer operations need no mask.

    :param parameters: the torch parameters of this part
    :ivar gradient_scale: factor on the gradient in the last step; None before the first
    """

    def __init__(self, parameters: Sequence[th.nn.Parameter]) -> None:
        self.parameters = list(parameters)
        sizes = [-(-parameter.numel() // _ALIGNMENT) * _ALIGNMENT for parameter in self.parameters]
        self._offsets: list[int] = np.concatenate(([0], np.cumsum(sizes))).tolist()
        dtype = self.parameters[0].detach().numpy().dtype
        self.values, self.gradients, self.first_moments, self.second_moments = np.zeros((4, sum(sizes)), dtype)
        self.steps = 0
        self.gradient_scale: float | None = None

    def value(self, parameter: th.Tensor) -> FloatArray:
        """Return the view on one parameter's values, in its shape."""
        return self._view(self.values, parameter)

    def gradient(self, parameter: th.Tensor) -> FloatArray:
        """Return the view on one parameter's gradient, in its shape."""
        return self._view(self.gradients, parameter)

    @th.inference_mode(False)  # tensors made in inference mode could never be trained by PyTorch
    def bind(self, optimizer: th.optim.Optimizer) -> None:
        """Make the torch parameters and moments views on the buffers, keeping the values they have now.

        Cheap when they already are; needed again after anything has replaced their memory (an optimizer's
        ``load_state_dict`` does).

        :param optimizer: the policy's Adam
        """
        for parameter in self.parameters:
            live = self.value(parameter)
            if parameter.data_ptr() != live.ctypes.data:
                live[...] = parameter.detach().numpy()
                parameter.data = th.from_numpy(live)
            state = optimizer.state[parameter]
            self.steps = int(state["step"].item()) if "step" in state else 0
            for key, buffer in (("exp_avg", self.first_moments), ("exp_avg_sq", self.second_moments)):
                self._bind_moment(state, key, self._view(buffer, parameter))

    def read(self) -> None:
        """Copy the torch parameters' values of now into the buffer, and leave where they lie as it is."""
        for parameter in self.parameters:
            self.value(parameter)[...] = parameter.detach().numpy()

    @th.inference_mode(False)
    def publish(self, optimizer: th.optim.Optimizer) -> None:
        """Write the number of steps where torch's Adam keeps it, and the last step's gradient where torch leaves it."""
        for parameter in self.parameters:
            optimizer.state[parameter]["step"] = th.tensor(float(self.steps))
            if self.gradient_scale is not None:
                parameter.grad = th.from_numpy(self.gradient(parameter) * self.gradient_scale)

    @staticmethod
    def _bind_moment(state: Any, key: str, live: FloatArray) -> None:
        moment = state.get(key)
        if moment is not None and moment.data_ptr() == live.ctypes.data:
            return
        live[...] = 0.0 if moment is None else moment.numpy()
        state.setdefault("step", th.tensor(0.0))  # torch writes it first; keep its order in saved files
        state[key] = th.from_numpy(live)

    def offset(self, parameter: th.Tensor) -> int:
        """Return where one parameter starts in the buffers, in elements."""
        index = next(i for i, candidate in enumerate(self.parameters) if candidate is parameter)
        return self._offsets[index]

    def _view(self, buffer: FloatArray, parameter: th.Tensor) -> FloatArray:
        start = self.offset(parameter)
        return buffer[start : start + parameter.numel()].reshape(tuple(parameter.shape))
