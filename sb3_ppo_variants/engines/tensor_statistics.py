"""Figures of an update in PyTorch: collected as tensors, converted many at a time."""

import numpy as np
import numpy.typing as npt
import torch as th

from sb3_ppo_variants.update_parts.minibatch import MiniBatch
from sb3_ppo_variants.update_parts.statistics import Losses, UpdateStatistics

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
