"""A ranking on some of its environments."""

from pathlib import Path

import numpy as np
import pytest
from sb3_ppo_variants.tuning.ranking import statistics
from sb3_ppo_variants.tuning.ranking.part import difference_on, iqm_on, scores_on
from sb3_ppo_variants.tuning.ranking.ranking_json import read_ranking


def test_on_all_environments_the_numbers_are_the_rankings(finished_study: Path) -> None:
    ranking = read_ranking(finished_study)
    lines = {line["algorithm"]: line for line in ranking["ranking"]}
    for line in lines.values():
        whole = iqm_on(ranking, line, ranking["environments"][::-1])
        assert (whole.value, whole.ci_low, whole.ci_high) == (line["iqm"], line["ci_low"], line["ci_high"])
    difference = difference_on(ranking, lines["clip_ppo"], lines["trpo"], ranking["environments"])
    assert vars(difference) == lines["clip_ppo"]["difference_from_trpo"]


def test_on_one_environment_they_are_of_its_runs_alone(finished_study: Path) -> None:
    ranking = read_ranking(finished_study)
    first, second, *_ = ranking["ranking"]
    values = [run["normalised"] for run in first["scores"]["Acrobot-v1"]]
    (scores,) = scores_on(first, ["Acrobot-v1"])
    np.testing.assert_array_equal(scores, values)
    alone = iqm_on(ranking, first, ["Acrobot-v1"])
    assert alone.value == pytest.approx(statistics.iqm([np.array(values)], 0).value)
    assert alone.value != first["iqm"]
    others = iqm_on(ranking, second, ["Acrobot-v1"])
    assert difference_on(ranking, first, second, ["Acrobot-v1"]).value == pytest.approx(alone.value - others.value)
    unranked = {key: value for key, value in first.items() if key not in ("iqm", "ci_low", "ci_high")}
    assert iqm_on(ranking, unranked, ranking["environments"]).value == pytest.approx(first["iqm"])
