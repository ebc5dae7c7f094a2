"""Adam's faster form on the CPU, where it gives the same numbers."""

from collections.abc import Generator
from contextlib import contextmanager

import torch as th


@contextmanager
def batched_adam(optimizer: th.optim.Optimizer) -> Generator[None, None, None]:
    """Let Adam step over all tensors at once inside the ``with`` block.

    PyTorch does so by itself on a GPU. On the CPU its default walks through the tensors in Python, which takes
    longer and gives the same bits; its fused form is faster still, but rounds differently.

    :param optimizer: the policy's optimizer; left as it is unless it is exactly Adam with the choice left open
    """
    groups = [
        group
        for group in optimizer.param_groups
        if type(optimizer) is th.optim.Adam and group.get("foreach") is None and group.get("fused") is None
    ]
    for group in groups:
        group["foreach"] = True
    try:
        yield
    finally:
        for group in groups:
            group["foreach"] = None
