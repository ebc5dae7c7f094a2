"""Statistics: golden numbers, an independent implementation, identities, and the degenerate cases."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sb3_ppo_variants.tuning.ranking import statistics
from sb3_ppo_variants.tuning.ranking.statistics import Estimate, Scores
from scipy import stats


@pytest.fixture(autouse=True)
def _no_warnings(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 500)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def arrays(*samples: list[float]) -> Scores:
    return [np.array(sample) for sample in samples]


scores = st.lists(st.lists(st.floats(-1, 2), min_size=2, max_size=6), min_size=1, max_size=3).map(
    lambda samples: arrays(*samples)
)


def test_iqm_is_the_mean_of_the_middle_half_over_all_environments() -> None:
    assert statistics.iqm(arrays([0.0, 1.0, 2.0, 100.0], [-50.0, 3.0, 4.0, 5.0]), 0).value == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1.0, 2.0], [0.0, 0.5], 1.0),
        ([0.0, 0.5], [1.0, 2.0], 0.0),
        ([1.0, 1.0], [1.0, 1.0], 0.5),
        ([1.0, 3.0], [2.0, 2.0], 0.5),
        ([1.0, 2.0, 3.0], [2.0], 0.5),
        ([2.0, 2.0, 3.0], [2.0, 1.0], 5 / 6),
    ],
)
def test_probability_of_improvement_counts_pairs_and_halves_ties(left, right, expected) -> None:
    estimate = statistics.probability_of_improvement(arrays(left), arrays(right), 0)
    assert estimate.value == pytest.approx(expected)


def test_probability_of_improvement_averages_environments_not_pairs() -> None:
    better, worse = [1.0] * 10, [0.0] * 2
    estimate = statistics.probability_of_improvement(arrays(better, worse), arrays(worse, better), 0)
    assert estimate.value == 0.5


@given(scores)
@settings(max_examples=25, deadline=None)
def test_probability_agrees_with_mann_whitney(sample: Scores) -> None:
    others = [values[::-1] + 0.1 for values in sample]
    wins = [
        stats.mannwhitneyu(left, right, method="asymptotic").statistic / (len(left) * len(right))
        for left, right in zip(sample, others, strict=True)
    ]
    assert statistics.probability_of_improvement(sample, others, 0).value == pytest.approx(np.mean(wins))


@given(scores, scores)
@settings(max_examples=25, deadline=None)
def test_probabilities_of_two_sides_add_up_to_one(left: Scores, right: Scores) -> None:
    n = min(len(left), len(right))
    forth = statistics.probability_of_improvement(left[:n], right[:n], 0).value
    back = statistics.probability_of_improvement(right[:n], left[:n], 0).value
    assert forth + back == pytest.approx(1.0)


@given(scores)
@settings(max_examples=25, deadline=None)
def test_every_interval_holds_its_estimate_and_stays_in_the_range_of_the_scores(sample: Scores) -> None:
    estimate = statistics.iqm(sample, 0)
    everything = np.concatenate(sample)
    assert estimate.ci_low is not None
    assert estimate.ci_high is not None
    assert everything.min() - 1e-9 <= estimate.ci_low <= estimate.value
    assert estimate.value <= estimate.ci_high <= everything.max() + 1e-9


@given(scores, st.floats(-5, 5))
@settings(max_examples=25, deadline=None)
def test_shifting_all_scores_shifts_iqm_and_interval(sample: Scores, shift: float) -> None:
    plain, shifted = statistics.iqm(sample, 3), statistics.iqm([values + shift for values in sample], 3)
    assert shifted.value == pytest.approx(plain.value + shift, abs=1e-9)
    assert shifted.ci_low == pytest.approx(plain.ci_low + shift, abs=1e-9)


def test_seeds_are_resampled_within_their_environment() -> None:
    """Two environments far apart: pooled resampling would mix them and give a wide interval."""
    sample = arrays([0.0] * 5, [1.0] * 5)
    assert statistics.iqm(sample, 0) == Estimate(0.5, 0.5, 0.5)


def test_same_seed_same_interval_and_another_seed_another_one() -> None:
    sample = arrays(list(np.linspace(0, 1, 10)))
    assert statistics.iqm(sample, 1) == statistics.iqm(sample, 1)
    assert statistics.iqm(sample, 1) != statistics.iqm(sample, 2)


def test_clearly_different_algorithms_are_separable_and_equal_ones_are_not() -> None:
    low, high = arrays([0.0, 0.1, 0.2, 0.1, 0.0]), arrays([0.9, 1.0, 1.1, 1.0, 0.9])
    assert statistics.iqm_difference(high, low, 0).excludes(0.0)
    assert statistics.iqm_difference(low, high, 0).excludes(0.0)
    assert not statistics.iqm_difference(low, low, 0).excludes(0.0)
    noisy = arrays([0.0, 1.0, 0.0, 1.0]), arrays([0.1, 0.9, 0.2, 0.8])
    assert not statistics.iqm_difference(*noisy, 0).excludes(0.0)


def test_equal_scores_give_an_interval_without_width() -> None:
    equal = arrays([1.05] * 5)
    assert statistics.iqm(equal, 0) == Estimate(pytest.approx(1.05), pytest.approx(1.05), pytest.approx(1.05))
    assert statistics.probability_of_improvement(equal, equal, 0) == Estimate(0.5, 0.5, 0.5)
    difference = statistics.iqm_difference(equal, equal, 0)
    assert difference == Estimate(0.0, 0.0, 0.0)
    assert not difference.excludes(0.0)


def test_one_seed_has_a_value_and_no_interval() -> None:
    one, other = arrays([0.7]), arrays([0.2])
    assert statistics.iqm(one, 0) == Estimate(pytest.approx(0.7), None, None)
    assert statistics.probability_of_improvement(one, other, 0) == Estimate(1.0, None, None)
    assert not statistics.iqm_difference(one, other, 0).excludes(0.0)


def test_two_seeds_have_an_interval() -> None:
    assert statistics.iqm(arrays([0.0, 1.0]), 0) == Estimate(0.5, 0.0, 1.0)


def test_different_environments_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same environments, got 1 and 2"):
        statistics.iqm_difference(arrays([0.0, 1.0]), arrays([0.0, 1.0], [0.0, 1.0]), 0)


REFERENCE = json.loads(Path(__file__).with_name("rliable_reference.json").read_text())


@pytest.fixture
def plain_percentiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interval that rliable has: 95 % of the resamples."""
    monkeypatch.setattr(statistics, "percentile_level", lambda seeds: statistics.CONFIDENCE)
    monkeypatch.setattr(statistics, "RESAMPLES", 20_000)


