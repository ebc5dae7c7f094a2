"""Rollouts and updates of a plain MLP policy in NumPy, on the parameters that the torch policy holds."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from sb3_ppo_variants.engines.activations import activation_of
from sb3_ppo_variants.engines.adam import Adam
from sb3_ppo_variants.engines.array_batch import ArrayBatch, FloatArray
from sb3_ppo_variants.engines.array_statistics import ArrayStatistics, EpochRecord, Stretch
from sb3_ppo_variants.engines.heads import (
    BernoulliHead,
    CategoricalHead,
    DiagGaussianHead,
    Head,
    MultiCategoricalHead,
    OldDistribution,
)
from sb3_ppo_variants.engines.layout import ParameterGroup
from sb3_ppo_variants.engines.mlp import MLP, Layer
from sb3_ppo_variants.training.errors import NonFiniteUpdateError
from sb3_ppo_variants.training.minibatch import MiniBatch
from sb3_ppo_variants.training.rollout_data import flatten_in_place
from sb3_ppo_variants.training.statistics import Losses, RolloutMeasurement

if TYPE_CHECKING:
    from sb3_ppo_variants.training.update_loop import UpdateLoop


_GATHERED = 1024  # samples that are gathered for minibatches at a time
_PIECE = 256  # samples per forward pass over the whole rollout: bounds memory


@dataclass(frozen=True)
class Samples:
    """Samples of the rollout as the losses read them, without their observations, in the engine's dtype."""

    actions: FloatArray
    old_values: FloatArray
    old_log_prob: FloatArray
    advantages: FloatArray
    returns: FloatArray
    old: OldDistribution

    def rows(self, index: slice | npt.NDArray[np.intp]) -> "Samples":
        """Return some of the samples."""
        return Samples(
            self.actions[index],
            self.old_values[index],
            self.old_log_prob[index],
            self.advantages[index],
            self.returns[index],
            self.old.rows(index),
        )


@dataclass(frozen=True, eq=False)
class _RecordedBatch(MiniBatch):
    """A minibatch rebuilt from arrays: its KL is known, its distribution is gone."""

    recorded_kl: th.Tensor | None = None

    @property
    def kl(self) -> th.Tensor:
        assert self.recorded_kl is not None
        return self.recorded_kl


