"""The global random generators: Python's, NumPy's, PyTorch's."""

import random
from typing import Any

import numpy as np
import torch as th

from sb3_ppo_variants.resume.values import decode, encode


def read() -> Any:
    """Return the states of the generators as JSON; those of CUDA only if this process uses it."""
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": th.get_rng_state(),
    }
    if th.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states["cuda"] = th.cuda.get_rng_state_all()
    return encode(states)


def restore(content: Any) -> None:
    """Set the generators to states that :func:`read` returned."""
    states = decode(content)
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    th.set_rng_state(states["torch"])
    if th.cuda.is_available():
        for device, state in enumerate(states.get("cuda", [])[: th.cuda.device_count()]):
            th.cuda.set_rng_state(state, device)
