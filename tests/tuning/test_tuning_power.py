"""What a study could have shown."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sb3_ppo_variants.tuning.ranking import power, statistics
from sb3_ppo_variants.tuning.ranking.power import detectable_difference, power_text
from sb3_ppo_variants.tuning.ranking.statistics import Scores
from sb3_ppo_variants.tuning.report.checklist import checklist


@pytest.fixture(autouse=True)
def _as_many_simulations_as_in_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "_STUDIES", 200)


def drawn(rng: np.random.Generator, mean: float, seeds: int) -> Scores:
    return [rng.normal(mean, spread, seeds) for spread in (0.1, 0.2)]


def test_a_difference_of_its_size_is_found_in_four_of_five_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the intervals of the ranking, in studies that are drawn anew."""
    monkeypatch.setattr(statistics, "RESAMPLES", 400)
    rng, seeds, studies = np.random.default_rng(0), 40, 100  # so many seeds that the runs stand for the distribution
    difference = detectable_difference(drawn(rng, 0.5, seeds), drawn(rng, 0.7, seeds), 0)
    assert difference is not None
    found = {
        factor: sum(
            statistics.iqm_difference(drawn(rng, 0.5 + factor * difference, seeds), drawn(rng, 0.5, seeds), study)
            .excludes(0.0)
            for study in range(studies)
        ) / studies
        for factor in (0.5, 1.0)
    }  # fmt: skip
    assert 0.65 < found[1.0] < 0.95
    assert found[0.5] < 0.5


def test_it_depends_on_the_spread_and_not_on_who_is_better() -> None:
    rng = np.random.default_rng(1)
    left, right = drawn(rng, 0.5, 10), drawn(rng, 0.5, 10)
    difference = detectable_difference(left, right, 0)
    assert difference is not None
    assert detectable_difference([sample + 3 for sample in left], right, 0) == pytest.approx(difference)
    assert detectable_difference([2 * sample for sample in left], [2 * sample for sample in right], 0) == (
        pytest.approx(2 * difference)
    )


def test_where_nothing_varies_it_cannot_be_told() -> None:
    ceiling, spread = [np.full(10, 0.4)], [np.linspace(0.1, 0.4, 10)]
    assert detectable_difference(ceiling, spread, 0) is None
    assert detectable_difference(spread, ceiling, 0) is None
    assert detectable_difference([np.array([0.4])], [np.array([0.5])], 0) is None


def test_the_checklist_states_it_of_the_best_that_is_no_baseline(finished_study: Path) -> None:
    ranking: dict[str, Any] = json.loads((finished_study / "ranking.json").read_text())
    (answer,) = [answer for answer in checklist(ranking) if "could have shown" in answer.claim]
    scores = {
        line["algorithm"]: [
            np.array([run["normalised"] for run in line["scores"][env_id]]) for env_id in ranking["environments"]
        ]
        for line in ranking["ranking"]
    }
    for reference in ("trpo", "ppo"):
        stated = float(answer.evidence.partition(f" from {reference}")[0].split()[-1])
        assert stated == pytest.approx(detectable_difference(scores["clip_ppo"], scores[reference], 0), rel=0.25)
    baselines = [line for line in ranking["ranking"] if line["algorithm"] != "clip_ppo"]
    assert power_text(ranking | {"ranking": baselines}) == ""
    assert not [answer for answer in checklist(ranking | {"ranking": []}) if "could have shown" in answer.claim]
