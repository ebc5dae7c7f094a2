"""TRGPPO's bounds against the KL they come from, against direct optimisation, and against golden numbers."""

import numpy as np
import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import rel_entr
from torch.distributions import Bernoulli
from torch.distributions import kl_divergence as torch_kl

from sb3_ppo_variants.maths.clip_bounds import (
    Bounds,
    categorical_bounds,
    categorical_kl_delta,
    gaussian_bounds,
    gaussian_kl_delta,
)
from sb3_ppo_variants.maths.losses import bounded_surrogate

PROBABILITIES = np.concatenate([np.logspace(-6, -0.31, 60), 1 - np.logspace(-6, -0.31, 60)])


def binary_kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return rel_entr(p, q) + rel_entr(1 - p, 1 - q)


@pytest.mark.parametrize(
    ("probability", "lower", "upper"),
    [(0.05, 0.4996, 1.7380), (0.25, 0.7693, 1.2572), (0.5, 0.8593, 1.1407), (0.9, 0.9470, 1.0412)],
)
def test_golden_bounds_of_discrete_actions(probability: float, lower: float, upper: float) -> None:
    bounds = categorical_bounds(np.array([probability]), 0.01)
    assert (*bounds.lower, *bounds.upper) == pytest.approx((lower, upper), abs=1e-4)


@pytest.mark.parametrize("kl_delta", [1e-6, 1e-3, 0.01, 0.1, 1.0])
def test_at_both_bounds_the_kl_is_the_budget(kl_delta: float) -> None:
    lower, upper = categorical_bounds(PROBABILITIES, kl_delta)
    assert (upper > 1).all()
    assert (lower < 1).all()
    for q in (PROBABILITIES * lower, PROBABILITIES * upper):
        # A very (un)likely action may get a probability that floats cannot tell from 0 or 1
        tellable = (q > 1e-200) & (1 - q > 1e-9)
        assert tellable.sum() > 60
        np.testing.assert_allclose(binary_kl(PROBABILITIES, q)[tellable], kl_delta, rtol=1e-6, atol=1e-9)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1e-5, 2))
def test_less_likely_actions_get_wider_bounds(one: float, other: float, kl_delta: float) -> None:
    lower, upper = categorical_bounds(np.array(sorted((one, other))), kl_delta)
    assert 0 <= lower[0] <= lower[1] + 1e-12 <= 1 + 1e-12
    assert upper[0] >= upper[1] - 1e-12 >= 1 - 1e-12
    assert np.isfinite(upper).all()


def test_probabilities_of_zero_and_one_have_finite_bounds() -> None:
    lower, upper = categorical_bounds(np.array([0.0, 1.0]), 0.01)
    assert lower[1] == pytest.approx(np.exp(-0.01))
    assert upper[1] == pytest.approx(1.0)
    assert lower[0] == 0
    assert np.isfinite(upper[0])


def test_the_mask_is_that_of_the_binary_kl() -> None:
    # Divergence PPO (2602.04879) drops samples whose binary KL exceeds delta and that move away from the old policy
    rng = np.random.default_rng(0)
    p = rng.uniform(0.01, 0.99, 20_000)
    q = np.clip(p * np.exp(0.3 * rng.normal(size=p.size)), 1e-3, 1 - 1e-3)
    advantages = th.tensor(rng.normal(size=p.size))
    ratio = th.tensor(q / p, requires_grad=True)
    bounds = (th.tensor(bound) for bound in categorical_bounds(p, 0.01))
    (slope,) = th.autograd.grad(bounded_surrogate(ratio, advantages, *bounds).sum(), ratio)
    moves_away = (advantages > 0) == (ratio > 1)
    masked = (torch_kl(Bernoulli(th.tensor(p)), Bernoulli(th.tensor(q))) > 0.01) & moves_away
    assert 1000 < int(masked.sum()) < 19_000
    assert th.equal(slope == 0, masked)


