"""What an engine does for a model, and what it may use of the model."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.vec_env import VecEnv
from typing_extensions import Self

from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.update_parts.array_batch import ArrayBatch
from sb3_ppo_variants.update_parts.colored_noise import ColoredNoise
from sb3_ppo_variants.update_parts.minibatch import CriticBatch, MiniBatch
from sb3_ppo_variants.update_parts.snapshot import PolicySnapshot
from sb3_ppo_variants.update_parts.statistics import Losses, RolloutMeasurement, UpdateStatistics


class CriticSettings(NamedTuple):
    """How the passes of a critic that is trained on its own are made.

    :param optimizer: the critic's own, at the rate of this update
    :param batch_size: samples per minibatch; the last one of a pass may be shorter
    :param max_grad_norm: bound on the norm of the critic's gradient
    """

    optimizer: th.optim.Optimizer
    batch_size: int
    max_grad_norm: float


class Engine(ABC):
    """Collects rollouts and makes updates for one model.

    :ivar name: what the model's ``engine`` calls it
    """

    name: str

    @abstractmethod
    def fits(self, model: "Trainable") -> bool:
        """Tell whether the engine was built for the model as it is now; where not, another one is built."""

    @abstractmethod
    def bind(self) -> None:
        """Take notice that parameters or the optimizer's state have been set from outside."""

    @abstractmethod
    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
        sb3_loop: Callable[[], bool],
    ) -> bool:
        """Collect one rollout as SB3 does.

        :param env: the training environment
        :param callback: called at each step and at the beginning and end of the rollout
        :param rollout_buffer: the buffer to fill
        :param n_rollout_steps: number of steps per environment
        :param sb3_loop: collects this rollout with SB3's own loop, for engines that have none
        :return: False if the callback ended training
        """

    def predict(self, observation: Any, deterministic: bool) -> npt.NDArray[Any] | None:  # noqa: ARG002
        """Return the actions that SB3's ``predict`` returns, or None to leave them to it.

        :param observation: as ``predict`` takes it
        :param deterministic: the likeliest action instead of a drawn one
        """
        return None

    @abstractmethod
    def begin_update(self, old_policy: PolicySnapshot) -> "Update":
        """Return a new update on the rollout in the model's buffer.

        :param old_policy: the policy that collected it
        """


class Update(ABC):
    """One update: made when it begins, dropped when it ends. A context, within which its methods may be called.

    :param old_policy: the policy that collected the rollout
    :ivar stats: figures of the update so far
    """

    stats: UpdateStatistics

    def __init__(self, old_policy: PolicySnapshot) -> None:
        self.old_policy = old_policy

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    @abstractmethod
    def minibatches(self, epoch: int) -> Iterator[None]:
        """Go once through the rollout: evaluate one minibatch after the other, and note its figures in ``stats``.

        :param epoch: number of the pass, from 0
        """

    @abstractmethod
    def step(self) -> None:
        """Take the optimizer's step on the minibatch of this moment; the critic's alone once the actor is stopped.

        :raises NonFiniteUpdateError: before a NaN or an infinity reaches the parameters
        """

    @abstractmethod
    def finish_steps(self) -> None:
        """Note that the last step is taken: what is logged of them is computed while the coefficients are theirs."""

    @abstractmethod
    def train_critic(self, settings: CriticSettings) -> float:
        """Make one pass over the rollout that trains the critic alone, on the returns in the model's buffer.

        :param settings: how
        :return: the critic's loss, mean over the minibatches of the pass
        :raises NonFiniteUpdateError: before a NaN or an infinity reaches the parameters
        """

    @abstractmethod
    def values(self) -> FloatArray:
        """Return the critic's values of the rollout's observations as it is now, in the buffer's flattened order."""

    @abstractmethod
    def read_targets(self) -> None:
        """Take notice that advantages and returns in the model's buffer have been computed again."""

    @abstractmethod
    def measure(self) -> RolloutMeasurement:
        """Hold the current policy against the one that collected the rollout, over all of its samples.

        Draws no random number. A policy whose outputs are not finite measures as NaN.
        """


class Trainable(Protocol):
    """What an engine may use of a model: SB3's attributes under their names, and the hooks of the loop."""

    engine: Any
    policy: ActorCriticPolicy
    device: th.device
    action_space: spaces.Space[Any]
    rollout_buffer: RolloutBuffer
    num_timesteps: int
    gamma: float
    batch_size: int
    normalize_advantage: bool
    ent_coef: float
    vf_coef: float
    max_grad_norm: float
    critic_epochs: int | None
    critic_optimizer: th.optim.Optimizer | None
    exploration_noise: ColoredNoise | None
    needs_old_distribution: bool

    _last_obs: np.ndarray | dict[str, np.ndarray] | None
    _last_episode_starts: np.ndarray | None

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: np.ndarray | None = None) -> None: ...

    def _current_clip_range(self) -> float: ...

    def _current_clip_range_vf(self) -> float | None: ...

    def _rollout_chunks(self) -> Generator[RolloutBufferSamples, None, None]: ...

    def _evaluate(self, rollout_data: RolloutBufferSamples) -> MiniBatch: ...

    def _evaluate_critic(self, rollout_data: RolloutBufferSamples) -> CriticBatch: ...

    def _minibatch(self, rollout_data: RolloutBufferSamples) -> MiniBatch: ...

    def _losses(self, batch: MiniBatch) -> Losses: ...

    def _value_loss(self, batch: CriticBatch) -> th.Tensor: ...

    def _surrogate(self, batch: MiniBatch) -> th.Tensor: ...

    def _penalty(self, batch: MiniBatch) -> th.Tensor | None: ...

    def _surrogate_slope(self, batch: ArrayBatch) -> FloatArray: ...

    def _kl_slope(self, batch: ArrayBatch) -> FloatArray | None: ...

    def _mean_noise(self, shape: tuple[int, ...]) -> th.Tensor | None: ...

    def _value_loss_slope(
        self, values: FloatArray, old_values: FloatArray, returns: FloatArray, clip_range_vf: float | None
    ) -> FloatArray: ...
