"""One update on arrays: minibatches, the loss's gradient by the chain rule, the measurement at its end."""

from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType

import numpy as np
import numpy.typing as npt
import torch as th
from typing_extensions import Self

from sb3_ppo_variants.engines.array_statistics import ArrayStatistics, EpochRecord
from sb3_ppo_variants.engines.critic_pass import SUSPICIOUS, CriticLoss, critic_pass, gradient_scale_of
from sb3_ppo_variants.engines.engine import CriticSettings, Trainable, Update
from sb3_ppo_variants.engines.hook_slopes import HookSlopes
from sb3_ppo_variants.engines.kernels.head import OldDistribution
from sb3_ppo_variants.engines.kernels.kernels import ActorSlopes, Kernels
from sb3_ppo_variants.engines.recorded_losses import RecordedLosses
from sb3_ppo_variants.engines.rollout_data import flatten_in_place, rows_of_numbers
from sb3_ppo_variants.engines.samples import Samples, samples_of
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.update_parts.array_batch import ArrayBatch
from sb3_ppo_variants.update_parts.errors import NonFiniteUpdateError
from sb3_ppo_variants.update_parts.finite import first_bad, in_the_update
from sb3_ppo_variants.update_parts.minibatch import CriticBatch
from sb3_ppo_variants.update_parts.snapshot import PolicySnapshot
from sb3_ppo_variants.update_parts.statistics import RolloutMeasurement

_GATHERED = 1024  # samples that are gathered for minibatches at a time
_PIECE = 256  # samples per forward pass over the whole rollout: bounds memory