def directly_optimised(z: np.ndarray, kl_delta: float) -> Bounds:
    """Extrema of the ratio over means and log variances, KL(new||old) within the budget, by SciPy."""
    size = len(z)

    def kl(x: np.ndarray) -> float:
        mean, log_variance = x[:size], x[size:]
        return float(0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum())

    def log_ratio(x: np.ndarray) -> float:
        mean, log_variance = x[:size], x[size:]
        return float(0.5 * (z**2 - (z - mean) ** 2 * np.exp(-log_variance) - log_variance).sum())

    def best(sign: int) -> float:
        values = []
        for seed in range(4):
            found = minimize(
                lambda x: -sign * log_ratio(x),
                np.sqrt(kl_delta / size) * np.random.default_rng(seed).normal(size=2 * size),
                bounds=[(-1, 1)] * (2 * size),
                constraints=[{"type": "ineq", "fun": lambda x: kl_delta - kl(x)}],
                options={"ftol": 1e-13, "maxiter": 500},
            )
            if kl(found.x) < kl_delta * (1 + 1e-6):
                values.append(-found.fun)
        return float(np.exp(sign * max(values)))

    return Bounds(np.array([best(-1)]), np.array([best(+1)]))


@pytest.mark.parametrize("kl_delta", [0.001, 0.03])
@pytest.mark.parametrize("distance", [0.0, 0.0123, 0.5, 1.234, 2.0, 3.3])
def test_gaussian_bounds_are_those_of_direct_optimisation(distance: float, kl_delta: float) -> None:
    expected = directly_optimised(np.array([distance]), kl_delta)
    for z in (distance, -distance):
        np.testing.assert_allclose(gaussian_bounds(np.array([[z]]), kl_delta), expected, rtol=1e-5)


def test_dimensions_that_are_equally_far_out_share_the_budget() -> None:
    z = np.array([0.7, -0.7, 0.7])
    expected = directly_optimised(z, 0.03)
    np.testing.assert_allclose(gaussian_bounds(z[None], 0.03), expected, rtol=1e-5)


def test_unequal_dimensions_get_bounds_within_the_budget() -> None:
    z = np.array([2.0, 0.1, 1.0])
    lower, upper = gaussian_bounds(z[None], 0.03)
    exact = directly_optimised(z, 0.03)
    assert exact.lower < lower < 1 < upper < exact.upper


@pytest.mark.parametrize(("dimensions", "kl_delta"), [(1, 0.029544), (3, 0.010645), (6, 0.0054296), (17, 0.0019415)])
def test_the_budget_of_a_clip_range_bounds_the_mean_action_by_it(dimensions: int, kl_delta: float) -> None:
    assert gaussian_kl_delta(0.2, dimensions) == pytest.approx(kl_delta, rel=1e-4)
    bounds = gaussian_bounds(np.zeros((1, dimensions)), gaussian_kl_delta(0.2, dimensions))
    assert bounds.upper == pytest.approx(1.2, rel=1e-9)


def test_the_budget_of_a_clip_range_bounds_an_even_chance_by_it() -> None:
    assert (*categorical_bounds(np.array([0.5]), categorical_kl_delta(0.2)),) == pytest.approx((0.8, 1.2), rel=1e-9)


@given(st.floats(0, 9), st.floats(0, 9), st.floats(1e-5, 1))
def test_actions_further_out_get_wider_bounds(one: float, other: float, kl_delta: float) -> None:
    near, far = sorted((one, other))
    bounds = gaussian_bounds(np.array([[near, near], [far, far]]), kl_delta)
    if near > 1.5:  # near the mean the upper bound has its minimum
        assert bounds.lower[1] <= bounds.lower[0] * (1 + 1e-9)
        assert bounds.upper[1] >= bounds.upper[0] * (1 - 1e-9)
    assert (bounds.lower > 0).all()
    assert (bounds.lower < 1).all()
    assert (bounds.upper > 1).all()
    assert np.isfinite(bounds.upper).all()


def test_without_a_budget_the_ratio_is_held_at_one() -> None:
    for kl_delta in (0.0, 1e-17):
        np.testing.assert_array_equal(categorical_bounds(np.array([0.3, 0.7]), kl_delta), np.ones((2, 2)))
        np.testing.assert_array_equal(gaussian_bounds(np.zeros((2, 3)), kl_delta), np.ones((2, 2)))


def test_float32_log_probabilities_are_precise_enough() -> None:
    p = np.exp(np.log(PROBABILITIES).astype(np.float32))
    exact = categorical_bounds(PROBABILITIES, 0.01)
    likely = PROBABILITIES < 0.999  # 1 - p loses its digits in float32
    for bound, expected in zip(categorical_bounds(p, 0.01), exact, strict=True):
        np.testing.assert_allclose(bound[likely], expected[likely], rtol=1e-4, atol=1e-30)