def test_rliable_has_the_same_iqm_and_percentiles(plain_percentiles: None) -> None:
    estimate = statistics.iqm(arrays(*REFERENCE["left"]), 0)
    value, low, high = REFERENCE["iqm"]
    assert estimate.value == pytest.approx(value, abs=1e-9)
    assert (estimate.ci_low, estimate.ci_high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))


def test_rliable_has_the_same_probability_of_improvement(plain_percentiles: None) -> None:
    samples = arrays(*REFERENCE["left"]), arrays(*REFERENCE["right"])
    estimate = statistics.probability_of_improvement(*samples, 0)
    value, low, high = REFERENCE["probability_of_improvement"]
    assert estimate.value == pytest.approx(value, abs=1e-9)
    assert (estimate.ci_low, estimate.ci_high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))


def test_rliable_has_the_same_performance_profile(plain_percentiles: None) -> None:
    profile = statistics.performance_profile(arrays(*REFERENCE["left"]), REFERENCE["taus"], 0)
    assert profile.value == pytest.approx(REFERENCE["profile"], abs=1e-9)
    assert [profile.ci_low, profile.ci_high] == [pytest.approx(band, abs=0.035) for band in REFERENCE["profile_bands"]]


def test_intervals_are_wider_than_rliables_as_few_seeds_demand() -> None:
    estimate = statistics.iqm(arrays(*REFERENCE["left"]), 0)
    _, low, high = REFERENCE["iqm"]
    assert estimate.ci_low is not None
    assert estimate.ci_high is not None
    assert 1.1 < (estimate.ci_high - estimate.ci_low) / (high - low) < 1.4


def test_the_level_of_the_percentiles_falls_to_the_nominal_one_with_many_seeds() -> None:
    levels = [statistics.percentile_level(seeds) for seeds in (2, 3, 5, 10, 20, 1000)]
    assert levels == sorted(levels, reverse=True)
    assert levels[3] == pytest.approx(0.983, abs=0.001)  # Hesterberg's table: 0.9914 on each side at n = 10
    assert levels[-1] == pytest.approx(0.95, abs=0.001)


def test_a_profile_falls_from_all_runs_to_none_with_a_band_around_it() -> None:
    profile = statistics.performance_profile(arrays([0.2, 0.4, 0.6], [0.5, 0.5, 0.5]), [-1.0, 0.3, 0.5, 2.0], 0)
    assert profile.value == pytest.approx([1.0, 5 / 6, 1 / 6, 0.0])
    for value, low, high in zip(profile.value, profile.ci_low, profile.ci_high, strict=True):
        assert low is not None
        assert high is not None
        assert 0.0 <= low <= value <= high <= 1.0
    assert (profile.ci_low[0], profile.ci_high[-1]) == (1.0, 0.0)
    assert statistics.performance_profile(arrays([0.2]), [0.1], 0).ci_low == [None]


