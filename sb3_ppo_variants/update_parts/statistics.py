"""What one update reports: losses, figures, and a measurement."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch as th

from sb3_ppo_variants.update_parts.array_batch import ArrayBatch
from sb3_ppo_variants.update_parts.minibatch import MiniBatch
from sb3_ppo_variants.update_parts.stop import StopRule


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
    :ivar batch: the running minibatch; on array engines its twin in arrays
    :ivar stop_rule: which rule stopped the actor's updates; None while they run
    :ivar stop_epoch: epoch in which they were stopped
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.step = -1
        self.batch: MiniBatch | ArrayBatch | None = None
        self.stop_rule: StopRule | None = None
        self.stop_epoch: int | None = None

    def start_epoch(self, epoch: int) -> None:
        """Begin a pass over the rollout."""
        self.epoch = epoch
        self.step = -1

    def stop(self, rule: StopRule) -> None:
        """Note that the actor's updates end here, and by which rule."""
        self.stop_rule = rule
        self.stop_epoch = self.epoch

    @property
    def actor_runs(self) -> bool:
        """Whether the actor's updates go on."""
        return self.stop_rule is None

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
