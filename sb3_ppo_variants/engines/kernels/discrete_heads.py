"""Action distributions on arrays for discrete actions: one choice, several, coins."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    Distribution,
    MultiCategoricalDistribution,
)

from sb3_ppo_variants.engines.kernels.head import Head, OldDistribution
from sb3_ppo_variants.maths.arrays import FloatArray


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

    def entropies(self) -> FloatArray:  # noqa: D102
        return -np.einsum("bk,bk->b", self._probs, self._log_probs)

    def kl(self, old: OldDistribution, outputs: FloatArray) -> FloatArray:  # noqa: D102
        old_log_probs = _log_softmax(old.outputs)
        return (np.exp(old_log_probs) * (old_log_probs - _log_softmax(outputs))).sum(axis=1)

    def backward(  # noqa: D102
        self,
        log_prob_slope: FloatArray,
        entropy_slope: float | FloatArray,
        kl_slope: FloatArray | None,
        old: OldDistribution | None,
    ) -> FloatArray:
        probs = self._probs
        # d log pi(a) / dz = onehot(a) - p
        gradient = probs * -log_prob_slope[:, None]
        gradient.ravel()[self._taken] += log_prob_slope
        if np.any(entropy_slope):
            slope = np.reshape(entropy_slope, (-1, 1))
            # dH/dz = -p (log p + H)
            entropy = -(probs * self._log_probs).sum(axis=1, keepdims=True)
            gradient -= slope * probs * (self._log_probs + entropy)
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

    def entropies(self) -> FloatArray:  # noqa: D102
        return np.sum([head.entropies() for head in self._parts], axis=0)

    def kl(self, old: OldDistribution, outputs: FloatArray) -> FloatArray:  # noqa: D102
        triples = zip(self._parts, self._split_old(old), self._split(outputs), strict=True)
        return np.sum([head.kl(old_part, part) for head, old_part, part in triples], axis=0)

    def backward(  # noqa: D102
        self,
        log_prob_slope: FloatArray,
        entropy_slope: float | FloatArray,
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

    def entropies(self) -> FloatArray:  # noqa: D102
        z = self.outputs
        return (np.logaddexp(0.0, z) - _sigmoid(z) * z).sum(axis=1)

    def kl(self, old: OldDistribution, outputs: FloatArray) -> FloatArray:  # noqa: D102
        # sum_a p_old(a) log(p_old(a) / p(a)) with log p(1) = -log(1 + e^-z), log p(0) = -log(1 + e^z)
        difference = np.logaddexp(0.0, outputs) - np.logaddexp(0.0, old.outputs)
        return (_sigmoid(old.outputs) * (old.outputs - outputs) + difference).sum(axis=1)

    def backward(  # noqa: D102
        self,
        log_prob_slope: FloatArray,
        entropy_slope: float | FloatArray,
        kl_slope: FloatArray | None,
        old: OldDistribution | None,
    ) -> FloatArray:
        probs = _sigmoid(self.outputs)
        gradient = log_prob_slope[:, None] * (self._actions - probs)
        if np.any(entropy_slope):
            slope = np.reshape(entropy_slope, (-1, 1))
            # dH/dz = -z p (1 - p)
            gradient -= slope * self.outputs * probs * (1.0 - probs)
        if kl_slope is not None:
            assert old is not None
            gradient += kl_slope[:, None] * (probs - _sigmoid(old.outputs))
        return gradient

    def as_torch(self, old: OldDistribution) -> Distribution:  # noqa: D102
        return BernoulliDistribution(old.outputs.shape[1]).proba_distribution(th.from_numpy(old.outputs))


def _sigmoid(z: FloatArray) -> FloatArray:
    # tanh does not overflow
    return 0.5 * (1.0 + np.tanh(0.5 * z))
