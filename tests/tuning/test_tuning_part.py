"""A ranking on some of its environments."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from sb3_ppo_variants.tuning.ranking import statistics
from sb3_ppo_variants.tuning.ranking.comparisons import DIFFERENCE, IMPROVEMENT, compared
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
    whole = iqm_on(ranking, unranked, ranking["environments"])
    assert (whole.value, whole.ci_low, whole.ci_high) == (first["iqm"], first["ci_low"], first["ci_high"])


def test_a_pair_has_the_same_figures_from_both_sides(finished_study: Path) -> None:
    ranking = read_ranking(finished_study)
    lines = {line["algorithm"]: line for line in ranking["ranking"]}
    assert {"trpo", "ppo"} < lines.keys()
    for first, second in permutations(lines, 2):
        there = difference_on(ranking, lines[first], lines[second], ranking["environments"])
        back = difference_on(ranking, lines[second], lines[first], ranking["environments"])
        assert there.ci_low is not None
        assert there.ci_high is not None
        assert (back.value, back.ci_low, back.ci_high) == (-there.value, -there.ci_high, -there.ci_low)
        if second in ("trpo", "ppo"):
            assert vars(there) == lines[first][f"difference_from_{second}"]
            assert there.excludes(0.0) == lines[first][f"separable_from_{second}"]


def test_algorithms_with_equal_scores_have_equal_figures() -> None:
    rng = np.random.default_rng(5)
    scores, of_the_reference = [rng.normal(size=9)], [rng.normal(size=9)]
    for figure in (DIFFERENCE, IMPROVEMENT):
        for reference, names in (("trpo", ("clip_ppo", "spo", "ppo")), ("ppo", ("clip_ppo", "spo"))):
            equal = {compared(figure, 3, (name, reference), scores, of_the_reference) for name in names}
            assert len(equal) == 1, (figure.label, reference)


def test_chances_of_a_pair_add_up_to_one() -> None:
    rng = np.random.default_rng(5)
    one, other = [rng.normal(size=9)], [rng.normal(size=9)]
    there = compared(IMPROVEMENT, 3, ("ppo", "spo"), one, other)
    back = compared(IMPROVEMENT, 3, ("spo", "ppo"), other, one)
    assert there.ci_low is not None
    assert there.ci_high is not None
    assert (1 - there.value, 1 - there.ci_high, 1 - there.ci_low) == pytest.approx(tuple(vars(back).values()))
    assert there != compared(IMPROVEMENT, 4, ("ppo", "spo"), one, other), "the study's seed has no say"
