"""Write rliable_reference.json: what rliable makes of a few scores, for the cross-check in test_tuning_statistics.py.

rliable 1.2.0 needs releases of arch and pandas that do not go with this package, so it runs in an environment of its
own, apart from the tests:

    python -m venv .rliable && .rliable/bin/pip install rliable==1.2.0 'arch<8' 'pandas<3'
    .rliable/bin/python tests/tuning/rliable_reference.py
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rliable import library, metrics

REPETITIONS = 5000
TAUS = [0.0, 0.25, 0.5, 0.75, 1.0]


def main() -> None:
    np.random.seed(0)  # rliable resamples with numpy's global generator
    rng = np.random.default_rng(0)
    # (seeds, environments), as rliable has it; one environment is skewed, one at its ceiling
    left = np.column_stack([rng.normal(0.8, 0.2, 10), rng.beta(2, 5, 10), np.minimum(1.05, rng.normal(1.0, 0.1, 10))])
    right = np.column_stack([rng.normal(0.6, 0.2, 10), rng.beta(2, 4, 10), np.minimum(1.05, rng.normal(0.9, 0.1, 10))])
    left, right = left.round(6), right.round(6)

    def iqm(scores: np.ndarray) -> np.ndarray:
        return np.array([metrics.aggregate_iqm(scores)])

    def improvement(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.array([metrics.probability_of_improvement(x, y)])

    points, intervals = library.get_interval_estimates({"left": left}, iqm, reps=REPETITIONS)
    chance, chances = library.get_interval_estimates({"both": (left, right)}, improvement, reps=REPETITIONS)
    profiles, bands = library.create_performance_profile({"left": left}, np.array(TAUS), reps=REPETITIONS)
    content = {
        "made_with": {name: version(name) for name in ("rliable", "arch", "numpy", "scipy")},
        "left": left.T.tolist(),
        "right": right.T.tolist(),
        "iqm": [float(points["left"][0]), *intervals["left"][:, 0].tolist()],
        "probability_of_improvement": [float(chance["both"][0]), *chances["both"][:, 0].tolist()],
        "taus": TAUS,
        "profile": profiles["left"].tolist(),
        "profile_bands": bands["left"].tolist(),
    }
    path = Path(__file__).with_name("rliable_reference.json")
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
