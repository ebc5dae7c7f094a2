r"""Action distributions on arrays: sampling, log-probability, entropy, KL, and their gradients by the network's output.

A head holds the result of its last ``forward`` and differentiates it in ``backward``. Shapes: B samples, K outputs
of the policy network, D action dimensions. Random numbers come from PyTorch's global generator, in the order and
amount of SB3's distributions, so that a run draws what SB3's run of the same seed draws.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
)

from sb3_ppo_variants.engines.array_batch import FloatArray
from sb3_ppo_variants.engines.layout import Shared

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class Head(ABC):
    """One action distribution per row of the policy network's output."""

    outputs: FloatArray

    @abstractmethod
    def forward(self, outputs: FloatArray, actions: FloatArray) -> FloatArray:
        """Return the log-probability of ``actions``, shape (B,).

        :param outputs: output of the policy network, shape (B, K)
        :param actions: actions as the rollout buffer stores them, shape (B, D)
        """

    @abstractmethod
    def sample(self, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Draw one action per row; return the actions, shape (B, D), and their log-probabilities, shape (B,)."""

    @abstractmethod
    def mean_entropy(self) -> float:
        """Return the mean entropy of the last forward pass in nats."""

    @abstractmethod
    def kl(self, old: "OldDistribution", outputs: FloatArray) -> FloatArray:
        """Return KL(old||new) per row in nats, shape (B,)."""

    @abstractmethod
    def backward(
        self,
        log_prob_slope: FloatArray,
        entropy_slope: float,
        kl_slope: FloatArray | None,
        old: "OldDistribution | None",
    ) -> FloatArray:
        """Return dL/d(outputs) of the last forward pass, shape (B, K); write the gradient of own parameters.

        :param log_prob_slope: dL/d(log-probability) per row, shape (B,)
        :param entropy_slope: dL/d(entropy), the same for all rows
        :param kl_slope: dL/d(KL(old||new)) per row, shape (B,), or None
        :param old: the old distributions of these rows; needed with ``kl_slope``
        """

    def remember(self, outputs: FloatArray) -> "OldDistribution":
        """Keep the distributions given by ``outputs``, which stay as they are, and the parameters of this moment."""
        return OldDistribution(outputs)

    @abstractmethod
    def as_torch(self, old: "OldDistribution") -> Distribution:
        """Return SB3's form of remembered distributions."""


class OldDistribution:
    """Distributions of the policy that collected the rollout.

    :param outputs: output of its policy network, shape (N, K)
    :param std: its standard deviation, shape (D,); for Gaussians
    """

    def __init__(self, outputs: FloatArray, std: FloatArray | None = None) -> None:
        self.outputs = outputs
        self.std = std

    def rows(self, index: Any) -> "OldDistribution":
        """Return some of the rows."""
        return OldDistribution(self.outputs[index], self.std)

    def in_float64(self) -> "OldDistribution":
        """Return the distributions in float64, in which a KL near zero keeps its digits."""
        std = None if self.std is None else self.std.astype(np.float64)
        return OldDistribution(self.outputs.astype(np.float64), std)


def _log_softmax(logits: FloatArray) -> FloatArray:
    # ufunc.reduce spares the wrappers of .max() and .sum(), which cost more than the arithmetic here
    shifted = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
    shifted -= np.log(np.add.reduce(np.exp(shifted), axis=1, keepdims=True))
    return shifted


class CategoricalHead(Head):
    r"""Softmax over K logits z: :math:`\log\pi(a) = z_a - \log\sum_k e^{z_k}`."""

    def __init__(self, n_outputs: int) -> None:
        self._n_outputs = n_outputs
        self._noise = th.empty(0)
        self._noise_array: FloatArray = np.empty(0)
        self._rows = np.empty(0, np.intp)

    def forward(self, outputs: FloatArray, actions: FloatArray) -> FloatArray:  # noqa: D102 -- see Head
        self.outputs = outputs
        self._log_probs = _log_softmax(outputs)
        self._probs = np.exp(self._log_probs)
        self._taken = self._positions(actions[:, 0].astype(np.intp))
        return self._log_probs.ravel().take(self._taken)

    def sample(self, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        if len(self._noise) != len(outputs):
            self._noise = th.empty(outputs.shape)
            self._noise_array = self._noise.numpy()
        # What torch.multinomial does for one draw: argmax of p / Exp(1)
        self._noise.exponential_(1.0)
        log_probs = _log_softmax(outputs)
        actions = (np.exp(log_probs) / self._noise_array).argmax(axis=1)
        return actions[:, None], log_probs.ravel().take(self._positions(actions))

    def _positions(self, actions: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return the flat positions of actions in (B, K): one take instead of a slower two-array index."""
        if len(self._rows) != len(actions):
            self._rows = np.arange(0, len(actions) * self._n_outputs, self._n_outputs)
        return self._rows + actions

    def mean_entropy(self) -> float:  # noqa: D102
        return float(-np.vdot(self._probs, self._log_probs)) / len(self._probs)

    def kl(self, old: OldDistribution, outputs: FloatArray) -> FloatArray:  # noqa: D102
        old_log_probs = _log_softmax(old.outputs)
        return (np.exp(old_log_probs) * (old_log_probs - _log_softmax(outputs))).sum(axis=1)

    def backward(  # noqa: D102
        self,
        log_prob_slope: FloatArray,
        entropy_slope: float,
        kl_slope: FloatArray | None,
        old: OldDistribution | None,
    ) -> FloatArray:
        probs = self._probs
        # d log pi(a) / dz = onehot(a) - p
        gradient = probs * -log_prob_slope[:, None]
        gradient.ravel()[self._taken] += log_prob_slope
        if entropy_slope != 0.0:
            # dH/dz = -p (log p + H)
            entropy = -(probs * self._log_probs).sum(axis=1, keepdims=True)
            gradient -= entropy_slope * probs * (self._log_probs + entropy)
        if kl_slope is not None:
            assert old is not None
            # d KL(old||new) / dz = p - p_old
            gradient += kl_slope[:, None] * (probs - np.exp(_log_softmax(old.outputs)))
        return gradient

    def as_torch(self, old: OldDistribution) -> Distribution:  # noqa: D102
        return CategoricalDistribution(self._n_outputs).proba_distribution(th.from_numpy(old.outputs))


class MultiCategoricalHead(Head):
    """Independent categoricals, their logits side by side.

    :param sizes: number of choices of each
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = list(sizes)
        self._ends = np.cumsum(self._sizes).tolist()
        self._parts = [CategoricalHead(size) for size in self._sizes]

    def _split(self, outputs: FloatArray) -> list[FloatArray]:
        return [outputs[:, end - size : end] for end, size in zip(self._ends, self._sizes, strict=True)]

    def _split_old(self, old: OldDistribution) -> list[OldDistribution]:
        return [OldDistribution(part) for part in self._split(old.outputs)]

    def forward(self, outputs: FloatArray, actions: FloatArray) -> FloatArray:  # noqa: D102
        self.outputs = outputs
        columns = enumerate(zip(self._parts, self._split(outputs), strict=True))
        return np.sum([head.forward(part, actions[:, i : i + 1]) for i, (head, part) in columns], axis=0)

    def sample(self, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        draws = [head.sample(part) for head, part in zip(self._parts, self._split(outputs), strict=True)]
        actions, log_probs = zip(*draws, strict=True)
        return np.concatenate(actions, axis=1), np.sum(log_probs, axis=0)

    def mean_entropy(self) -> float:  # noqa: D102
        return sum(head.mean_entropy() for head in self._parts)

    def kl(self, old: OldDistribution, outputs: FloatArray) -> FloatArray:  # noqa: D102
        triples = zip(self._parts, self._split_old(old), self._split(outputs), strict=True)
        return np.sum([head.kl(old_part, part) for head, old_part, part in triples], axis=0)

    def backward(  # noqa: D102
        self,
        log_prob_slope: FloatArray,
        entropy_slope: float,
        kl_slope: FloatArray | None,
        old: OldDistribution | None,
    ) -> FloatArray:
        olds: Sequence[OldDistribution | None] = [None] * len(self._parts) if old is None else self._split_old(old)
        return np.concatenate(
            [
                head.backward(log_prob_slope, entropy_slope, kl_slope, old_part)
                for head, old_part in zip(self._parts, olds, strict=True)
            ],
            axis=1,
        )

    def as_torch(self, old: OldDistribution) -> Distribution:  # noqa: D102
        return MultiCategoricalDistribution(self._sizes).proba_distribution(th.from_numpy(old.outputs))


class BernoulliHead(Head):
    r"""Independent coins with logits z: :math:`\log\pi(a) = \sum_d a_d z_d - \log(1 + e^{z_d})`."""

    def forward(self, outputs: FloatArray, actions: FloatArray) -> FloatArray:  # noqa: D102
        self.outputs = outputs
        self._actions = actions
        return (actions * outputs - np.logaddexp(0.0, outputs)).sum(axis=1)

    def sample(self, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        # PyTorch refuses to draw from NaN, which fmax turns into 0: the log-probability tells of it
        actions = th.bernoulli(th.from_numpy(np.fmax(_sigmoid(outputs), 0.0, dtype=outputs.dtype))).numpy()
        return actions, self.forward(outputs, actions)

    def mean_entropy(self) -> float:  # noqa: D102
        z = self.outputs
        return float((np.logaddexp(0.0, z) - _sigmoid(z) * z).sum()) / len(z)

    def kl(self, old: OldDistribution, outputs: FloatArray) -> FloatArray:  # noqa: D102
        # sum_a p_old(a) log(p_old(a) / p(a)) with log p(1) = -log(1 + e^-z), log p(0) = -log(1 + e^z)
        difference = np.logaddexp(0.0, outputs) - np.logaddexp(0.0, old.outputs)
        return (_sigmoid(old.outputs) * (old.outputs - outputs) + difference).sum(axis=1)

    def backward(  # noqa: D102
        self,
        log_prob_slope: FloatArray,
        entropy_slope: float,
        kl_slope: FloatArray | None,
        old: OldDistribution | None,
    ) -> FloatArray:
        probs = _sigmoid(self.outputs)
        gradient = log_prob_slope[:, None] * (self._actions - probs)
        if entropy_slope != 0.0:
            # dH/dz = -z p (1 - p)
            gradient -= entropy_slope * self.outputs * probs * (1.0 - probs)
        if kl_slope is not None:
            assert old is not None
            gradient += kl_slope[:, None] * (probs - _sigmoid(old.outputs))
        return gradient

    def as_torch(self, old: OldDistribution) -> Distribution:  # noqa: D102
        return BernoulliDistribution(old.outputs.shape[1]).proba_distribution(th.from_numpy(old.outputs))


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

    def sample(self, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        if self._noise.array.shape != outputs.shape:
            self._noise, self._std = Shared(np.empty_like(outputs)), Shared(np.empty_like(self._log_std.array))
        # PyTorch's exp, for the same bits as SB3's actions
        th.exp(self._log_std.tensor, out=self._std.tensor)
        self._noise.tensor.normal_()
        noise = self._noise.array
        return outputs + noise * self._std.array, self._log_prob(noise)

    def _log_prob(self, z: FloatArray) -> FloatArray:
        """Return the log-probability of standardised actions."""
        constant = float(np.add.reduce(self._log_std.array)) + self._constant
        return -0.5 * np.einsum("bd,bd->b", z, z) - constant

    def mean_entropy(self) -> float:  # noqa: D102
        return float(np.add.reduce(self._log_std.array)) + 0.5 * len(self._log_std.array) + self._constant

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
        entropy_slope: float,
        kl_slope: FloatArray | None,
        old: OldDistribution | None,
    ) -> FloatArray:
        z, inverse_std = self._z, self._inverse_std
        # d log pi / d mu = z / sigma;  d log pi / d log sigma = z^2 - 1
        weighted = z * log_prob_slope[:, None]
        np.subtract(np.einsum("bd,bd->d", weighted, z), log_prob_slope.sum(), out=self._log_std_gradient)
        # dH / d log sigma = 1, in every row
        self._log_std_gradient += entropy_slope * len(z)
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


def _sigmoid(z: FloatArray) -> FloatArray:
    # tanh does not overflow
    return 0.5 * (1.0 + np.tanh(0.5 * z))
