"""TRGPPO: which samples are clipped, in every action space, and what it refuses."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import SETTINGS, mostly_slow, train
from stable_baselines3.common.utils import LinearSchedule
from torch.distributions import Bernoulli, Normal
from torch.distributions import kl_divergence as torch_kl

from sb3_ppo_variants import TRGPPO
from sb3_ppo_variants.testing import BOX, DISCRETE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, make_env
from sb3_ppo_variants.update_parts.array_batch import ArrayBatch
from sb3_ppo_variants.update_parts.minibatch import MiniBatch

ACTIONS = {"box": BOX, "discrete": DISCRETE, "multi-discrete": MULTI_DISCRETE, "multi-binary": MULTI_BINARY}


def minibatches(actions: spaces.Space[Any], **arguments: Any) -> tuple[TRGPPO, list[MiniBatch]]:
    """Return a model that has moved far in one update, and the minibatches that it saw."""
    seen: list[MiniBatch] = []

    class Watched(TRGPPO):
        def _losses(self, batch: MiniBatch) -> Any:
            seen.append(batch)
            return super()._losses(batch)

    settings = {"n_steps": 64, "batch_size": 64, "n_epochs": 8, "learning_rate": 1e-2, "seed": 0, "engine": "torch"}
    model = Watched("MlpPolicy", make_env(VECTOR, actions), **(settings | arguments))
    model.learn(64)
    return model, seen


def pulls(model: TRGPPO, batch: MiniBatch) -> np.ndarray:
    """Which samples still have a gradient."""
    leaf = batch.log_prob.detach().requires_grad_()
    (slope,) = th.autograd.grad(model._surrogate(replace(batch, log_prob=leaf)).sum(), leaf)
    return (slope != 0).numpy()


@pytest.mark.parametrize("name", ["discrete", "multi-discrete", "multi-binary"])
def test_a_sample_is_clipped_where_its_binary_kl_exceeds_the_budget(name: str) -> None:
    model, batches = minibatches(ACTIONS[name], kl_delta=0.02)
    for batch in batches:
        old, new = (Bernoulli(log_prob.detach().double().exp()) for log_prob in (batch.old_log_prob, batch.log_prob))
        moves_away = (batch.advantages > 0) == (batch.ratio > 1)
        clipped = (torch_kl(old, new) > 0.02) & moves_away
        np.testing.assert_array_equal(pulls(model, batch), ~clipped.numpy())
    assert clipped.any()


def test_gaussian_actions_far_from_the_mean_may_move_further() -> None:
    model, batches = minibatches(BOX, kl_delta=0.01)
    batch = batches[-1]
    old = batch.old_distribution.distribution
    assert isinstance(old, Normal)
    radius = ((batch.actions - old.mean) / old.stddev).norm(dim=1)
    moves_away = (batch.advantages > 0) == (batch.ratio > 1)
    clipped = ~pulls(model, batch)
    assert 0 < clipped.sum() < 64
    assert not (clipped & ~moves_away.numpy()).any()
    # At each distance, how far the ratio may be without being clipped: the bounds widen with it
    free = np.abs(batch.log_ratio.detach().numpy()) * ~clipped * moves_away.numpy()
    near, far = radius.numpy() < 1.2, radius.numpy() >= 1.2
    assert free[far].max() > free[near].max()


@pytest.mark.parametrize("name", ["box", "discrete"])
def test_without_a_budget_of_its_own_it_follows_the_clip_range(name: str) -> None:
    model, batches = minibatches(ACTIONS[name])
    assert batches[-1].clip_range == 0.2
    clipped = [64 - pulls(model, replace(batches[-1], clip_range=epsilon)).sum() for epsilon in (0.05, 0.2, 0.8)]
    assert clipped[0] > clipped[1] > clipped[2]


@pytest.mark.parametrize("kl_delta", [None, 0.01])
@pytest.mark.parametrize("name", ["box", "discrete", "multi-discrete"])
def test_the_slope_is_autograds(name: str, kl_delta: float | None) -> None:
    # A standard deviation that is far from 1, so that forgetting it shows
    own = {"policy_kwargs": {"log_std_init": -1.5}} if name == "box" else {}
    model, batches = minibatches(ACTIONS[name], kl_delta=kl_delta, **own)
    batch = batches[-1]
    leaf = batch.log_prob.detach().requires_grad_()
    (expected,) = th.autograd.grad(model._surrogate(replace(batch, log_prob=leaf)).sum(), leaf)
    gaussian = None
    if name == "box":
        old = batch.old_distribution.distribution
        gaussian = old.mean.numpy(), old.stddev.numpy()
    arrays = ArrayBatch(
        actions=batch.actions.numpy(), advantages=batch.advantages.numpy(), old_log_prob=batch.old_log_prob.numpy(),
        log_ratio=batch.log_ratio.detach().numpy(), ratio=batch.ratio.detach().numpy(), clip_range=batch.clip_range,
        old_gaussian=gaussian,
    )  # fmt: skip
    slope = model._surrogate_slope(arrays)
    assert slope.dtype == np.float32
    np.testing.assert_allclose(slope, expected, rtol=1e-6)
    assert (slope == 0).any()


def test_only_continuous_actions_need_the_old_distribution() -> None:
    assert [minibatches(space)[0].needs_old_distribution for space in ACTIONS.values()] == [True, False, False, False]


@pytest.mark.parametrize(
    ("over", "name"),  # the schedule ends at zero, or just below
    mostly_slow(
        itertools.product([1.0, 1.02], ["box", "discrete", "state-dependent noise, value clip"]),
        [(1.0, "discrete"), (1.02, "box")],
    ),
)
def test_a_clip_range_that_falls_to_zero_holds_the_ratios(name: str, over: float) -> None:
    run = train(TRGPPO, SETTINGS[name], clip_range=LinearSchedule(0.2, -0.2 * (over - 1), 1.0))
    assert run.logs[-1]["train/clip_range"] <= 0
    assert run.logs[-1]["train/zero_gradient_fraction"] > 0.1
    assert np.isfinite(run.logs[-1]["train/loss"])


def test_squashed_actions_are_refused_with_an_alternative() -> None:
    with pytest.raises(ValueError, match=r"TrulyPPO.*squash_output"):
        TRGPPO("MlpPolicy", make_env(VECTOR, BOX), use_sde=True, policy_kwargs={"squash_output": True})


def test_arguments_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="kl_delta"):
        TRGPPO("MlpPolicy", make_env(VECTOR, BOX), kl_delta=0.0)
    with pytest.raises(ValueError, match="clip_range"):
        TRGPPO("MlpPolicy", make_env(VECTOR, DISCRETE), clip_range=1.0)
    TRGPPO("MlpPolicy", make_env(VECTOR, DISCRETE), clip_range=1.0, kl_delta=0.01)
