"""An interrupted run that is resumed equals one that was not, in everything that is left of it."""

from typing import Any

import numpy as np
import pytest
from resume_helpers import Run, StopAt, Stopped

PIECES = (
    "parameters",
    "optimizers",
    "adapted values",
    "counts of the model",
    "episode buffers",
    "wrappers of the vector",
    "wrappers of each environment",
    "last observations",
    "Python's generator",
    "NumPy's generator",
    "PyTorch's generator",
    "the action space's generator",
    "a callback's generator",
    "a callback's environment",
    "a callback's object",
    "calls of callbacks",
    "callbacks in callbacks in a list",
    "the callback of evaluations",
    "evaluations",
    "the best evaluation",
    "wrappers of the evaluations",
    "logs",
    "TensorBoard",
    "episodes in Monitor's files",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is left of an undisturbed run, and of one that was stopped twice."""
    folder = tmp_path_factory.mktemp("runs")
    undisturbed = Run(folder / "undisturbed").train()
    interrupted = Run(folder / "interrupted")
    for steps in (300, 500):
        with pytest.raises(Stopped):
            interrupted.train(StopAt(steps))
    return undisturbed, interrupted.train()


@pytest.mark.parametrize("piece", PIECES)
def test_a_resumed_run_ends_as_an_undisturbed_one(runs: tuple[dict[str, Any], ...], piece: str) -> None:
    undisturbed, interrupted = runs
    np.testing.assert_equal(interrupted[piece], undisturbed[piece])


def test_all_that_is_left_is_compared(runs: tuple[dict[str, Any], ...]) -> None:
    undisturbed, _ = runs
    assert set(PIECES) == undisturbed.keys()
    assert all(undisturbed.values())
    assert len(undisturbed["logs"]) == 3
    assert len(undisturbed["logs"]["progress.csv"]) > 3
    assert len(undisturbed["evaluations"]["timesteps"]) == 7
