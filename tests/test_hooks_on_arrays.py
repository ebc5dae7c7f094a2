"""One hook is enough: array engines differentiate hooks that have no slope beside them, or say why they cannot."""

from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import ARRAY_ENGINES, mostly_slow
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_ppo_variants import SPO, ClipPPO, KLPenaltyPPO, NonFiniteUpdateError
from sb3_ppo_variants.testing import BOX, DISCRETE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, make_env

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 24, "n_epochs": 3, "seed": 5, "device": "cpu", "ent_coef": 0.01}


def updated(cls: Any, engine: str, actions: Any = BOX, **kwargs: Any) -> Any:
    model = cls("MlpPolicy", make_env(VECTOR, actions, n_envs=2), engine=engine, **(SMALL | kwargs))
    return model.learn(64)


def assert_agree(cls: Any, actions: Any = BOX, **kwargs: Any) -> None:
    """Parameters and logs of one update are the same on all engines, up to rounding."""
    theirs = updated(cls, "torch", actions, **kwargs)
    logs = theirs.logger.name_to_value
    for engine in ARRAY_ENGINES:
        ours = updated(cls, engine, actions, **kwargs)
        for a, b in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
            assert th.allclose(a, b, atol=3e-6)
        for key in ("train/policy_gradient_loss", "train/value_loss", "train/loss", "train/zero_gradient_fraction"):
            assert ours.logger.name_to_value[key] == pytest.approx(logs[key], abs=1e-5), key


class Soft(ClipPPO):
    def _surrogate(self, batch: Any) -> th.Tensor:
        return batch.advantages * th.sigmoid(4.0 * (batch.ratio - 1))


class PullsBack(ClipPPO):
    needs_old_distribution = True

    def _penalty(self, batch: Any) -> th.Tensor:
        return 3.0 * batch.kl + batch.log_ratio**2


class LikesEntropy(ClipPPO):
    def _surrogate(self, batch: Any) -> th.Tensor:
        return super()._surrogate(batch) + 0.3 * batch.entropy**2 * (batch.advantages > 0)


class Absolute(ClipPPO):
    def _value_loss(self, batch: Any) -> th.Tensor:
        return th.nn.functional.huber_loss(batch.values, batch.returns)


class Everything(PullsBack, LikesEntropy, Absolute):
    pass


@pytest.mark.parametrize(
    ("cls", "actions"),
    mostly_slow(
        [
            *((Everything, actions) for actions in (BOX, DISCRETE, MULTI_DISCRETE, MULTI_BINARY)),
            *zip((Soft, PullsBack, LikesEntropy, Absolute), (BOX, DISCRETE, MULTI_BINARY, MULTI_DISCRETE), strict=True),
        ],
        lambda case: case[0] is not Everything or case[1] is BOX,
    ),
    ids=str,
)
def test_a_hook_without_a_slope_trains_as_in_pytorch(cls: Any, actions: Any) -> None:
    assert_agree(cls, actions)


def test_a_critic_of_its_own_has_the_hooks_too() -> None:
    assert_agree(Everything, critic_epochs=2, critic_batch_size=16)


@given(
    st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    st.sampled_from([th.tanh, th.sin, th.nn.functional.softplus]),
)
@settings(max_examples=4, deadline=None, derandomize=True)
def test_any_smooth_objective_trains_as_in_pytorch(coefficients: list[float], function: Any) -> None:
    class Smooth(ClipPPO):
        def _surrogate(self, batch: Any) -> th.Tensor:
            a, b, c, d = coefficients
            drawn = batch.advantages * function(a * batch.ratio + b) + c * batch.log_ratio**2 + d * batch.entropy
            # A gradient of nothing but rounding is made large by Adam: something always pulls
            return 3.0 * batch.advantages * batch.ratio + drawn

    assert_agree(Smooth, n_epochs=1)


def test_a_slope_of_an_older_class_is_not_taken_for_the_new_hook_s() -> None:
    class Bolder(SPO):
        def _surrogate(self, batch: Any) -> th.Tensor:
            return batch.ratio * batch.advantages

    assert_agree(Bolder)


def _reason(cls: Any, **kwargs: Any) -> str:
    with pytest.raises(ValueError, match="cannot run this model") as caught:
        cls("MlpPolicy", make_env(VECTOR, BOX), engine="numpy", **(SMALL | kwargs))
    assert updated(cls, "auto", **kwargs).engine_in_use == "torch"
    return str(caught.value)


def test_what_arrays_do_not_have_is_named_and_trained_in_pytorch() -> None:
    class ReadsDistribution(ClipPPO):
        def _penalty(self, batch: Any) -> th.Tensor:
            return batch.distribution.distribution.stddev.sum(dim=1)

    class AsksWhatItIs(ClipPPO):
        def _penalty(self, batch: Any) -> th.Tensor | None:
            return batch.log_ratio if isinstance(batch.distribution, str) else None

    class ReadsValues(ClipPPO):
        def _surrogate(self, batch: Any) -> th.Tensor:
            return batch.ratio * (batch.returns - batch.values)

    assert "batch.distribution" in _reason(ReadsDistribution)
    assert "batch.distribution" in _reason(AsksWhatItIs)
    assert "batch.values" in _reason(ReadsValues)


def test_a_hook_that_wants_whole_minibatches_runs_in_pytorch() -> None:
    class Counts(ClipPPO):
        def _surrogate(self, batch: Any) -> th.Tensor:
            assert len(batch.ratio) >= 8, "too few to take quantiles of"
            return super()._surrogate(batch)

    assert "a hook of Counts raises AssertionError on a few samples: too few" in _reason(Counts)


def test_a_hook_that_trains_more_than_the_minibatch_runs_in_pytorch() -> None:
    class Decays(ClipPPO):
        def _penalty(self, batch: Any) -> th.Tensor:
            weights = sum((parameter**2).sum() for parameter in self.policy.parameters())
            return 1e-3 * weights.expand(len(batch.advantages))

    assert "policy's parameters" in _reason(Decays)


@pytest.mark.parametrize("draw", [lambda: th.rand(()), lambda: th.tensor(np.random.rand())], ids=["torch", "numpy"])
def test_a_hook_that_draws_random_numbers_runs_in_pytorch_and_the_probe_leaves_no_trace(draw: Any) -> None:
    class Noisy(ClipPPO):
        def _surrogate(self, batch: Any) -> th.Tensor:
            return super()._surrogate(batch) * draw()

    assert "random numbers" in _reason(Noisy)
    with_probe, without = (updated(Noisy, engine) for engine in ("auto", "torch"))
    for a, b in zip(with_probe.policy.parameters(), without.policy.parameters(), strict=True):
        assert th.equal(a, b)


def test_a_gradient_of_a_hook_that_is_not_finite_is_reported_before_it_moves_anything() -> None:
    class Root(ClipPPO):
        def _surrogate(self, batch: Any) -> th.Tensor:
            return th.sqrt(batch.ratio - batch.ratio.detach())  # infinite slope at zero

    env = make_env(VECTOR, BOX, n_envs=2)
    model = Root("MlpPolicy", env, engine="numpy", **SMALL)
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    with pytest.raises(NonFiniteUpdateError):
        model.learn(64)
    assert all(th.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))


@pytest.mark.parametrize("cls", [ClipPPO, KLPenaltyPPO])
def test_a_variant_with_slopes_is_not_probed(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(th, "get_rng_state", lambda: pytest.fail("probed"))
    assert updated(cls, "numpy").engine_in_use == "numpy"
