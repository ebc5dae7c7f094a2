"""A published ranking on some of its environments, with the numbers of the whole where these are all."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..study.seeds import stream_seed
from .comparisons import DIFFERENCE, compared
from .ranking_json import RankingJson
from .statistics import Estimate, Scores, iqm


def scores_on(line: Mapping[str, Any], env_ids: Sequence[str]) -> Scores:
    """Return the normalised test scores of a line of a ranking, one array for each environment.

    :param line: of the ranking
    :param env_ids: which environments
    """
    return [np.array([run["normalised"] for run in line["scores"][env_id]]) for env_id in env_ids]


def iqm_on(ranking: RankingJson, line: Mapping[str, Any], env_ids: Sequence[str]) -> Estimate:
    """Return the interquartile mean of a line on some environments.

    :param ranking: which the line is from
    :param line: ranked or not
    :param env_ids: which environments
    """
    if "iqm" in line and set(env_ids) == set(ranking["environments"]):
        return Estimate(line["iqm"], line["ci_low"], line["ci_high"])
    return iqm(scores_on(line, env_ids), stream_seed(ranking["protocol"]["seed"], "bootstrap", "iqm"))


def difference_on(
    ranking: RankingJson, line: Mapping[str, Any], other: Mapping[str, Any], env_ids: Sequence[str]
) -> Estimate:
    """Return the interquartile mean of a line minus that of another, on some environments.

    :param ranking: which both are from
    :param line: ranked or not
    :param other: likewise
    :param env_ids: which environments; in the ranking's order, where these are all
    """
    names = (line["algorithm"], other["algorithm"])
    seed = ranking["protocol"]["seed"]
    return compared(DIFFERENCE, seed, names, scores_on(line, env_ids), scores_on(other, env_ids))
