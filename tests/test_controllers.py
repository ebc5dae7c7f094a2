"""The feedback rules on fixed sequences of KLs, and what holds for any sequence."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sb3_ppo_variants.maths.controllers import steer_penalty, steer_step_size

# The rule of the KL-adaptive learning rate: factor 1.5, dead band 2, within [1e-5, 1e-2]
RATE = {"desired_kl": 0.01, "factor": 1.5, "band": 2.0, "low": 1e-5, "high": 1e-2}
# The rule of the KL penalty: factor 2, dead band 1.5
COEF = {"desired_kl": 0.01, "factor": 2.0, "band": 1.5, "low": 1e-4, "high": 1e4}


@pytest.mark.parametrize(
    ("value", "kl", "expected"),
    [
        (3e-4, 0.0201, 2e-4),
        (3e-4, 0.02, 3e-4),  # the edges belong to the dead band
        (3e-4, 0.01, 3e-4),
        (3e-4, 0.005, 3e-4),
        (3e-4, 0.0049, 4.5e-4),
        (3e-4, 1e-12, 4.5e-4),
        (3e-4, 0.0, 3e-4),  # the first minibatch of a rollout
        (3e-4, -1e-9, 3e-4),  # a KL of zero after rounding
        (3e-4, math.inf, 2e-4),
        (3e-4, math.nan, 3e-4),
        (1.2e-5, 1.0, 1e-5),
        (1e-5, 1.0, 1e-5),
        (8e-3, 0.001, 1e-2),
        (1e-2, 0.001, 1e-2),
    ],
)
def test_learning_rate_rule(value: float, kl: float, expected: float) -> None:
    assert steer_step_size(value, kl, **RATE) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("coef", "kl", "expected"),
    [
        (1.0, 0.0151, 2.0),
        (1.0, 0.015, 1.0),
        (1.0, 0.01, 1.0),
        (1.0, 0.0067, 1.0),
        (1.0, 0.0066, 0.5),
        (1.0, 0.0, 0.5),
        (1.0, math.inf, 2.0),
        (1.0, math.nan, 1.0),
        (9e3, 1.0, 1e4),
        (1e4, 1.0, 1e4),
        (1.5e-4, 0.001, 1e-4),
        (1e-4, 0.001, 1e-4),
    ],
)
def test_penalty_rule(coef: float, kl: float, expected: float) -> None:
    assert steer_penalty(coef, kl, **COEF) == pytest.approx(expected, rel=1e-12)


def test_a_sequence_of_kls() -> None:
    rate, rates = 1e-3, []
    for kl in (0.0, 0.03, 0.03, 0.012, 0.004, 0.004, 0.5):
        rate = steer_step_size(rate, kl, **RATE)
        rates.append(rate)
    assert rates == pytest.approx([1e-3, 1e-3 / 1.5, 1e-3 / 2.25, 1e-3 / 2.25, 1e-3 / 1.5, 1e-3, 1e-3 / 1.5])
    coef, coefs = 1.0, []
    for kl in (0.03, 0.03, 0.012, 0.001, 0.001, 0.001):
        coef = steer_penalty(coef, kl, **COEF)
        coefs.append(coef)
    assert coefs == [2.0, 4.0, 4.0, 2.0, 1.0, 0.5]


KLS = st.lists(st.floats(min_value=0) | st.just(math.nan), max_size=80)


@given(start=st.floats(1e-5, 1e-2), kls=KLS)
def test_no_sequence_leaves_the_bounds(start: float, kls: list[float]) -> None:
    rate, coef = start, 1e6 * start
    for kl in kls:
        rate = steer_step_size(rate, kl, **RATE)
        coef = steer_penalty(coef, kl, **COEF)
        assert 1e-5 <= rate <= 1e-2
        assert 1e-4 <= coef <= 1e4


@given(value=st.floats(1e-5, 1e-2), kl=st.floats(0, 10), more=st.floats(0, 10))
def test_a_larger_kl_never_gives_a_larger_step(value: float, kl: float, more: float) -> None:
    if kl > 0:  # zero means that nothing has been measured
        assert steer_step_size(value, kl + more, **RATE) <= steer_step_size(value, kl, **RATE)
    assert steer_penalty(value, kl + more, **COEF) >= steer_penalty(value, kl, **COEF)


@given(value=st.floats(1e-5, 1e-2), kl=st.floats(0, 10))
def test_a_factor_of_one_changes_nothing(value: float, kl: float) -> None:
    assert steer_step_size(value, kl, **(RATE | {"factor": 1.0})) == value
    assert steer_penalty(value, kl, **(COEF | {"factor": 1.0})) == max(value, 1e-4)
