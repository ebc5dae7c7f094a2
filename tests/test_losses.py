"""The objectives: golden slopes, identities between them, and each slope against autograd."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch as th

from sb3_ppo_variants.maths import losses

Objective = Callable[[th.Tensor, th.Tensor, th.Tensor], th.Tensor]  # of log r, r, A
Slope = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Surrogate(NamedTuple):
    """An objective with its parameters filled in, its slope, and the ratios at which it has kinks."""

    objective: Objective
    slope: Slope
    kinks: tuple[float, ...] = (1.0,)


def _bounds(log_ratio: Any) -> tuple[Any, Any]:
    """Bounds that differ from sample to sample, around 0.8 and 1.2."""
    steps = 0.1 * np.cos(np.arange(len(log_ratio)))
    lower, upper = 0.8 + steps, 1.2 - steps
    return (th.tensor(lower), th.tensor(upper)) if isinstance(log_ratio, th.Tensor) else (lower, upper)


def _triggered(log_ratio: Any) -> Any:
    every_other = np.arange(len(log_ratio)) % 2 == 0
    return th.tensor(every_other) if isinstance(log_ratio, th.Tensor) else every_other


SURROGATES = {
    "clip": Surrogate(
        lambda _, r, a: losses.clipped_surrogate(r, a, 0.2, 0.2),
        lambda _, r, a: losses.clipped_surrogate_slope(r, a, 0.2, 0.2),
        (0.8, 1.2),
    ),
    "asymmetric clip": Surrogate(
        lambda _, r, a: losses.clipped_surrogate(r, a, 0.2, 0.4),
        lambda _, r, a: losses.clipped_surrogate_slope(r, a, 0.2, 0.4),
        (0.8, 1.4),
    ),
    "dual clip": Surrogate(
        lambda _, r, a: losses.dual_clip(losses.clipped_surrogate(r, a, 0.2, 0.2), a, 3.0),
        lambda _, r, a: losses.dual_clip_slope(losses.clipped_surrogate_slope(r, a, 0.2, 0.2), r, a, 3.0),
        (0.8, 1.2, 3.0),
    ),
    "unclipped": Surrogate(
        lambda _, r, a: losses.unclipped_surrogate(r, a),
        lambda _, r, a: losses.unclipped_surrogate_slope(r, a),
    ),
    "bounded": Surrogate(
        lambda log_r, r, a: losses.bounded_surrogate(r, a, *_bounds(log_r)),
        lambda log_r, r, a: losses.bounded_surrogate_slope(r, a, *_bounds(log_r)),
        (0.7, 0.9, 1.1, 1.3),
    ),
    "simple policy": Surrogate(
        lambda _, r, a: losses.simple_policy_surrogate(r, a, 0.2),
        lambda _, r, a: losses.simple_policy_surrogate_slope(r, a, 0.2),
        (0.8, 1.2),
    ),
    "rollback": Surrogate(
        lambda _, r, a: losses.rollback_surrogate(r, a, 0.2, 0.3),
        lambda _, r, a: losses.rollback_surrogate_slope(r, a, 0.2, 0.3),
        (0.8, 1.2),
    ),
    "flat where triggered": Surrogate(
        lambda log_r, r, a: losses.flat_where_triggered(r, a, _triggered(log_r)),
        lambda log_r, r, a: losses.flat_where_triggered_slope(r, a, _triggered(log_r)),
    ),
    "discovered": Surrogate(
        lambda log_r, r, a: losses.discovered_surrogate(log_r, r, a, 2.0, 0.6),
        lambda log_r, r, a: losses.discovered_surrogate_slope(log_r, r, a, 2.0, 0.6),
    ),
}


def gradient(surrogate: Surrogate, ratio: np.ndarray, advantages: np.ndarray) -> np.ndarray:
    """d(objective)/d(log r) by autograd, in float64."""
    log_ratio = th.tensor(np.log(ratio), requires_grad=True)
    objective = surrogate.objective(log_ratio, log_ratio.exp(), th.tensor(advantages))
    assert objective.shape == log_ratio.shape
    (result,) = th.autograd.grad(objective.sum(), log_ratio)
    return result.numpy()


def slope(surrogate: Surrogate, ratio: np.ndarray, advantages: np.ndarray) -> np.ndarray:
    # As autograd sees them, so that both take the same side of a kink
    log_ratio = np.log(ratio)
    return surrogate.slope(log_ratio, th.tensor(log_ratio).exp().numpy(), advantages)


@pytest.mark.parametrize("surrogate", SURROGATES.values(), ids=SURROGATES)
def test_the_slope_is_autograds_gradient_on_random_batches(surrogate: Surrogate) -> None:
    rng = np.random.default_rng(0)
    for spread in (0.05, 0.3, 1.5):
        ratio, advantages = np.exp(spread * rng.normal(size=500)), rng.normal(size=500)
        np.testing.assert_allclose(
            slope(surrogate, ratio, advantages), gradient(surrogate, ratio, advantages), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("surrogate", SURROGATES.values(), ids=SURROGATES)
def test_the_slope_is_autograds_gradient_on_both_sides_of_the_kinks(surrogate: Surrogate) -> None:
    near = [kink * (1 + side * 1e-7) for kink in (1.0, *surrogate.kinks) for side in (-1, 1)]
    ratio, advantages = (grid.ravel() for grid in np.meshgrid(near, [-2.5, -1.0, 1.0, 2.5]))
    np.testing.assert_allclose(
        slope(surrogate, ratio, advantages), gradient(surrogate, ratio, advantages), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", [name for name in SURROGATES if name != "bounded"])  # float64 bounds in this file
def test_the_slope_keeps_the_dtype_of_the_engine(name: str) -> None:
    log_ratio = np.linspace(-1, 1, 9, dtype=np.float32)
    assert SURROGATES[name].slope(log_ratio, np.exp(log_ratio), -log_ratio).dtype == np.float32


# Slopes d(objective)/dr divided by A, at these ratios
GOOD, BAD = (0.5, 1.1, 1.5, 2.0, 4.0), (0.5, 0.9, 1.5, 2.0, 4.0)
GOLDEN = {
    "clip": ((1, 1, 0, 0, 0), (0, 1, 1, 1, 1)),
    "dual clip": ((1, 1, 0, 0, 0), (0, 1, 1, 1, 0)),
    "asymmetric clip": ((1, 1, 0, 0, 0), (0, 1, 1, 1, 1)),
    "unclipped": ((1, 1, 1, 1, 1), (1, 1, 1, 1, 1)),
    "bounded": ((1, 1, 0, 0, 0), (0, 1, 1, 1, 1)),  # within [0.9, 1.1], [0.85, 1.15], [0.76, 1.24], ...
    "flat where triggered": ((0, 1, 0, 1, 0), (0, 1, 0, 1, 0)),
    "simple policy": ((3.5, 0.5, -1.5, -4, -14), (-1.5, 0.5, 3.5, 6, 16)),
    "rollback": ((1, 1, -0.3, -0.3, -0.3), (-0.3, 1, 1, 1, 1)),
    "discovered": ((1, 1, 0.94, 0.79, 0.18), (-0.34, 0.97, 1, 1, 1)),
}


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("by", [gradient, slope])
def test_golden_slopes(name: str, by: Callable[..., np.ndarray]) -> None:
    for advantage, ratios, expected in zip((1.0, -1.0), (GOOD, BAD), GOLDEN[name], strict=True):
        ratio = np.array(ratios)
        slopes = by(SURROGATES[name], ratio, np.full(5, advantage)) / ratio / advantage
        np.testing.assert_allclose(slopes, expected, atol=0.006)


# The KL trigger never fires at r = 1, see its own test
@pytest.mark.parametrize("name", [name for name in SURROGATES if name != "flat where triggered"])
def test_on_the_first_minibatch_every_surrogate_has_the_policy_gradient(name: str) -> None:
    advantages = np.random.default_rng(1).normal(size=50)
    np.testing.assert_allclose(gradient(SURROGATES[name], np.ones(50), advantages), advantages, rtol=1e-12)


def random_batch(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.exp(0.4 * rng.normal(size=400)), rng.normal(size=400)


def test_the_asymmetric_clip_differs_from_the_clip_above_one_only() -> None:
    ratio = np.array([0.7, 0.9, 1.1, 1.3, 1.5])
    for advantage, expected in ((1.0, [1, 1, 1, 1, 0]), (-1.0, [0, 1, 1, 1, 1])):
        slopes = gradient(SURROGATES["asymmetric clip"], ratio, np.full(5, advantage)) / ratio / advantage
        np.testing.assert_array_equal(slopes, expected)


def test_the_clip_is_a_penalty_on_each_sample_that_it_cuts() -> None:
    # KLip (2606.23932): r A + beta log pi(a|s), beta = -r A held fixed on the samples beyond the clip range
    ratio, advantages = random_batch(5)
    beyond = ((advantages > 0) & (ratio > 1.2)) | ((advantages < 0) & (ratio < 0.8))
    assert 50 < beyond.sum() < 350
    beta = th.tensor(np.where(beyond, -ratio * advantages, 0.0))
    penalised = Surrogate(lambda log_r, r, a: r * a + beta * log_r, slope=lambda *_: np.zeros(0))
    np.testing.assert_allclose(
        gradient(penalised, ratio, advantages), gradient(SURROGATES["clip"], ratio, advantages), atol=1e-14
    )


def test_a_rollback_of_zero_has_the_clips_gradient() -> None:
    ratio, advantages = random_batch(2)
    flat = Surrogate(
        lambda _, r, a: losses.rollback_surrogate(r, a, 0.2, 0.0),
        lambda _, r, a: losses.rollback_surrogate_slope(r, a, 0.2, 0.0),
    )
    expected = gradient(SURROGATES["clip"], ratio, advantages)
    np.testing.assert_array_equal(gradient(flat, ratio, advantages), expected)
    np.testing.assert_array_equal(slope(flat, ratio, advantages), expected)


def test_a_rollback_of_one_has_the_gradient_of_the_distance_to_the_edge() -> None:
    # Bounded Policy Optimization in its sign form: minimise |A| |r - (1 + eps sign A)|
    ratio, advantages = random_batch(3)
    full = Surrogate(lambda _, r, a: losses.rollback_surrogate(r, a, 0.2, 1.0), slope=lambda *_: np.zeros(0))
    distance = Surrogate(lambda _, r, a: -(a * (r - (1 + 0.2 * a.sign()))).abs(), slope=lambda *_: np.zeros(0))
    np.testing.assert_allclose(
        gradient(full, ratio, advantages), gradient(distance, ratio, advantages), rtol=1e-12, atol=1e-15
    )


def test_the_rollback_objective_has_no_jump_at_its_kinks() -> None:
    ratio = th.tensor([1.2 - 1e-9, 1.2 + 1e-9, 0.8 - 1e-9, 0.8 + 1e-9], dtype=th.float64)
    advantages = th.tensor([1.0, 1.0, -1.0, -1.0], dtype=th.float64)
    values = losses.rollback_surrogate(ratio, advantages, 0.2, 0.3)
    np.testing.assert_allclose(values, [1.2, 1.2, -0.8, -0.8], atol=1e-8)


@pytest.mark.parametrize("advantage", [2.0, -0.5])
@pytest.mark.parametrize("epsilon", [0.1, 0.2, 0.5])
def test_the_simple_policy_objective_is_largest_at_the_edge_of_the_clip_range(advantage: float, epsilon: float) -> None:
    ratio = th.linspace(0.01, 3, 2000, dtype=th.float64)
    values = losses.simple_policy_surrogate(ratio, th.full_like(ratio, advantage), epsilon)
    assert float(ratio[values.argmax()]) == pytest.approx(1 + epsilon * np.sign(advantage), abs=2e-3)


def test_equal_bounds_for_all_samples_are_the_clip() -> None:
    ratio, advantages = (th.tensor(array) for array in random_batch(4))
    bounds = th.full_like(ratio, 0.8), th.full_like(ratio, 1.3)
    ours = losses.bounded_surrogate(ratio, advantages, *bounds)
    assert th.equal(ours, losses.clipped_surrogate(ratio, advantages, 0.2, 0.3))


def test_the_kl_trigger_asks_for_a_large_kl_and_a_gain() -> None:
    kl = np.array([0.03, 0.03, 0.029, 0.03, 0.03])
    ratio = np.array([1.1, 0.9, 1.1, 0.9, 1.0])
    advantages = np.array([1.0, -1.0, 1.0, 1.0, 1.0])
    expected = [True, True, False, False, False]
    np.testing.assert_array_equal(losses.kl_trigger(kl, ratio, advantages, 0.03), expected)
    tensors = (th.tensor(array) for array in (kl, ratio, advantages))
    assert losses.kl_trigger(*tensors, 0.03).tolist() == expected


VALUE_LOSSES: dict[str, tuple[Any, Any]] = {
    "sb3": (losses.value_loss, losses.value_loss_slope),
    "max": (losses.max_clipped_value_loss, losses.max_clipped_value_loss_slope),
}


@pytest.mark.parametrize(("name", "clip_range_vf"), [("sb3", None), ("sb3", 0.3), ("max", 0.3)])
def test_the_value_slope_is_autograds_gradient(name: str, clip_range_vf: float | None) -> None:
    loss, loss_slope = VALUE_LOSSES[name]
    rng = np.random.default_rng(6)
    values, old_values, returns = rng.normal(size=(3, 300))
    leaf = th.tensor(values, requires_grad=True)
    total = 300 * loss(leaf, th.tensor(old_values), th.tensor(returns), clip_range_vf)
    (expected,) = th.autograd.grad(total, leaf)
    np.testing.assert_allclose(loss_slope(values, old_values, returns, clip_range_vf), expected, rtol=1e-9, atol=1e-12)


def test_golden_value_losses() -> None:
    values, old_values, returns = (th.tensor(v) for v in ([1.0, 0.0], [0.0, 0.0], [2.0, -0.1]))
    assert float(losses.value_loss(values, old_values, returns, None)) == pytest.approx(0.505)
    assert float(losses.value_loss(values, old_values, returns, 0.5)) == pytest.approx(1.13)
    # The clip makes the first error larger (1.5 against 1), so it is the one that counts
    assert float(losses.max_clipped_value_loss(values, old_values, returns, 0.5)) == pytest.approx(1.13)
    # An overshoot, which the clip would hide, counts in full
    over = losses.max_clipped_value_loss(th.tensor([3.0]), th.tensor([0.0]), th.tensor([0.0]), 0.5)
    assert float(over) == pytest.approx(9.0)
