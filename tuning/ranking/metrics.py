"""What one run is worth: its final score, its sample efficiency, its score after a number of seconds.

All are normalised (random policy 0, reference 1). A failed run has the floor in each of them. The curve is taken to
begin at 0, the random policy, which stands for the untrained network, and to be straight between two checkpoints.
"""

import numpy as np
import scipy  # its parts are imported when they are used

from ..runs.cell import CellResult
from ..study.scales import FLOOR, Scale


def area_under_curve(result: CellResult, scale: Scale, steps: int) -> float:
    """Mean normalised score over the training steps: the area under the learning curve, divided by ``steps``.

    The last score holds for the steps that are left when the budget is no whole number of rollouts.

    :param result: of a run with a learning curve
    :param scale: how its returns are normalised
    :param steps: budget of the run
    """
    if result.status == "failed":
        return FLOOR
    x = [0, *(point.steps for point in result.curve), steps]
    y = [0.0, *_scores(result, scale), scale.normalise(result.curve[-1].score)]
    return float(scipy.integrate.trapezoid(y, x)) / steps


def score_after(result: CellResult, scale: Scale, seconds: float) -> float:
    """Normalised score that the run had after ``seconds`` of training; its final one when it was done by then.

    :param result: of a run with a learning curve
    :param scale: how its returns are normalised
    :param seconds: training time, evaluation not counted, >= 0
    """
    if result.status == "failed":
        return FLOOR
    return float(np.interp(seconds, [0.0, *(point.seconds for point in result.curve)], [0.0, *_scores(result, scale)]))


def _scores(result: CellResult, scale: Scale) -> list[float]:
    return [scale.normalise(point.score) for point in result.curve]
