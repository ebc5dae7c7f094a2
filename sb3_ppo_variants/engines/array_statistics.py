"""Figures of an update on the NumPy engine: written into arrays as it runs, reduced many minibatches at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sb3_ppo_variants.maths import divergences
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.update_parts.array_batch import ArrayBatch
from sb3_ppo_variants.update_parts.statistics import Losses, UpdateStatistics


@dataclass
class EpochRecord:
    """One pass over the rollout; arrays have shape (rollout size,), in the order of its minibatches.

    :param order: index in the rollout of each sample
    :param advantages: advantages, normalised within each minibatch if the algorithm does so
    :param log_ratios: log of each sample's ratio when its minibatch was evaluated
    :param values: the critic's predictions then
    :param kls: KL(old||new) of each state then; zeros where the variant does not ask for it
    :param entropies: mean entropy of each minibatch evaluated
    :param entropies_of_states: entropy of each state, an array for each minibatch evaluated; empty where no hook may
        read it
    :param count: number of samples evaluated
    """

    order: npt.NDArray[np.intp]
    advantages: FloatArray
    log_ratios: FloatArray
    values: FloatArray
    kls: FloatArray
    entropies: list[float] = field(default_factory=list)
    entropies_of_states: list[FloatArray] = field(default_factory=list)
    count: int = 0


_PENDING = 4096  # samples that are recorded before they are reduced, and reduced at a time: bounds memory

Stretch = tuple[EpochRecord, slice]
"""Some consecutive samples of an epoch."""


class ArrayStatistics(UpdateStatistics):
    """Figures of an update on the NumPy engine.

    :param batch_size: samples per minibatch; the last one of an epoch may be shorter
    :param clip_range: clip range of this update
    :param evaluate: gives the losses of some stretches of samples taken together
    """

    def __init__(self, batch_size: int, clip_range: float, evaluate: Callable[[Sequence[Stretch]], Losses]) -> None:
        super().__init__()
        self._batch_size = batch_size
        self._clip_range = clip_range
        self._evaluate = evaluate
        self._pending: list[EpochRecord] = []
        self._minibatches = 0
        self._sums = np.zeros(4)  # policy loss, value loss, entropy, clip fraction
        self._means: dict[str, float] = {}

    def add_epoch(self, record: EpochRecord) -> None:
        """Note the record of an epoch that begins; reduce those before it once they have become large."""
        if sum(pending.count for pending in self._pending) >= _PENDING:
            self.settle()
        self._pending.append(record)

    def settle(self) -> None:
        """Reduce the epochs that are over, before something changes what their losses are computed from."""
        self._reduce()
        self._pending.clear()

    @property
    def minibatch_kl(self) -> np.float32:
        """k3 estimate on the running minibatch, taken before its step."""
        assert isinstance(self.batch, ArrayBatch)
        return np.float32(divergences.k3(self.batch.log_ratio, self.batch.ratio).mean())

    @property
    def epoch_kl(self) -> np.float32:
        """Mean of the k3 estimates of the running epoch so far, each taken before its minibatch's step."""
        kls = [self._k3(stretches) for stretches in self._groups(self._pending[-1:])]
        return np.float32(np.average(kls, weights=self._group_sizes(self._pending[-1:])))

    def finish(self) -> None:
        """Compute the means that are logged, while the variant's coefficients are those of this update."""
        self._reduce()
        policy, value, entropy, clip_fraction = (self._sums / self._minibatches).tolist()
        record = self._pending[-1]
        last = slice((record.count - 1) // self._batch_size * self._batch_size, record.count)
        self._means = {
            "train/entropy_loss": -entropy,
            "train/policy_gradient_loss": policy,
            "train/value_loss": value,
            "train/approx_kl": float(self.epoch_kl),
            "train/clip_fraction": clip_fraction,
            "train/loss": float(self._evaluate([(record, last)]).total),
        }

    def _reduce(self) -> None:
        """Add the pending epochs to the sums.

        Minibatches of equal size are evaluated together: the mean over all their samples is the mean of their means.
        """
        groups, weights = self._groups(self._pending), self._group_sizes(self._pending)
        for stretches, weight in zip(groups, weights, strict=True):
            losses = self._evaluate(stretches)
            means = [float(losses.policy), float(losses.value), -float(losses.entropy), self._clip_fraction(stretches)]
            self._sums += weight * np.array(means)
            self._minibatches += weight

    def means(self) -> dict[str, float]:
        """Return SB3's log keys and values for this update."""
        return self._means

    def _groups(self, records: Sequence[EpochRecord]) -> list[list[Stretch]]:
        """Return the full minibatches of some epochs, then their shorter last ones, in parts that bound memory."""
        step = max(1, _PENDING // self._batch_size) * self._batch_size
        full, short = [], []
        for record in records:
            boundary = record.count // self._batch_size * self._batch_size
            full += [(record, slice(start, min(start + step, boundary))) for start in range(0, boundary, step)]
            if record.count > boundary:
                short.append((record, slice(boundary, record.count)))
        return [*_bundles(full), *_bundles(short)]

    def _group_sizes(self, records: Sequence[EpochRecord]) -> list[int]:
        """Return the number of minibatches in each of :meth:`_groups`."""
        return [
            sum(-(-(rows.stop - rows.start) // self._batch_size) for _, rows in group)
            for group in self._groups(records)
        ]

    @staticmethod
    def _k3(stretches: Sequence[Stretch]) -> float:
        log_ratios = np.concatenate([record.log_ratios[rows] for record, rows in stretches])
        return float(divergences.k3(log_ratios, np.exp(log_ratios)).mean())

    def _clip_fraction(self, stretches: Sequence[Stretch]) -> float:
        ratios = np.exp(np.concatenate([record.log_ratios[rows] for record, rows in stretches]))
        return float((np.abs(ratios - 1) > self._clip_range).mean())


def _bundles(stretches: Sequence[Stretch]) -> Iterator[list[Stretch]]:
    """Yield the stretches in order, some together where they are short."""
    bundle, size = [], 0
    for record, rows in stretches:
        bundle.append((record, rows))
        size += rows.stop - rows.start
        if size >= _PENDING:
            yield bundle
            bundle, size = [], 0
    if bundle:
        yield bundle
