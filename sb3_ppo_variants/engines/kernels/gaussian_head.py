"""The action distribution on arrays for continuous actions."""

import math

import numpy as np
import torch as th
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution

from sb3_ppo_variants.engines.kernels.head import Head, OldDistribution
from sb3_ppo_variants.engines.kernels.layout import Shared
from sb3_ppo_variants.maths.arrays import FloatArray

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class DiagGaussianHead(Head):
    r"""Gaussian with the network's output as mean and a learned standard deviation that ignores the state.

    :math:`\log\pi(a) = \sum_d -\frac{(a_d-\mu_d)^2}{2\sigma_d^2} - \log\sigma_d - \frac12\log 2\pi`.

    :param log_std: view on the parameter log sigma, shape (D,)
    :param log_std_gradient: where ``backward`` writes its gradient
    """

    def __init__(self, log_std: FloatArray, log_std_gradient: FloatArray) -> None:
        self._log_std = Shared(log_std)
        self._log_std_gradient = log_std_gradient
        self._constant = len(log_std) * _LOG_SQRT_2PI
        self._noise = self._std = Shared(np.empty(0, log_std.dtype))

    def forward(  # noqa: D102
        self, outputs: FloatArray, actions: FloatArray, mean_noise: FloatArray | None = None
    ) -> FloatArray:
        self.outputs = outputs
        self._inverse_std = np.exp(-self._log_std.array)
        mean = outputs if mean_noise is None else outputs + mean_noise
        self._z = (actions - mean) * self._inverse_std
        return self._log_prob(self._z)

    def sample(  # noqa: D102
        self, outputs: FloatArray, noise: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        if self._noise.array.shape != outputs.shape:
            self._noise, self._std = Shared(np.empty_like(outputs)), Shared(np.empty_like(self._log_std.array))
        # PyTorch's exp, for the same bits as SB3's actions
        th.exp(self._log_std.tensor, out=self._std.tensor)
        if noise is None:
            self._noise.tensor.normal_()
            noise = self._noise.array
        return outputs + noise * self._std.array, self._log_prob(noise)

    def _log_prob(self, z: FloatArray) -> FloatArray:
        """Return the log-probability of standardised actions."""
        constant = float(np.add.reduce(self._log_std.array)) + self._constant
        return -0.5 * np.einsum("bd,bd->b", z, z) - constant

    def mean_entropy(self) -> float:  # noqa: D102
        return float(np.add.reduce(self._log_std.array)) + 0.5 * len(self._log_std.array) + self._constant

    def entropies(self) -> FloatArray:  # noqa: D102
        return np.full(len(self.outputs), self.mean_entropy(), self.outputs.dtype)

    def kl(self, old: OldDistribution, outputs: FloatArray) -> FloatArray:  # noqa: D102
        assert old.std is not None
        inverse_std = np.exp(-self._log_std.array)
        scaled_mean = (old.outputs - outputs) * inverse_std
        scaled_std = old.std * inverse_std
        per_row = (0.5 * scaled_std**2 - 0.5 - np.log(scaled_std)).sum()
        return 0.5 * np.einsum("bd,bd->b", scaled_mean, scaled_mean) + per_row

    def backward(  # noqa: D102
        self,
        log_prob_slope: FloatArray,
        entropy_slope: float | FloatArray,
        kl_slope: FloatArray | None,
        old: OldDistribution | None,
    ) -> FloatArray:
        z, inverse_std = self._z, self._inverse_std
        # d log pi / d mu = z / sigma;  d log pi / d log sigma = z^2 - 1
        weighted = z * log_prob_slope[:, None]
        np.subtract(np.einsum("bd,bd->d", weighted, z), log_prob_slope.sum(), out=self._log_std_gradient)
        # dH / d log sigma = 1, in every row
        self._log_std_gradient += np.sum(entropy_slope) if np.ndim(entropy_slope) else entropy_slope * len(z)
        gradient = np.multiply(weighted, inverse_std, out=weighted)
        if kl_slope is not None:
            assert old is not None
            assert old.std is not None
            # d KL / d mu = (mu - mu_old) / sigma^2;  d KL / d log sigma = 1 - (sigma_old^2 + (mu_old - mu)^2) / sigma^2
            scaled = (self.outputs - old.outputs) * inverse_std
            gradient += kl_slope[:, None] * scaled * inverse_std
            spread = (old.std * inverse_std) ** 2 + scaled**2
            self._log_std_gradient += kl_slope.sum() - kl_slope @ spread
        return gradient

    def remember(self, outputs: FloatArray) -> OldDistribution:  # noqa: D102
        return OldDistribution(outputs, np.exp(self._log_std.array))

    def as_torch(self, old: OldDistribution) -> Distribution:  # noqa: D102
        assert old.std is not None
        mean, log_std = th.from_numpy(old.outputs), th.from_numpy(np.log(old.std))
        return DiagGaussianDistribution(old.outputs.shape[1]).proba_distribution(mean, log_std)
