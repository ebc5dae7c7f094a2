r"""Action distributions on arrays: sampling, log-probability, entropy, KL, and their gradients by the network's output.

A head holds the result of its last ``forward`` and differentiates it in ``backward``. Shapes: B samples, K outputs
of the policy network, D action dimensions. Random numbers come from PyTorch's global generator, in the order and
amount of SB3's distributions, so that a run draws what SB3's run of the same seed draws.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from stable_baselines3.common.distributions import Distribution

from sb3_ppo_variants.maths.arrays import FloatArray


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
    def entropies(self) -> FloatArray:
        """Return the entropy of each row of the last forward pass in nats, shape (B,)."""

    @abstractmethod
    def kl(self, old: "OldDistribution", outputs: FloatArray) -> FloatArray:
        """Return KL(old||new) per row in nats, shape (B,)."""

    @abstractmethod
    def backward(
        self,
        log_prob_slope: FloatArray,
        entropy_slope: float | FloatArray,
        kl_slope: FloatArray | None,
        old: "OldDistribution | None",
    ) -> FloatArray:
        """Return dL/d(outputs) of the last forward pass, shape (B, K); write the gradient of own parameters.

        :param log_prob_slope: dL/d(log-probability) per row, shape (B,)
        :param entropy_slope: dL/d(entropy), the same for all rows or per row, shape (B,)
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
