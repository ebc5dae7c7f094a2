"""Figures of an update on the NumPy engine: written into arrays as it runs, reduced once per epoch."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sb3_ppo_variants.engine.array_batch import ArrayBatch, FloatArray
from sb3_ppo_variants.training import divergences
from sb3_ppo_variants.training.statistics import UpdateStatistics


class EpochRecord:
    """Per-sample arrays of one epoch in the order of its minibatches, each shape (rollout size,).

    :param size: number of samples in the rollout
    :param batch_size: samples per minibatch; the last one may be shorter
    :param dtype: of the engine
    """

    def __init__(self, size: int, batch_size: int, dtype: np.dtype[np.floating]) -> None:
        self.log_ratios, self.values, self.kls = np.zeros((3, size), dtype)
        self.entropies: list[float] = []  # one mean per minibatch
        self.batch_size = batch_size
        self.count = 0  # samples evaluated so far

    def blocks(self) -> list[slice]:
        """Return the samples evaluated so far in at most two stretches: full minibatches, and a shorter last one."""
        boundary = self.count // self.batch_size * self.batch_size
        return [rows for rows in (slice(0, boundary), slice(boundary, self.count)) if rows.stop > rows.start]

    def block_weights(self) -> list[float]:
        """Return the number of minibatches in each block."""
        return [-(-(rows.stop - rows.start) // self.batch_size) for rows in self.blocks()]

    def last_minibatch(self) -> slice:
        """Return the samples of the last minibatch evaluated."""
        return slice((self.count - 1) // self.batch_size * self.batch_size, self.count)

    def minibatch_mean(self, per_sample: FloatArray) -> float:
        """Average the minibatches' means, as SB3 does; a shorter last minibatch weighs as much as any other.

        :param per_sample: values of the samples evaluated so far
        """
        means = [float(per_sample[rows].mean()) for rows in self.blocks()]
        return float(np.average(means, weights=self.block_weights()))


class EpochMeans(NamedTuple):
    """Means of one epoch over its minibatches."""

    policy: float
    value: float
    entropy: float
    clip_fraction: float


class ArrayStatistics(UpdateStatistics):
    """Figures of an update on the NumPy engine.

    :param record: the running epoch's arrays
    :param reduce: turns a finished epoch's arrays into its means
    :param last_loss: gives the loss of the last minibatch evaluated
    """

    def __init__(self, record: EpochRecord, reduce: Callable[[], EpochMeans], last_loss: Callable[[], float]) -> None:
        super().__init__()
        self._last_loss = last_loss
        self.record = record
        self._reduce = reduce
        self._epochs: list[EpochMeans] = []
        self._minibatches: list[int] = []

    def start_epoch(self, epoch: int) -> None:
        """Begin a pass over the rollout."""
        super().start_epoch(epoch)
        self.record.count = 0
        self.record.entropies = []

    def finish_epoch(self) -> None:
        """Reduce the epoch's arrays, which the next epoch overwrites."""
        self._epochs.append(self._reduce())
        self._minibatches.append(self.step + 1)

    @property
    def minibatch_kl(self) -> np.float32:
        """k3 estimate on the running minibatch, taken before its step."""
        assert isinstance(self.batch, ArrayBatch)
        return np.float32(divergences.k3(self.batch.log_ratio, self.batch.ratio).mean())

    @property
    def epoch_kl(self) -> np.float32:
        """Mean of the k3 estimates of the running epoch so far, each taken before its minibatch's step."""
        log_ratios = self.record.log_ratios[: self.record.count]
        return np.float32(self.record.minibatch_mean(divergences.k3(log_ratios, np.exp(log_ratios))))

    def means(self) -> dict[str, float]:
        """Return SB3's log keys and values for this update."""
        columns = np.array(self._epochs, dtype=np.float64)
        policy, value, entropy, clip_fraction = np.average(columns, axis=0, weights=self._minibatches).tolist()
        return {
            "train/entropy_loss": -entropy,
            "train/policy_gradient_loss": policy,
            "train/value_loss": value,
            "train/approx_kl": float(self.epoch_kl),
            "train/clip_fraction": clip_fraction,
            "train/loss": self._last_loss(),
        }
