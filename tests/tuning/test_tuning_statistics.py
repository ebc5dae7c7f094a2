"""Statistics: golden numbers, an independent implementation, identities, and the degenerate cases."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sb3_ppo_variants.tuning import statistics
from sb3_ppo_variants.tuning.statistics import Estimate, Scores
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


@pytest.mark.slow
def test_nominal_interval_covers_the_truth_at_ten_seeds() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for repeat in range(400):
        estimate = statistics.iqm([rng.normal(size=10) for _ in range(3)], repeat)
        covered += not estimate.excludes(0.0)
    assert covered / 400 >= 0.91
