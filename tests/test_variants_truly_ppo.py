"""TrulyPPO: its three methods, their defaults, and what makes each one differ from the others."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import SETTINGS, assert_same_run, mostly_slow, ppo, train

from sb3_ppo_variants import KLPenaltyPPO, TrulyPPO
from sb3_ppo_variants.testing import BOX, VECTOR, make_env
from sb3_ppo_variants.update_parts.array_batch import ArrayBatch
from sb3_ppo_variants.update_parts.minibatch import MiniBatch

SAMPLE = ["discrete", "box", "dict, multi-discrete", "state-dependent noise, value clip"]

RATIO = np.array([1.1, 1.3, 0.7, 0.9, 1.3, 0.7])
ADVANTAGES = np.array([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
KL = np.array([0.01, 0.05, 0.05, 0.05, 0.05, 0.01])


def model(**arguments: Any) -> TrulyPPO:
    return TrulyPPO("MlpPolicy", make_env(VECTOR, BOX), n_steps=32, batch_size=16, seed=0, **arguments)


def tensor_batch() -> MiniBatch:
    """Six samples; the KL is a leaf of its own."""
    log_prob = th.tensor(np.log(RATIO), requires_grad=True)
    zeros = th.zeros(6, dtype=th.float64)
    batch = MiniBatch(
        actions=zeros, advantages=th.tensor(ADVANTAGES), returns=zeros, old_values=zeros, old_log_prob=zeros,
        values=zeros, log_prob=log_prob, entropy=None, distribution=None, clip_range=0.2, clip_range_vf=None,
    )  # fmt: skip
    batch.__dict__["kl"] = th.tensor(KL, requires_grad=True)
    return batch


def array_batch() -> ArrayBatch:
    return ArrayBatch(
        actions=np.zeros((6, 1)), advantages=ADVANTAGES, old_log_prob=np.zeros(6), log_ratio=np.log(RATIO),
        ratio=RATIO, clip_range=0.2, kl=KL,
    )  # fmt: skip


def slopes(variant: TrulyPPO) -> tuple[np.ndarray, np.ndarray]:
    """d(surrogate - penalty) by log r and by the KL, from autograd; equal to the engine's slopes."""
    batch = tensor_batch()
    objective = variant._surrogate(batch)
    penalty = variant._penalty(batch)
    if penalty is not None:
        objective = objective - penalty
    by_ratio, by_kl = th.autograd.grad(objective.sum(), [batch.log_prob, batch.kl], allow_unused=True)
    by_ratio, by_kl = by_ratio.numpy(), np.zeros(6) if by_kl is None else by_kl.numpy()
    np.testing.assert_allclose(variant._surrogate_slope(array_batch()), by_ratio, rtol=1e-12)
    kl_slope = variant._kl_slope(array_batch())
    np.testing.assert_allclose(np.zeros(6) if kl_slope is None else kl_slope, by_kl, rtol=1e-12)
    return by_ratio, by_kl


# Triggered by the KL: the second sample (KL 0.05, gains) and the fourth (a bad action made less likely)
def test_truly_ppo_rolls_back_on_the_kl() -> None:
    by_ratio, by_kl = slopes(model())
    np.testing.assert_allclose(by_ratio, RATIO * ADVANTAGES)
    np.testing.assert_allclose(by_kl, [0, -5, 0, -5, 0, 0])


def test_a_rollback_of_zero_with_the_kl_trigger_is_tr_ppo() -> None:
    by_ratio, by_kl = slopes(model(rollback_coef=0))
    np.testing.assert_allclose(by_ratio / RATIO, [1, 0, 1, 0, -1, -1])
    np.testing.assert_allclose(by_kl, 0)


def test_the_ratio_trigger_is_ppo_rb() -> None:
    by_ratio, by_kl = slopes(model(trigger="ratio"))
    np.testing.assert_allclose(by_ratio / RATIO, [1, -0.3, 1, -1, -1, 0.3])
    np.testing.assert_allclose(by_kl, 0)


def test_own_values_replace_the_defaults() -> None:
    np.testing.assert_allclose(slopes(model(rollback_coef=0.4, kl_delta=0.005))[1], [-0.4, -0.4, 0, -0.4, 0, -0.4])
    np.testing.assert_allclose(slopes(model(trigger="ratio", rollback_coef=1.0))[0] / RATIO, [1, -1, 1, -1, -1, 1])


@pytest.mark.parametrize(
    ("arguments", "name"),
    mostly_slow(
        [(arguments, name) for arguments in ({"rollback_coef": 0}, {}) for name in SAMPLE],
        [({"rollback_coef": 0}, "discrete"), ({}, "box")],
    ),
)
def test_a_trigger_out_of_reach_leaves_the_unclipped_objective(name: str, arguments: dict[str, float]) -> None:
    ours = train(TrulyPPO, SETTINGS[name], kl_delta=1e9, clip_range=1e9, **arguments)
    assert_same_run(ours, ppo(name, clip_range=1e9))


@pytest.mark.parametrize("name", mostly_slow(SAMPLE, ["discrete", "box"]))
def test_a_ratio_rollback_of_zero_is_ppo(name: str) -> None:
    ours = train(TrulyPPO, SETTINGS[name], trigger="ratio", rollback_coef=0)
    theirs = ppo(name)
    for parameter, expected in zip(ours.model.policy.parameters(), theirs.model.policy.parameters(), strict=True):
        th.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", mostly_slow(["discrete", "state-dependent noise, value clip", "box"], ["box"]))
def test_the_rollback_holds_the_policy_closer_than_the_flat_objective(name: str) -> None:
    hot, setting = (
        {"learning_rate": 3e-3, "n_steps": 64, "batch_size": 32, "n_epochs": 30},
        replace(SETTINGS[name], rollouts=1),
    )
    free = train(KLPenaltyPPO, setting, kl_coef=0, **hot).logs[-1]["train/kl"]
    flat, rolled_back = (
        train(TrulyPPO, setting, kl_delta=0.01, **hot, **own).logs[-1]["train/kl"] for own in ({"rollback_coef": 0}, {})
    )
    assert free > 3 * flat > 3 * rolled_back


@pytest.mark.parametrize("arguments", [{"trigger": "tv"}, {"rollback_coef": -0.1}, {"kl_delta": 0.0}])
def test_arguments_outside_their_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        model(**arguments)