class NumpyEngine:
    """Runs one model's forward passes and updates in NumPy.

    :param model: an eligible model (see :func:`why_not_numpy`)
    """

    def __init__(self, model: "UpdateLoop") -> None:
        self._model = model
        self.policy = policy = model.policy
        extractor = policy.mlp_extractor
        actor_modules = [*extractor.policy_net, policy.action_net]
        critic_modules = [*extractor.value_net, policy.value_net]
        log_std = [policy.get_parameter("log_std")] if hasattr(policy, "log_std") else []
        self._actor_group = ParameterGroup([*_parameters(actor_modules), *log_std])
        self._critic_group = ParameterGroup(_parameters(critic_modules))
        self._head = _head(policy, self._actor_group)
        self._actor = _mlp(actor_modules, self._actor_group)
        self._critic = _mlp(critic_modules, self._critic_group)
        # The bits of a continuous action decide what the environment does with it
        is_continuous = isinstance(self._head, DiagGaussianHead)
        self._choose = self._actor.forward_exactly if is_continuous else self._actor.forward
        self._actor_adam = Adam(self._actor_group)
        self._critic_adam = Adam(self._critic_group)
        self.dtype = self._actor_group.values.dtype
        self._torch_dtype = policy.action_net.weight.dtype
        self._parameter_ids = {id(p) for p in (*self._actor_group.parameters, *self._critic_group.parameters)}
        self.bind()

    def fits(self, policy: ActorCriticPolicy) -> bool:
        """Tell whether the engine was built for this policy with these parameters, in this dtype."""
        if policy is not self.policy:
            return False
        parameters = list(policy.parameters())
        return {id(p) for p in parameters} == self._parameter_ids and parameters[0].dtype == self._torch_dtype

    def bind(self) -> None:
        """Make sure that torch and NumPy hold the same memory."""
        self._actor_group.bind(self.policy.optimizer)
        self._critic_group.bind(self.policy.optimizer)

    # Rollouts -------------------------------------------------------------------------------------------------------

    def act(self, observations: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Sample an action per environment; return actions, values and log-probabilities.

        :param observations: shape (environments, ...)
        """
        x = self._flat(observations)
        actions, log_probs = self._head.sample(self._choose(x))
        values = self._critic.forward(x).copy()  # the workspace is overwritten by the next pass
        return actions, values, log_probs

    def values(self, observations: FloatArray) -> FloatArray:
        """Return the critic's values, shape (batch,)."""
        return self._critic.forward(self._flat(observations))[:, 0]

    def _flat(self, observations: FloatArray) -> FloatArray:
        # The policy computes in float32 even where an environment speaks float64
        return observations.reshape(len(observations), -1).astype(self.dtype, copy=False)

    # Updates --------------------------------------------------------------------------------------------------------

    def begin_update(self) -> ArrayStatistics:
        """Read the rollout and the distributions of the policy that collected it."""
        self.bind()
        buffer = self._model.rollout_buffer
        flatten_in_place(buffer)
        self._observations = buffer.observations
        self._rollout = Samples(
            actions=buffer.actions.astype(self.dtype, copy=False),
            old_values=buffer.values[:, 0].astype(self.dtype, copy=False),
            old_log_prob=buffer.log_probs[:, 0].astype(self.dtype, copy=False),
            advantages=buffer.advantages[:, 0].astype(self.dtype, copy=False),
            returns=buffer.returns[:, 0].astype(self.dtype, copy=False),
            old=self._head.remember(self._outputs_of_rollout()),
        )
        self._clip_range = self._model._current_clip_range()
        self._clip_range_vf = self._model._current_clip_range_vf()
        return ArrayStatistics(self._model.batch_size, self._clip_range, self._recorded_losses)

    def _outputs_of_rollout(self) -> FloatArray:
        """Run the actor over the whole rollout, in pieces that keep the networks' memory small."""
        outputs = np.empty((len(self._observations), self._actor.n_outputs), self.dtype)
        for rows in self._pieces():
            outputs[rows] = self._outputs(rows)
        return outputs

    def _outputs(self, rows: slice) -> FloatArray:
        return self._actor.forward(self._flat(self._observations[rows]))

    def _pieces(self) -> Iterator[slice]:
        size = len(self._observations)
        return (slice(start, min(start + _PIECE, size)) for start in range(0, size, _PIECE))

    # An overflow is reported as NonFiniteUpdateError, not as a warning beside it
    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def run_epoch(self, stats: ArrayStatistics) -> None:
        """Do one pass over the rollout in minibatches, in the order that SB3's buffer would yield."""
        model, size = self._model, len(self._observations)
        self.start_epoch(stats, np.random.permutation(size))
        for start in range(0, size, model.batch_size):
            rows = slice(start, min(start + model.batch_size, size))
            stats.batch = batch = self.evaluate(rows)
            stats.step += 1
            model._ask_to_stop("before_step", stats)
            if model._is_over(stats):
                return
            self.step(batch, rows, stats)
            model._ask_to_stop("after_step", stats)
            if model._is_over(stats):
                return

    def start_epoch(self, stats: ArrayStatistics, order: npt.NDArray[np.intp]) -> None:
        """Begin a pass over the rollout.

        :param stats: gets the epoch's record
        :param order: index in the rollout of each sample
        """
        log_ratios, values, kls = np.zeros((3, len(order)), self.dtype)
        self._record = EpochRecord(order, self._normalised(self._rollout.advantages[order]), log_ratios, values, kls)
        self._gathered = slice(0, 0)
        stats.add_epoch(self._record)

    def _read(self, rows: slice) -> tuple[FloatArray, Samples]:
        """Return the observations and the samples of a minibatch.

        Several minibatches are gathered at once, of which each is a slice: a gather for each takes longer.
        """
        if rows.start >= self._gathered.stop:
            batch_size = self._model.batch_size
            self._gathered = slice(rows.start, rows.start + max(1, _GATHERED // batch_size) * batch_size)
            index = self._record.order[self._gathered]
            self._gathered_observations = self._flat(self._observations[index])
            self._gathered_samples = self._rollout.rows(index)
        part = slice(rows.start - self._gathered.start, rows.stop - self._gathered.start)
        return self._gathered_observations[part], self._gathered_samples.rows(part)

    def evaluate(self, rows: slice) -> ArrayBatch:
        """Run both networks on a minibatch; remember what the backward pass and the logs need.

        :param rows: the minibatch in the epoch's order
        """
        model, record = self._model, self._record
        observations, self._samples = self._read(rows)
        samples = self._samples
        outputs = self._actor.forward(observations)
        noise = model._mean_noise(outputs.shape)
        if noise is None:
            log_prob = self._head.forward(outputs, samples.actions)
        else:
            assert isinstance(self._head, DiagGaussianHead)
            log_prob = self._head.forward(outputs, samples.actions, noise.numpy().astype(self.dtype, copy=False))
        log_ratio = np.subtract(log_prob, samples.old_log_prob, out=record.log_ratios[rows])
        record.values[rows] = self._critic.forward(observations)[:, 0]
        record.entropies.append(self._head.mean_entropy())
        record.count = rows.stop
        kl = None
        if model.needs_old_distribution:
            kl = record.kls[rows] = self._head.kl(samples.old, outputs)
        return self._array_batch(samples, record.advantages[rows], log_ratio, kl)

    def _array_batch(
        self, samples: Samples, advantages: FloatArray, log_ratio: FloatArray, kl: FloatArray | None
    ) -> ArrayBatch:
        gaussian = None
        if kl is not None and samples.old.std is not None:
            gaussian = (samples.old.outputs, np.broadcast_to(samples.old.std, samples.old.outputs.shape))
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

    def step(self, batch: ArrayBatch, rows: slice, stats: ArrayStatistics) -> None:
        r"""Differentiate the loss by all parameters and step.

        L = mean(-surrogate + penalty) - ent_coef mean(H) + vf_coef (value loss); by the chain rule through the
        log-probability, the entropy and the KL of each sample, then through the networks.

        :param batch: the minibatch just evaluated
        :param rows: its place in the epoch's order
        :param stats: tells whether the actor still runs
        """
        model, samples = self._model, self._samples
        scale = 1.0 / len(batch.ratio)
        value_slope = model._value_loss_slope(
            self._record.values[rows], samples.old_values, samples.returns, self._clip_range_vf
        )
        self._critic.backward((value_slope * (model.vf_coef * scale))[:, None])
        squared_norm = np.dot(self._critic_group.gradients, self._critic_group.gradients)
        actor_runs = stats.stop_reason is None
        if actor_runs:
            kl_slope = model._kl_slope(batch)
            self._actor.backward(
                self._head.backward(
                    model._surrogate_slope(batch) * -scale,
                    -model.ent_coef * scale,
                    None if kl_slope is None else kl_slope * -scale,
                    samples.old,
                )
            )
            squared_norm += np.dot(self._actor_group.gradients, self._actor_group.gradients)
        norm = math.sqrt(squared_norm) if squared_norm >= 0 else math.nan
        if not math.isfinite(norm):
            self._raise_if_non_finite(batch, rows, stats)
        settings = self.policy.optimizer.param_groups[0]
        gradient_scale = min(1.0, model.max_grad_norm / (norm + 1e-6))
        self._critic_adam.step(settings, gradient_scale)
        if actor_runs:
            self._actor_adam.step(settings, gradient_scale)

    def end_update(self) -> None:
        """Leave torch's optimizer as if it had made the steps itself; forget the rollout: the next one needs memory."""
        self._actor_group.publish_steps(self.policy.optimizer)
        self._critic_group.publish_steps(self.policy.optimizer)
        for name in ("_observations", "_rollout", "_record", "_samples", "_gathered_observations", "_gathered_samples"):
            vars(self).pop(name, None)  # an update that was refused has not made all of them

    def _raise_if_non_finite(self, batch: ArrayBatch, rows: slice, stats: ArrayStatistics) -> None:
        suspects = (
            ("log-prob", batch.log_ratio),
            ("value", self._record.values[rows]),
            ("loss", batch.ratio),
            ("gradient", self._actor_group.gradients),
            ("gradient", self._critic_group.gradients),
        )
        for name, values in suspects:
            if not np.isfinite(values).all():
                raise NonFiniteUpdateError(name, self._model._position(stats))

    def _normalised(self, advantages: FloatArray) -> FloatArray:
        """Normalise the advantages of an epoch within each of its minibatches, all at once."""
        model = self._model
        if not model.normalize_advantage:
            return advantages
        full = len(advantages) // model.batch_size * model.batch_size
        head, tail = advantages[:full].reshape(-1, model.batch_size), advantages[full:]
        normalised = np.empty_like(advantages)
        normalised[:full] = _standardised(head).ravel() if head.size else ()
        # The standard deviation of one sample is NaN
        normalised[full:] = _standardised(tail[None])[0] if len(tail) > 1 else tail
        return normalised

    # Measurements and logs ------------------------------------------------------------------------------------------

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def measure(self) -> RolloutMeasurement:
        """Hold the current policy against the one that collected the rollout, over all of its samples."""
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
        samples, outputs = self._rollout.rows(rows), self._outputs(rows)
        log_ratio = self._head.forward(outputs, samples.actions) - samples.old_log_prob
        kl = self._head.kl(samples.old.in_float64(), outputs.astype(np.float64))
        batch = self._array_batch(samples, advantages, log_ratio, kl)
        return kl, batch.ratio, self._model._surrogate_slope(batch)

    def _recorded_losses(self, stretches: Sequence[Stretch]) -> Losses:
        """Return the losses of recorded samples, from the torch hooks."""
        return self._model._losses(self._recorded_batch(stretches))

    def _recorded_batch(self, stretches: Sequence[Stretch]) -> MiniBatch:
        """Rebuild recorded samples as the torch hooks see them, to log the values of the losses."""

        def column(name: str) -> th.Tensor:
            return th.from_numpy(np.concatenate([getattr(record, name)[rows] for record, rows in stretches]))

        size, model = self._model.batch_size, self._model
        samples = self._rollout.rows(np.concatenate([record.order[rows] for record, rows in stretches]))
        old_log_prob = th.from_numpy(samples.old_log_prob)
        entropies = [
            e for record, rows in stretches for e in record.entropies[rows.start // size : -(-rows.stop // size)]
        ]
        needs_old = model.needs_old_distribution
        return _RecordedBatch(
            actions=self._torch_actions(samples.actions),
            advantages=column("advantages"),
            returns=th.from_numpy(samples.returns),
            old_values=th.from_numpy(samples.old_values),
            old_log_prob=old_log_prob,
            values=column("values"),
            log_prob=old_log_prob + column("log_ratios"),
            entropy=th.tensor(entropies),
            distribution=self.policy.action_dist,  # losses of eligible variants read the ratio and the KL only
            clip_range=self._clip_range,
            clip_range_vf=self._clip_range_vf,
            old_distribution=self._head.as_torch(samples.old) if needs_old else None,
            recorded_kl=column("kls") if needs_old else None,
        )

    def _torch_actions(self, actions: FloatArray) -> th.Tensor:
        tensor = th.from_numpy(actions)
        return tensor.long().flatten() if isinstance(self._head, CategoricalHead) else tensor


def _standardised(rows: FloatArray) -> FloatArray:
    return (rows - rows.mean(axis=1, keepdims=True)) / (rows.std(axis=1, ddof=1, keepdims=True) + 1e-8)


def _parameters(modules: list[nn.Module]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]


def _mlp(modules: list[nn.Module], group: ParameterGroup) -> MLP:
    layers = []
    for index, module in enumerate(modules):
        if not isinstance(module, nn.Linear):
            continue
        following = modules[index + 1] if index + 1 < len(modules) else None
        layers.append(
            Layer(
                weight=group.value(module.weight),
                bias=group.value(module.bias),
                weight_gradient=group.gradient(module.weight),
                bias_gradient=group.gradient(module.bias),
                activation=None if following is None else activation_of(following),
            )
        )
    return MLP(layers)


def _head(policy: ActorCriticPolicy, group: ParameterGroup) -> Head:
    distribution = policy.action_dist
    if isinstance(distribution, CategoricalDistribution):
        return CategoricalHead(distribution.action_dim)
    if isinstance(distribution, MultiCategoricalDistribution):
        return MultiCategoricalHead(distribution.action_dims)
    if isinstance(distribution, BernoulliDistribution):
        return BernoulliHead()
    log_std = policy.get_parameter("log_std")
    return DiagGaussianHead(group.value(log_std), group.gradient(log_std))