def test_rank_probabilities_share_what_is_equal_and_add_up() -> None:
    best, worst, twin = [1.0, 1.1, 1.2], [0.0, 0.1, 0.2], [0.0, 0.0, 0.0]
    table = statistics.rank_probabilities({"a": arrays(best), "b": arrays(worst)}, 0)
    assert table == {"a": [1.0, 0.0], "b": [0.0, 1.0]}
    equal = statistics.rank_probabilities({"a": arrays(twin), "b": arrays(best), "c": arrays(twin)}, 0)
    assert equal == {"a": [0.0, 0.5, 0.5], "b": [1.0, 0.0, 0.0], "c": [0.0, 0.5, 0.5]}
    close = statistics.rank_probabilities({"a": arrays([0.0, 1.0, 2.0]), "b": arrays([0.1, 1.1, 2.1])}, 0)
    assert 0.5 < close["b"][0] < 1.0
    assert np.sum(list(close.values()), axis=0) == pytest.approx([1.0, 1.0])
    assert np.sum(list(close.values()), axis=1) == pytest.approx([1.0, 1.0])


def test_p_values_agree_with_scipys_permutation_test() -> None:
    rng = np.random.default_rng(3)
    left, right = rng.normal(0.6, 1, 10), rng.normal(0, 1, 10)
    theirs = stats.permutation_test(
        (left, right),
        lambda x, y, axis: stats.trim_mean(x, 0.25, axis=axis) - stats.trim_mean(y, 0.25, axis=axis),
        vectorized=True,
        n_resamples=4000,
        rng=np.random.default_rng(0),
    ).pvalue
    assert statistics.permutation_p_value([left], [right], 0) == pytest.approx(theirs, abs=0.06)


def test_p_values_of_equal_and_of_far_apart_scores() -> None:
    low, high = arrays([0.0] * 5, [0.1] * 5), arrays([1.0] * 5, [1.1] * 5)
    assert statistics.permutation_p_value(low, low, 0) == 1.0
    assert statistics.permutation_p_value(low, high, 0) == pytest.approx(1 / 501, abs=0.01)


def test_seeds_are_dealt_out_within_their_environment() -> None:
    """Dealt out over both environments, a difference of 0.1 would drown in the gap between them."""
    left, right = arrays([0.1] * 5, [9.1] * 5), arrays([0.0] * 5, [9.0] * 5)
    assert statistics.permutation_p_value(left, right, 0) < 0.02


def test_holms_correction_is_the_textbooks() -> None:
    corrected = statistics.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == {name: pytest.approx(p) for name, p in {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}.items()}
    assert statistics.holm({"a": 0.5, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert statistics.holm({}) == {}


def ceiling(rng: np.random.Generator) -> Any:
    """Most runs at the ceiling, as on CartPole."""
    return np.where(rng.random(10) < 0.6, 1.05, rng.uniform(0, 1.05, 10))


SIMULATED: dict[str, tuple[Callable[[np.random.Generator], Any], int]] = {
    "normal": (lambda rng: rng.normal(size=10), 1),
    "normal on three environments": (lambda rng: rng.normal(size=10), 3),
    "skewed": (lambda rng: rng.lognormal(sigma=0.8, size=10), 1),
    "skewed on three environments": (lambda rng: rng.beta(6, 1.2, size=10), 3),
    "at a ceiling": (ceiling, 1),
}


def coverage(name: str, repeats: int) -> float:
    """Share of the intervals of ten seeds that hold the IQM of a great many."""
    draw, environments = SIMULATED[name]
    rng = np.random.default_rng(1)
    truth = float(stats.trim_mean(np.concatenate([draw(rng) for _ in range(40_000)]), 0.25))
    hits = 0
    for repeat in range(repeats):
        estimate = statistics.iqm([draw(rng) for _ in range(environments)], repeat)
        hits += not estimate.excludes(truth)
    return hits / repeats


@pytest.mark.parametrize("name", ["normal", "at a ceiling"])
def test_nominal_intervals_of_ten_seeds_cover(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 400)
    assert coverage(name, 200) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("name", SIMULATED)
def test_nominal_intervals_of_ten_seeds_cover_93_percent(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 2000)
    assert coverage(name, 2000) >= 0.93
