"""RPO: the neutral setting, what is perturbed and what is not, and what it refuses."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import SETTINGS, assert_same_run, mostly_slow, ppo, train
from torch.distributions import Normal

from sb3_ppo_variants import RPO
from sb3_ppo_variants.testing import BOX, DISCRETE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, make_env
from sb3_ppo_variants.update_parts.minibatch import MiniBatch

CONTINUOUS = ["box", "dense extractor, shared", "state-dependent noise, value clip", "VecNormalize"]


@pytest.mark.parametrize("name", mostly_slow(CONTINUOUS, ["box", "state-dependent noise, value clip"]))
def test_without_noise_it_is_ppo_and_draws_nothing(name: str) -> None:
    assert_same_run(train(RPO, SETTINGS[name], rpo_alpha=0), ppo(name))


class Watched(RPO):
    """Keeps its noise, and the minibatches before and after it."""

    def learn(self, *arguments: Any, **kwargs: Any) -> "Watched":
        self.noise: list[th.Tensor] = []
        self.plain: list[MiniBatch] = []
        self.perturbed: list[MiniBatch] = []
        self.measured = 0
        return super().learn(*arguments, **kwargs)

    def _evaluate(self, rollout_data: Any) -> MiniBatch:
        batch = super()._evaluate(rollout_data)
        if th.is_grad_enabled():
            self.plain.append(batch)
        return batch

    def _mean_noise(self, shape: tuple[int, ...]) -> th.Tensor | None:
        noise = super()._mean_noise(shape)
        assert noise is not None
        self.noise.append(noise)
        return noise

    def _losses(self, batch: MiniBatch) -> Any:
        self.perturbed.append(batch)
        return super()._losses(batch)


def watched(**arguments: Any) -> Watched:
    defaults = {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "seed": 0, "rpo_alpha": 0.3}
    return Watched("MlpPolicy", make_env(VECTOR, BOX), **(defaults | arguments)).learn(64)


@pytest.mark.parametrize("use_sde", [False, True])
def test_the_update_sees_the_actions_under_the_shifted_mean(use_sde: bool) -> None:
    model = watched(use_sde=use_sde)
    assert len(model.noise) == len(model.plain) == len(model.perturbed) == 4
    for noise, plain, perturbed in zip(model.noise, model.plain, model.perturbed, strict=True):
        normal = plain.distribution.distribution
        expected = Normal(normal.mean + noise, normal.stddev).log_prob(plain.actions).sum(dim=1)
        assert th.equal(perturbed.log_prob, expected)
        assert th.equal(perturbed.entropy, plain.entropy)
        assert th.equal(perturbed.old_log_prob, plain.old_log_prob)
        assert perturbed.log_prob.requires_grad
    assert not th.allclose(model.perturbed[0].ratio, th.ones(32), atol=1e-3), "old log-probabilities are not shifted"


def test_the_noise_is_uniform_fresh_and_per_sample_and_dimension() -> None:
    noise = th.stack(watched(n_epochs=20).noise)
    assert noise.shape == (40, 32, 2)
    assert noise.abs().max() <= 0.3
    assert len(noise.unique()) > 0.99 * noise.numel()
    quantiles = np.quantile(noise.numpy(), [0.1, 0.5, 0.9])
    np.testing.assert_allclose(quantiles, [-0.24, 0.0, 0.24], atol=0.03)


def test_the_noise_comes_from_torchs_generator() -> None:
    model = watched()
    th.manual_seed(5)
    expected = th.empty(7, 2).uniform_(-0.3, 0.3)
    th.manual_seed(5)
    noise = model._mean_noise((7, 2))
    assert noise is not None
    assert th.equal(noise, expected)


def test_the_kl_is_measured_without_noise() -> None:
    # A rate too small to move anything: all of the ratios' spread in the update is the noise
    model = watched(learning_rate=1e-12, rpo_alpha=0.5)
    logs = model.logger.name_to_value
    assert logs["train/kl"] < 1e-9
    assert logs["train/ratio_q05"] == pytest.approx(1, abs=1e-4)
    assert logs["train/approx_kl"] > 1e-2


@pytest.mark.parametrize("space", [DISCRETE, MULTI_DISCRETE, MULTI_BINARY], ids=str)
def test_discrete_actions_are_refused_with_an_alternative(space: spaces.Space[Any]) -> None:
    with pytest.raises(ValueError, match="use ClipPPO"):
        RPO("MlpPolicy", make_env(VECTOR, space))


def test_squashed_actions_are_refused_with_an_alternative() -> None:
    with pytest.raises(ValueError, match=r"ClipPPO.*squash_output"):
        RPO("MlpPolicy", make_env(VECTOR, BOX), use_sde=True, policy_kwargs={"squash_output": True})


def test_a_model_that_is_set_up_later_is_refused_too() -> None:
    model = RPO("MlpPolicy", make_env(VECTOR, DISCRETE), _init_setup_model=False)
    with pytest.raises(ValueError, match="use ClipPPO"):
        model._setup_model()


def test_arguments_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="rpo_alpha"):
        RPO("MlpPolicy", make_env(VECTOR, BOX), rpo_alpha=-0.1)
