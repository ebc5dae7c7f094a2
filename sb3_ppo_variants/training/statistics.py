"""What one update reports: collected as tensors, converted once."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch as th

from sb3_ppo_variants.engines.array_batch import ArrayBatch
from sb3_ppo_variants.training.minibatch import MiniBatch


class Losses(NamedTuple):
    """Scalar losses of one minibatch, to be minimised.

    :param policy: negative mean surrogate, plus the mean penalty of variants that have one
    :param value: loss of the critic
    :param entropy: negative mean entropy
    :param total: weighted sum that is differentiated
    """

    policy: th.Tensor
    value: th.Tensor
    entropy: th.Tensor
    total: th.Tensor


class UpdateStatistics(ABC):
    """Figures of one call of ``train()``; stop rules read it, the logger gets its means.

    :ivar epoch: index of the running epoch, from 0
    :ivar step: index of the running minibatch in its epoch, from 0
    :ivar batch: the running minibatch; on the NumPy engine its twin in arrays
    :ivar stop_reason: why the actor's updates were stopped; None while they run
    :ivar stop_epoch: epoch in which they were stopped
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.step = -1
        self.batch: MiniBatch | ArrayBatch | None = None
        self.stop_reason: str | None = None
        self.stop_epoch: int | None = None

    def start_epoch(self, epoch: int) -> None:
        """Begin a pass over the rollout."""
        self.epoch = epoch
        self.step = -1

    def stop(self, reason: str) -> None:
        """Note that the actor's updates end here, and why."""
        self.stop_reason = reason
        self.stop_epoch = self.epoch

    @property
    @abstractmethod
    def minibatch_kl(self) -> np.float32:
        """k3 estimate on the running minibatch, taken before its step."""

    @property
    @abstractmethod
    def epoch_kl(self) -> np.float32:
        """Mean of the k3 estimates of the running epoch so far, each taken before its minibatch's step."""

    @abstractmethod
    def means(self) -> dict[str, float]:
        """Return SB3's log keys and values for this update."""


_PENDING = 64  # minibatches whose figures stay tensors: thousands of small tensors take megabytes


class TensorStatistics(UpdateStatistics):
    """Figures of an update in PyTorch: kept as tensors, read from the device many minibatches at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._pending: list[tuple[Losses, th.Tensor]] = []
        self._pending_kls: list[th.Tensor] = []
        self._figures: list[list[float]] = []  # per minibatch: its losses and clip fraction
        self._epoch_kls: list[npt.NDArray[np.float32]] = []

    def start_epoch(self, epoch: int) -> None:
        """Begin a pass over the rollout."""
        super().start_epoch(epoch)
        self._read()
        self._epoch_kls = []

    def record(self, batch: MiniBatch, losses: Losses, kl: th.Tensor, clip_fraction: th.Tensor) -> None:
        """Keep one minibatch's figures.

        :param batch: the minibatch
        :param losses: its losses
        :param kl: its k3 estimate of KL(old||new), scalar
        :param clip_fraction: share of its ratios outside the clip range, scalar
        """
        self.step += 1
        self.batch = batch
        if len(self._pending) == _PENDING:
            self._read()
        self._pending.append((Losses(*(loss.detach() for loss in losses)), clip_fraction))
        self._pending_kls.append(kl)
        self._kl = kl

    def _read(self) -> None:
        """Read the pending figures from the device."""
        if not self._pending:
            return
        columns = [th.stack(column) for column in zip(*(losses for losses, _ in self._pending), strict=True)]
        columns.append(th.stack([clip_fraction for _, clip_fraction in self._pending]))
        self._figures += th.stack(columns, dim=1).tolist()
        self._epoch_kls.append(th.stack(self._pending_kls).cpu().numpy())
        self._pending, self._pending_kls = [], []

    @property
    def minibatch_kl(self) -> np.float32:
        """k3 estimate on the running minibatch, taken before its step."""
        return np.float32(self._kl.item())

    @property
    def epoch_kl(self) -> np.float32:
        """Mean of the k3 estimates of the running epoch so far, each taken before its minibatch's step."""
        self._read()
        return np.float32(np.mean(np.concatenate(self._epoch_kls)))

    def means(self) -> dict[str, float]:
        """Return SB3's log keys and values for this update."""
        self._read()
        policy_losses, value_losses, entropy_losses, totals, clip_fractions = zip(*self._figures, strict=True)
        return {
            "train/entropy_loss": float(np.mean(entropy_losses)),
            "train/policy_gradient_loss": float(np.mean(policy_losses)),
            "train/value_loss": float(np.mean(value_losses)),
            "train/approx_kl": float(self.epoch_kl),
            "train/clip_fraction": float(np.mean(clip_fractions)),
            "train/loss": totals[-1],
        }


@dataclass(frozen=True)
class RolloutMeasurement:
    """The new policy held against the old one over the whole rollout.

    :param kl: mean KL(old||new) in nats
    :param kl_is_analytic: False where no closed form exists and ``kl`` is the k3 estimate
    :param surrogate_gain: mean of (r - 1) A, the unclipped surrogate's rise over the old policy's
    :param ratio: probability ratio of every sample, shape (rollout size,)
    :param zero_gradient_fraction: share of samples whose surrogate no longer pulls at the policy
    """

    kl: float
    kl_is_analytic: bool
    surrogate_gain: float
    ratio: th.Tensor
    zero_gradient_fraction: float

    def logs(self) -> dict[str, float]:
        """Return the diagnostics that every variant logs."""
        ratio = self.ratio.double().cpu().numpy()
        with np.errstate(over="ignore", invalid="ignore"):  # infinite ratios give NaN
            low, high = np.quantile(ratio, [0.05, 0.95]).tolist()
            effective = ratio.sum() ** 2 / (np.square(ratio).sum() * len(ratio))
        return {
            "train/kl" if self.kl_is_analytic else "train/kl_k3": self.kl,
            "train/effective_sample_size": float(effective),
            "train/ratio_q05": low,
            "train/ratio_q95": high,
            "train/zero_gradient_fraction": self.zero_gradient_fraction,
        }