class ArrayUpdate(Update):
    """Reads the rollout and the distributions of the policy that collected it; steps on kernels.

    :param model: the model
    :param kernels: its arithmetic
    :param old_policy: the policy that collected the rollout
    """

    def __init__(self, model: Trainable, kernels: Kernels, old_policy: PolicySnapshot) -> None:
        super().__init__(old_policy)
        kernels.bind()
        flatten_in_place(model.rollout_buffer)
        self._model = model
        self._kernels = kernels
        self._observations = model.rollout_buffer.observations
        # As in PyTorch, whatever the caller has NumPy do: an overflow is reported as NonFiniteUpdateError, and that a
        # probability vanishes is no error
        with np.errstate(all="ignore"):
            self._old = kernels.head.remember(np.concatenate([self._outputs(rows) for rows in self._pieces()]))
        read_by_hooks = self._old if model.needs_old_distribution else None
        self._rollout = samples_of(model.rollout_buffer, read_by_hooks, kernels.dtype)
        self._slopes = HookSlopes(model)
        self._with_critic = model.critic_epochs is None
        self._clip_range = model._current_clip_range()
        self._clip_range_vf = model._current_clip_range_vf()
        self._losses = RecordedLosses(model, self._rollout, kernels.head, self._clip_range, self._clip_range_vf)
        self.stats: ArrayStatistics = ArrayStatistics(model.batch_size, self._clip_range, self._losses)
        self._within = ExitStack()

    def __enter__(self) -> Self:
        self._within.enter_context(np.errstate(all="ignore"))
        self._within.enter_context(th.inference_mode(False))  # hooks are differentiated whatever the caller has on
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._kernels.publish()
        self._within.__exit__(kind, error, traceback)

    def minibatches(self, epoch: int) -> Iterator[None]:
        """Go once through the rollout, in the order that SB3's buffer would yield.

        :param epoch: number of the pass, from 0
        """
        size, batch_size = len(self._observations), self._model.batch_size
        self.start_epoch(epoch, np.random.permutation(size))
        for start in range(0, size, batch_size):
            self.evaluate(slice(start, min(start + batch_size, size)))
            yield

    def start_epoch(self, epoch: int, order: npt.NDArray[np.intp]) -> None:
        """Begin a pass over the rollout.

        :param epoch: its number, from 0
        :param order: index in the rollout of each sample
        """
        self.stats.start_epoch(epoch)
        log_ratios, values, kls = np.zeros((3, len(order)), self._kernels.dtype)
        self._record = EpochRecord(order, self._normalised(self._rollout.advantages[order]), log_ratios, values, kls)
        self._gathered = slice(0, 0)
        self.stats.add_epoch(self._record)

    def evaluate(self, rows: slice) -> None:
        """Run both networks on a minibatch; remember what the step and the logs need.

        :param rows: the minibatch in the epoch's order
        """
        model, record, stats = self._model, self._record, self.stats
        observations, samples = self._read(rows)
        noise = model._mean_noise(samples.actions.shape)
        log_prob, values, entropy, kl = self._kernels.evaluate(
            observations,
            samples.actions,
            samples.old,
            None if noise is None else noise.numpy().astype(self._kernels.dtype, copy=False),
            with_critic=self._with_critic,
        )
        log_ratio = np.subtract(log_prob, samples.old_log_prob, out=record.log_ratios[rows])
        if values is not None:
            record.values[rows] = values
        record.entropies.append(entropy)
        if self._slopes.reads_entropies:
            record.entropies_of_states.append(self._kernels.entropies().copy())
        record.count = rows.stop
        if kl is not None:
            record.kls[rows] = kl
        self._rows, self._samples = rows, samples
        self._batch = stats.batch = self._array_batch(samples, samples.old, record.advantages[rows], log_ratio, kl)
        stats.step += 1

    def step(self) -> None:
        r"""Differentiate the loss by all parameters and step.

        L = mean(-surrogate + penalty) - ent_coef mean(H) + vf_coef (value loss); by the chain rule through the
        log-probability, the entropy and the KL of each sample, then through the networks.

        :raises NonFiniteUpdateError: before a NaN or an infinity reaches the parameters
        """
        model, batch, samples, record = self._model, self._batch, self._samples, self._record
        scale = 1.0 / len(batch.ratio)
        value_slope = None
        if self._with_critic:
            value_slope = self._value_slope(record.values[self._rows], samples.old_values, samples.returns)
            value_slope = value_slope * (model._current("vf_coef") * scale)
        slopes, actor_runs = None, self.stats.actor_runs
        if actor_runs:
            ent_coef = model._current("ent_coef")
            entropies = record.entropies_of_states[-1] if self._slopes.reads_entropies else None
            by_log_prob, by_kl, by_entropy = self._slopes.objective(batch, samples, entropies)
            slopes = ActorSlopes(
                log_prob=by_log_prob * -scale,
                entropy=-scale * (ent_coef if by_entropy is None else ent_coef + by_entropy),
                kl=None if by_kl is None else by_kl * -scale,
            )
        squared_norm = self._kernels.backward(value_slope, slopes)
        if not squared_norm < SUSPICIOUS:
            self._raise_if_non_finite()
        settings = model.policy.optimizer.param_groups[0]
        gradient_scale = gradient_scale_of(squared_norm, model.max_grad_norm)
        self._kernels.step(settings, gradient_scale, actor=actor_runs, critic=self._with_critic)

    def train_critic(self, settings: CriticSettings) -> float:  # noqa: D102 -- see Update
        loss = CriticLoss(self._value_slope, self._value_loss)
        where = in_the_update(self._model.num_timesteps, self.stats)
        return critic_pass(self._kernels, self._model.rollout_buffer, settings, loss, where)

    def _value_slope(self, values: FloatArray, old_values: FloatArray, returns: FloatArray) -> FloatArray:
        return self._slopes.value(values, old_values, returns, self._clip_range_vf)

    def _value_loss(self, values: FloatArray, old_values: FloatArray, returns: FloatArray) -> float:
        """Return the critic's loss on some samples, by the torch hook."""
        batch = CriticBatch(
            returns=th.from_numpy(returns),
            old_values=th.from_numpy(old_values),
            values=th.from_numpy(values),
            clip_range_vf=self._clip_range_vf,
        )
        return float(self._model._value_loss(batch).detach())

    def values(self) -> FloatArray:  # noqa: D102
        pieces = (rows_of_numbers(self._observations[rows], self._kernels.dtype) for rows in self._pieces())
        return np.concatenate([self._kernels.values(piece) for piece in pieces])

    def read_targets(self) -> None:  # noqa: D102
        self.stats.settle()  # what was trained on the targets until now is logged with them
        self._rollout = samples_of(self._model.rollout_buffer, self._rollout.old, self._kernels.dtype)
        self._losses.rollout = self._rollout

    def finish_steps(self) -> None:  # noqa: D102 -- see Update
        self.stats.finish()

    def measure(self) -> RolloutMeasurement:  # noqa: D102
        advantages = self._rollout.advantages
        if self._model.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        pieces = [self._measure_piece(rows, advantages[rows]) for rows in self._pieces()]
        kl, ratio, slope = (np.concatenate(column) for column in zip(*pieces, strict=True))
        return RolloutMeasurement(
            kl=float(kl.mean()),
            kl_is_analytic=True,
            surrogate_gain=float(((ratio - 1) * advantages).mean(dtype=np.float64)),
            ratio=th.from_numpy(ratio),
            zero_gradient_fraction=float((slope == 0).mean()),
        )

    def _measure_piece(self, rows: slice, advantages: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the KL in float64, the ratio and the slope of the surrogate per sample."""
        head, samples, outputs = self._kernels.head, self._rollout.rows(rows), self._outputs(rows)
        old = self._old.rows(rows)
        log_ratio = head.forward(outputs, samples.actions) - samples.old_log_prob
        kl = head.kl(old.in_float64(), outputs.astype(np.float64))
        batch = self._array_batch(samples, old, advantages, log_ratio, kl)
        entropies = head.entropies() if self._slopes.reads_entropies else None
        return kl, batch.ratio, self._slopes.surrogate(batch, samples, entropies)

    def _pieces(self) -> Iterator[slice]:
        size = len(self._observations)
        return (slice(start, min(start + _PIECE, size)) for start in range(0, size, _PIECE))

    def _outputs(self, rows: slice) -> FloatArray:
        """Return a copy of the actor's outputs for some of the rollout's samples."""
        return self._kernels.outputs(rows_of_numbers(self._observations[rows], self._kernels.dtype)).copy()

    def _read(self, rows: slice) -> tuple[FloatArray, Samples]:
        """Return the observations and the samples of a minibatch.

        Several minibatches are gathered at once, of which each is a slice: a gather for each takes longer.
        """
        if rows.start >= self._gathered.stop:
            batch_size = self._model.batch_size
            self._gathered = slice(rows.start, rows.start + max(1, _GATHERED // batch_size) * batch_size)
            index = self._record.order[self._gathered]
            self._gathered_observations = rows_of_numbers(self._observations[index], self._kernels.dtype)
            self._gathered_samples = self._rollout.rows(index)
        part = slice(rows.start - self._gathered.start, rows.stop - self._gathered.start)
        return self._gathered_observations[part], self._gathered_samples.rows(part)

    def _array_batch(
        self,
        samples: Samples,
        old: OldDistribution | None,
        advantages: FloatArray,
        log_ratio: FloatArray,
        kl: FloatArray | None,
    ) -> ArrayBatch:
        gaussian = None
        if old is not None and old.std is not None:
            gaussian = (old.outputs, np.broadcast_to(old.std, old.outputs.shape))
        return ArrayBatch(
            actions=samples.actions,
            advantages=advantages,
            old_log_prob=samples.old_log_prob,
            log_ratio=log_ratio,
            ratio=np.exp(log_ratio),
            clip_range=self._clip_range,
            kl=kl,
            old_gaussian=gaussian,
        )

    def _normalised(self, advantages: FloatArray) -> FloatArray:
        """Normalise the advantages of an epoch within each of its minibatches, all at once."""
        model = self._model
        if not model.normalize_advantage or model.batch_size == 1:  # the standard deviation of one sample is NaN
            return advantages
        full = len(advantages) // model.batch_size * model.batch_size
        head, tail = advantages[:full].reshape(-1, model.batch_size), advantages[full:]
        normalised = np.empty_like(advantages)
        normalised[:full] = _standardised(head).ravel() if head.size else ()
        normalised[full:] = _standardised(tail[None])[0] if len(tail) > 1 else tail
        return normalised

    def _raise_if_non_finite(self) -> None:
        """Name what is not finite; a gradient norm that alone overflows has been clipped to zero and is harmless."""
        self._raise_if_bad(
            ("log-prob", self._batch.log_ratio),
            ("value", self._record.values[self._rows]),
            ("loss", self._batch.ratio),
            ("loss", self._losses([(self._record, self._rows)]).total),
            ("gradient", self._kernels.actor_group.gradients),
            ("gradient", self._kernels.critic_group.gradients),
        )

    def _raise_if_bad(self, *suspects: tuple[str, FloatArray | th.Tensor]) -> None:
        name = first_bad(suspects)
        if name is not None:
            raise NonFiniteUpdateError(name, in_the_update(self._model.num_timesteps, self.stats))


def _standardised(rows: FloatArray) -> FloatArray:
    return (rows - rows.mean(axis=1, keepdims=True)) / (rows.std(axis=1, ddof=1, keepdims=True) + 1e-8)
