"""The policy that collected the rollout, kept while it is being trained."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from itertools import chain

import torch as th


class ParameterStep:
    """The step that some of a policy's tensors made away from their old values.

    :param live: the tensors, holding their new values
    :param old: their old values
    """

    def __init__(self, live: Sequence[th.Tensor], old: Sequence[th.Tensor]) -> None:
        self._live = live
        self._old = old
        self._new = [tensor.detach().clone() for tensor in live]

    @th.no_grad()
    def scale(self, fraction: float) -> None:
        """Set the tensors to old + fraction * (new - old); integer tensors (counters) stay."""
        for tensor, old, new in zip(self._live, self._old, self._new, strict=True):
            if tensor.is_floating_point():
                tensor.copy_(old + fraction * (new - old))

    @th.no_grad()
    def undo(self) -> None:
        """Set the tensors to their old values, bit for bit."""
        for tensor, old in zip(self._live, self._old, strict=True):
            tensor.copy_(old)


class PolicySnapshot:
    """A copy of a policy's parameters and buffers that can be put back for a moment.

    Cheaper and safer than a second module: no random number is drawn, and policies that cannot be deep-copied
    (state-dependent noise keeps tensors with a graph) work too.

    :param policy: the policy to remember
    :ivar parameters: its live parameters, listed once: the policy looks them up in its modules each time
    """

    def __init__(self, policy: th.nn.Module) -> None:
        self._policy = policy
        self.parameters = list(policy.parameters())
        self._live = list(chain(self.parameters, policy.buffers()))
        self._old = [tensor.detach().clone() for tensor in self._live]

    @contextmanager
    def installed(self) -> Generator[None, None, None]:
        """Let the policy compute as it collected the rollout inside the ``with`` block, without gradient.

        In evaluation mode: otherwise batch normalisation would write into the old values, and dropout would draw.
        """
        current = [tensor.data for tensor in self._live]
        was_training = self._policy.training
        self._policy.train(False)
        self._assign(self._old)
        try:
            with th.no_grad():
                yield
        finally:
            self._assign(current)
            self._policy.train(was_training)

    def step_of(self, tensors: Iterable[th.Tensor]) -> ParameterStep:
        """Return the step that ``tensors``, some of the policy's, have made since the snapshot."""
        wanted = {id(tensor) for tensor in tensors}
        pairs = [(live, old) for live, old in zip(self._live, self._old, strict=True) if id(live) in wanted]
        return ParameterStep([live for live, _ in pairs], [old for _, old in pairs])

    def _assign(self, values: list[th.Tensor]) -> None:
        for tensor, value in zip(self._live, values, strict=True):
            tensor.data = value
