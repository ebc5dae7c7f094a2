"""What a study of this size could have shown: its power, simulated on its own runs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..study.seeds import stream_seed
from .part import scores_on
from .results import REFERENCES
from .statistics import Scores, difference_of_iqms, percentile_level

_POWER = 0.8
_STUDIES = 200
_RESAMPLES = 200


def detectable_difference(scores: Scores, others: Scores, seed: int) -> float | None:
    """Smallest true difference of two IQMs that four of five studies with as many seeds would find separable.

    Studies are drawn from the runs of both, which stand for what either would score on further seeds, and each is
    given its interval. A larger difference would only shift an interval, so the answer is read off the lower ends.

    :param scores: one array of shape (seeds,) for each environment
    :param others: likewise, the same environments in the same order
    :param seed: of the simulation
    :return: None where one seed leaves no interval, or where all runs of one side are equal, as at a score's ceiling:
        then nothing says how much further seeds would vary
    """
    n = len(scores)
    samples = [np.asarray(sample, np.float64) for sample in (*scores, *others)]
    seeds = min(len(sample) for sample in samples)
    if seeds < 2 or any(all(np.ptp(sample) == 0 for sample in side) for side in (samples[:n], samples[n:])):
        return None
    rng = np.random.default_rng(seed)
    tail = 50 * (1 - percentile_level(seeds))
    lower_ends = []
    for _ in range(_STUDIES):
        study = [rng.choice(sample, len(sample)) for sample in samples]
        drawn = [sample[rng.integers(len(sample), size=(_RESAMPLES, len(sample)))] for sample in study]
        lower_ends.append(np.percentile(difference_of_iqms(drawn, n, axis=-1), tail))
    return float(difference_of_iqms(samples, n, axis=-1) - np.quantile(lower_ends, 1 - _POWER))


def power_text(ranking: Mapping[str, Any]) -> str:
    """``four of five such studies would find a true difference of 0.11 from trpo``, of the best that is no baseline.

    :param ranking: content of ``ranking.json``
    :return: empty where there is nobody to compare, or where it cannot be told
    """
    lines = {line["algorithm"]: line for line in ranking["ranking"]}
    best = next((name for name in lines if name not in REFERENCES), None)
    if best is None:
        return ""
    env_ids, seed = ranking["environments"], ranking["protocol"]["seed"]
    scores = {name: scores_on(lines[name], env_ids) for name in (best, *REFERENCES) if name in lines}
    parts = []
    for reference in (name for name in REFERENCES if name in scores):
        stream = stream_seed(seed, "power", best, reference)
        difference = detectable_difference(scores[best], scores[reference], stream)
        if difference is not None:
            parts.append(f"{difference:.2f} from {reference}")
    if not parts:
        return ""
    return (
        f"with runs that vary as these do, four of five studies of this size would find a true difference of {best} of "
        f"{' and of '.join(parts)} separable"
    )
