"""The optional extension in C: whether it is there, whether it is wanted, and which instructions it uses."""

import importlib
import os
from typing import Any

VARIABLE = "SB3_PPO_VARIANTS_KERNELS"
"""Environment variable: "numpy" switches the extension off; unset or empty leaves it on."""

native: Any = None
"""The extension, or None where it is not installed. native/module.c says what its functions take."""

_PROBLEM = ""
try:
    native = importlib.import_module("sb3_ppo_variants._kernels")
except ImportError as error:
    _PROBLEM = str(error)


def why_not() -> str | None:
    """Return why the extension cannot be used, or None if it can.

    :raises ValueError: if the environment variable has a value that is not known
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "numpy"):
        raise ValueError(f"the environment variable {VARIABLE} is {wanted!r}; set it to 'numpy', or not at all")
    if wanted:
        return f"the environment variable {VARIABLE} is {wanted!r}"
    if native is None:
        return f"the compiled kernels were not built when the package was installed ({_PROBLEM})"
    return None


def instructions() -> str:
    """Return the best instruction set that this processor and the extension have in common."""
    return str(native.instruction_sets()[0])
