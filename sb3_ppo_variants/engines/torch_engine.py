"""Rollouts and updates in PyTorch, with the bits of SB3's; it runs every model."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, NamedTuple

import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.vec_env import VecEnv
from typing_extensions import Self

from sb3_ppo_variants.engines.batched_adam import batched_adam
from sb3_ppo_variants.engines.engine import CriticSettings, Engine, Trainable, Update
from sb3_ppo_variants.engines.exploring import exploring
from sb3_ppo_variants.engines.quick_checks import quick_checks
from sb3_ppo_variants.engines.rollout_data import minibatches
from sb3_ppo_variants.engines.tensor_statistics import TensorStatistics
from sb3_ppo_variants.maths import divergences
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.update_parts.errors import NonFiniteUpdateError
from sb3_ppo_variants.update_parts.finite import first_bad, in_the_update
from sb3_ppo_variants.update_parts.snapshot import PolicySnapshot
from sb3_ppo_variants.update_parts.statistics import RolloutMeasurement


class TorchEngine(Engine):
    """Runs SB3's rollout loop, and updates by autograd.

    :param model: any model of the loop
    """

    name = "torch"

    def __init__(self, model: Trainable) -> None:
        self._model = model

    def fits(self, model: Trainable) -> bool:  # noqa: D102 -- see Engine
        return model is self._model

    def bind(self) -> None:
        """Do nothing: PyTorch holds the parameters."""

    def collect_rollouts(  # noqa: D102
        self,
        env: VecEnv,  # noqa: ARG002
        callback: BaseCallback,  # noqa: ARG002
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,  # noqa: ARG002
        sb3_loop: Callable[[], bool],
    ) -> bool:
        with quick_checks(self._model.policy), exploring(self._model, rollout_buffer):
            return sb3_loop()

    def begin_update(self, old_policy: PolicySnapshot) -> "TorchUpdate":  # noqa: D102
        return TorchUpdate(self._model, old_policy)


class TorchUpdate(Update):
    """One update by autograd.

    :param model: the model
    :param old_policy: the policy that collected the rollout
    """

    def __init__(self, model: Trainable, old_policy: PolicySnapshot) -> None:
        super().__init__(old_policy)
        self.stats: TensorStatistics = TensorStatistics()
        self._model = model
        self._within = ExitStack()
        self._stepping = ExitStack()

    def __enter__(self) -> Self:
        self._within.enter_context(quick_checks(self._model.policy))
        self._within.enter_context(self._stepping)
        self._stepping.enter_context(batched_adam(self._model.policy.optimizer))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._within.__exit__(kind, error, traceback)

    def minibatches(self, epoch: int) -> Iterator[None]:  # noqa: D102 -- see Update
        model = self._model
        self.stats.start_epoch(epoch)
        for rollout_data in minibatches(model.rollout_buffer, model.batch_size):
            self._batch = batch = model._minibatch(rollout_data)
            self._losses = model._losses(batch)
            with th.no_grad():
                kl = th.mean(divergences.k3(batch.log_ratio, batch.ratio))
                clip_fraction = th.mean((th.abs(batch.ratio - 1) > batch.clip_range).float())
            self.stats.record(batch, self._losses, kl, clip_fraction)
            yield

    def step(self) -> None:  # noqa: D102
        optimizer = self._model.policy.optimizer
        # With a critic of its own the total has no value term, and the update is over once the actor is stopped
        loss = self._losses.total if self.stats.actor_runs else self._model._current("vf_coef") * self._losses.value
        optimizer.zero_grad()
        loss.backward()
        norm = th.nn.utils.clip_grad_norm_(self.old_policy.parameters, self._model.max_grad_norm)
        # One host synchronisation for both; a sum that alone overflows raises nothing
        if not math.isfinite((norm + loss.detach()).item()):
            self._raise_if_non_finite(loss)
        optimizer.step()

    def train_critic(self, settings: CriticSettings) -> float:  # noqa: D102 -- see Update
        model, optimizer, losses = self._model, settings.optimizer, []
        parameters = optimizer.param_groups[0]["params"]
        with batched_adam(optimizer):
            for rollout_data in minibatches(model.rollout_buffer, settings.batch_size):
                batch = model._evaluate_critic(rollout_data)
                loss = model._value_loss(batch)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                norm = th.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
                if not math.isfinite((norm + loss.detach()).item()):
                    gradients = [("gradient", parameter.grad) for parameter in parameters]
                    self._raise_if_bad(optimizer, [("value", batch.values), ("loss", loss), *gradients])
                optimizer.step()
                losses.append(loss.detach())
        return float(th.stack(losses).mean())

    def values(self) -> FloatArray:  # noqa: D102
        policy = self._model.policy
        policy.set_training_mode(False)
        try:
            with th.no_grad():
                parts = [self._model._evaluate_critic(chunk).values for chunk in self._model._rollout_chunks()]
        finally:
            policy.set_training_mode(True)
        return th.cat(parts).cpu().numpy()

    def read_targets(self) -> None:
        """Do nothing: minibatches are read from the buffer."""

    def finish_steps(self) -> None:  # noqa: D102
        self._stepping.close()

    def measure(self) -> RolloutMeasurement:  # noqa: D102
        policy = self._model.policy
        policy.set_training_mode(False)
        try:
            parts = [self._measure_chunk(chunk) for chunk in self._model._rollout_chunks()]
        finally:
            policy.set_training_mode(True)
        kl, gain, ratio, has_gradient = (th.cat(column) for column in zip(*(part[:4] for part in parts), strict=True))
        return RolloutMeasurement(
            kl=kl.double().mean().item(),
            kl_is_analytic=all(part.kl_is_analytic for part in parts),
            surrogate_gain=gain.double().mean().item(),
            ratio=ratio,
            zero_gradient_fraction=1.0 - has_gradient.double().mean().item(),
        )

    def _measure_chunk(self, chunk: RolloutBufferSamples) -> "_Measured":
        model = self._model
        with self.old_policy.installed():
            old = model._evaluate(chunk)
        try:
            with th.no_grad():
                new = model._evaluate(chunk)
        except NonFiniteUpdateError:
            nan = th.full_like(old.log_prob, float("nan"))
            return _Measured(nan, nan, nan, th.ones_like(nan), kl_is_analytic=True)
        advantages = self._normalised_over_rollout(old.advantages)
        new = replace(new, advantages=advantages, old_distribution=old.distribution)
        # The log-probability as a leaf: its gradient shows which samples still pull
        leaf = new.log_prob.clone().requires_grad_()
        (gradient,) = th.autograd.grad(model._surrogate(replace(new, log_prob=leaf)).sum(), leaf)
        analytic = divergences.has_analytic_kl(old.distribution)
        pair = (divergences.in_float64(batch.distribution) for batch in (old, new))
        kl = divergences.kl_divergence(*pair) if analytic else new.kl
        return _Measured(kl, (new.ratio - 1) * advantages, new.ratio, (gradient != 0).float(), analytic)

    def _normalised_over_rollout(self, advantages: th.Tensor) -> th.Tensor:
        if not self._model.normalize_advantage:
            return advantages
        rollout = self._model.rollout_buffer.advantages
        return (advantages - float(rollout.mean())) / (float(rollout.std()) + 1e-8)

    def _raise_if_non_finite(self, loss: th.Tensor) -> None:
        """Name what is not finite; a gradient norm that alone overflows has been clipped to zero and is harmless."""
        policy, batch = self._model.policy, self._batch
        gradients = [("gradient", parameter.grad) for parameter in policy.parameters() if parameter.grad is not None]
        entropy = [] if batch.entropy is None else [("entropy", batch.entropy)]
        suspects = [("log-prob", batch.log_prob), ("value", batch.values), *entropy, ("loss", loss), *gradients]
        self._raise_if_bad(policy.optimizer, suspects)

    def _raise_if_bad(self, optimizer: th.optim.Optimizer, suspects: list[tuple[str, Any]]) -> None:
        name = first_bad(suspects)
        if name is not None:
            optimizer.zero_grad()
            raise NonFiniteUpdateError(name, in_the_update(self._model.num_timesteps, self.stats))


class _Measured(NamedTuple):
    """Some samples of the rollout, held against the old policy; tensors have shape (samples,).

    :param has_gradient: 1 where the surrogate still pulls at the policy
    """

    kl: th.Tensor
    surrogate_gain: th.Tensor
    ratio: th.Tensor
    has_gradient: th.Tensor
    kl_is_analytic: bool
