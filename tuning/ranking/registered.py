"""What the registered configurations score on a study's test seeds: a study of its own, without tuning."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from ..study.extension import differences, listed, part_of
from .ranking_json import RankingJson, read_ranking

_SAME = ("environments", "environment_settings", "evaluation", "normalisation", "versions")


def registered_scores(folder: Path, tuned: RankingJson) -> dict[tuple[str, str], float]:
    """Mean normalised test scores of a study without tuning, by name and environment.

    :param folder: its results
    :param tuned: the ranking that they are held against; environments, test seeds and versions must be the same
    :raises ValueError: no finished study, a tuned one, or one that cannot be held against ``tuned``
    """
    ranking = read_ranking(folder)
    if ranking["protocol"]["budget"]["trials"]:
        raise ValueError(f"{folder} was tuned: give the results of the same study with rank --no-tune")
    found = differences(_conditions(tuned["protocol"], ranking), _conditions(ranking["protocol"], tuned))
    shown = listed(found, "in the tuned study", f"in {folder}")
    if shown:
        raise ValueError(f"{folder} cannot be held against the tuned study ({shown})")
    scores = {
        (line["algorithm"], env_id): fmean(run["normalised"] for run in runs)
        for line in [*ranking["ranking"], *ranking["unranked"]]
        for env_id, runs in line["scores"].items()
    }
    names = tuned["protocol"]["algorithms"]
    missing = [name for name in names if not any((name, env_id) in scores for env_id in tuned["environments"])]
    if missing:
        raise ValueError(f"{folder} has no test runs of {', '.join(missing)}")
    return scores


def _conditions(protocol: Mapping[str, Any], other: RankingJson) -> dict[str, Any]:
    part = part_of(protocol, other["protocol"])
    return {**{key: part.get(key) for key in _SAME}, "test seeds": part["seeds"]["test"]}
