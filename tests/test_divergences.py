"""KL(old||new): golden numbers, SciPy and closed forms as other implementations, and its direction."""

from typing import Any

import numpy as np
import pytest
import torch as th
from scipy.special import rel_entr
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
    SquashedDiagGaussianDistribution,
    StateDependentNoiseDistribution,
)
from torch.distributions import StudentT

from sb3_ppo_variants.maths.divergences import has_analytic_kl, k3, kl_divergence


def categorical(*rows: list[float]) -> Distribution:
    return CategoricalDistribution(len(rows[0])).proba_distribution(th.tensor(rows, dtype=th.float64).log())


def gaussian(mean: list[list[float]], std: list[float], cls: Any = DiagGaussianDistribution) -> Distribution:
    return cls(len(std)).proba_distribution(th.tensor(mean), th.tensor(std).log())


def test_categorical_kl_is_scipys_in_the_direction_old_to_new() -> None:
    old, new = [[0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3]], [[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]
    kl = kl_divergence(categorical(*old), categorical(*new))
    np.testing.assert_allclose(kl, rel_entr(old, new).sum(axis=1), rtol=1e-12)
    assert not np.allclose(kl, rel_entr(new, old).sum(axis=1))


def test_gaussian_kl_is_golden_and_sums_over_dimensions() -> None:
    # KL(N(0, 1) || N(1, 2)) = log 2 + 2/8 - 1/2; KL(N(1, 2) || N(0, 1)) = -log 2 + 5/2 - 1/2
    old, new = gaussian([[0.0, 0.0]], [1.0, 1.0]), gaussian([[1.0, 0.0]], [2.0, 1.0])
    assert kl_divergence(old, new).tolist() == pytest.approx([0.4431472])
    assert kl_divergence(new, old).tolist() == pytest.approx([1.3068528])
    both = gaussian([[1.0, 1.0]], [2.0, 2.0])
    assert kl_divergence(old, both).tolist() == pytest.approx([2 * 0.4431472])


def test_squashing_does_not_change_the_kl() -> None:
    plain = kl_divergence(gaussian([[0.3], [0.1]], [0.5]), gaussian([[0.1], [0.4]], [0.7]))
    squashed = [
        gaussian(mean, std, SquashedDiagGaussianDistribution)
        for mean, std in (([[0.3], [0.1]], [0.5]), ([[0.1], [0.4]], [0.7]))
    ]
    assert th.equal(kl_divergence(*squashed), plain)


def test_components_of_multi_discrete_and_multi_binary_actions_add_up() -> None:
    old_logits, new_logits = th.tensor([[0.3, -0.2, 0.5, 0.1, 0.0]]), th.tensor([[0.1, 0.4, -0.3, 0.2, 0.6]])
    multi = MultiCategoricalDistribution([3, 2])
    other = MultiCategoricalDistribution([3, 2])
    kl = kl_divergence(multi.proba_distribution(old_logits), other.proba_distribution(new_logits))
    parts = [
        kl_divergence(
            *(CategoricalDistribution(n).proba_distribution(logits[:, rows]) for logits in (old_logits, new_logits))
        )
        for n, rows in ((3, slice(0, 3)), (2, slice(3, 5)))
    ]
    assert kl.tolist() == pytest.approx(sum(parts).tolist())

    binary = [BernoulliDistribution(5).proba_distribution(logits) for logits in (old_logits, new_logits)]
    p, q = (th.sigmoid(logits).double().numpy() for logits in (old_logits, new_logits))
    expected = (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).sum(axis=1)
    assert kl_divergence(*binary).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_k3_golden_numbers_and_sign() -> None:
    ratio = th.tensor([0.5, 1.0, 2.0], dtype=th.float64)
    assert k3(ratio.log(), ratio).tolist() == pytest.approx([0.1931472, 0.0, 0.3068528])
    many = th.exp(2 * th.randn(1000, generator=th.Generator().manual_seed(0)))
    assert (k3(many.log(), many) >= -1e-6).all()


def test_k3_estimates_kl_old_to_new_without_bias() -> None:
    old, new = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.25, 0.25])
    estimates = k3(np.log(new / old), new / old)
    assert (old * estimates).sum() == pytest.approx(rel_entr(old, new).sum(), rel=1e-12)


def test_which_distributions_have_an_analytic_kl() -> None:
    sde = StateDependentNoiseDistribution(2, squash_output=True)
    _, log_std = sde.proba_distribution_net(3, latent_sde_dim=3)
    sde.proba_distribution(th.zeros(4, 2), log_std, th.randn(4, 3))
    known = [
        categorical([0.5, 0.5]),
        gaussian([[0.0]], [1.0]),
        gaussian([[0.0]], [1.0], SquashedDiagGaussianDistribution),
        BernoulliDistribution(2).proba_distribution(th.zeros(1, 2)),
        MultiCategoricalDistribution([2, 2]).proba_distribution(th.zeros(1, 4)),
        sde,
    ]
    assert all(has_analytic_kl(distribution) for distribution in known)
    unknown = DiagGaussianDistribution(1)
    unknown.distribution = StudentT(th.full((3, 1), 4.0))  # PyTorch knows no KL of it
    assert not has_analytic_kl(unknown)
