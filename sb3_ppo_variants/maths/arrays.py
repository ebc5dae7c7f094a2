"""Arrays: their type, and whether they are finite."""

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]


def is_finite(array: FloatArray) -> bool:
    """Tell whether there is neither a NaN nor an infinity; a sum of squares is quick, but may itself overflow."""
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())
