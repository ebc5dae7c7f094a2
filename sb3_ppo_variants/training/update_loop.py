"""The one training loop of the package: SB3's PPO update with hooks for what limits the step.

A variant is a mixin on :class:`UpdateLoop` that overrides one to three hooks; its public class puts the mixin in front
of SB3's PPO. Rollout collection, policies, saving and loading stay SB3's.
"""

import copy
import io
import math
import pathlib
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutBufferSamples
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv
from typing_extensions import Self, Unpack

from sb3_ppo_variants.engines import rollout as numpy_rollout
from sb3_ppo_variants.engines.array_batch import ArrayBatch, FloatArray
from sb3_ppo_variants.engines.array_statistics import ArrayStatistics
from sb3_ppo_variants.engines.eligibility import why_not_numpy
from sb3_ppo_variants.engines.numpy_engine import NumpyEngine
from sb3_ppo_variants.search_space import SearchSpace
from sb3_ppo_variants.training import divergences, losses
from sb3_ppo_variants.training.batched_adam import batched_adam
from sb3_ppo_variants.training.checks import check_choice
from sb3_ppo_variants.training.errors import NonFiniteUpdateError
from sb3_ppo_variants.training.minibatch import MiniBatch
from sb3_ppo_variants.training.policy_kwargs import resolve_policy_kwargs
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs
from sb3_ppo_variants.training.quick_checks import quick_checks
from sb3_ppo_variants.training.rollout_data import minibatches
from sb3_ppo_variants.training.snapshot import PolicySnapshot
from sb3_ppo_variants.training.statistics import Losses, RolloutMeasurement, TensorStatistics, UpdateStatistics
from sb3_ppo_variants.vec_env import as_vec_env

if TYPE_CHECKING:  # the mixin is type-checked as the PPO that it is always combined with
    from stable_baselines3 import PPO as _Base  # noqa: N811 -- used as a base class only
else:
    _Base = object

StopPoint = Literal["before_step", "after_step", "after_epoch"]

_MEASURE_CHUNK = 512  # samples per forward pass over the whole rollout: bounds memory with image observations


class UpdateLoop(_Base):
    """SB3's PPO update, bit for bit, taken apart into hooks.

    Hooks, in the order in which an update meets them:

    1. ``_evaluate``: raw rollout data to a :class:`MiniBatch` under the current policy; only families override it
    2. ``_minibatch``: the minibatch that the losses see, advantages normalised
    3. ``_surrogate``: per-sample objective to maximise; ``_surrogate_slope`` is its twin on the NumPy engine
    4. ``_penalty``: per-sample term to minimise beside it; ``_kl_slope`` is its twin on the NumPy engine
    5. ``_value_loss``: the critic's loss; ``_value_loss_slope`` is its twin on the NumPy engine
    6. ``_should_stop``: a reason to end the actor's updates for this rollout
    7. ``_after_update``: act on the exact KL over the rollout: steer, accept, roll back

    :param engine: "torch" (default) equals SB3 bit for bit. "auto" runs plain MLP policies on the CPU in NumPy, several
        times faster and equal up to float rounding, and everything else in PyTorch; "numpy" insists
    :raises ValueError: if ``engine`` is "numpy" and the model cannot run on it
    """

    limits_step_by: ClassVar[str]
    own_search_space: ClassVar[SearchSpace] = {}
    needs_old_distribution: bool = False

    stop_critic: bool = True
    _old_policy: PolicySnapshot | None = None
    _numpy_engine: NumpyEngine | None = None
    _reported_engine: str | None = None

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        engine: Literal["auto", "torch", "numpy"] = "torch",
        **kwargs: Unpack[PPOKwargs],
    ) -> None:
        check_choice("engine", engine, ("auto", "torch", "numpy"))
        self.engine = engine
        super().__init__(policy, env, **kwargs)

    @classmethod
    def from_zoo(cls, env_id: str, **overrides: Any) -> Self:
        """Return a model with its registered hyperparameters, its environment and wrappers attached.

        :param env_id: a Gymnasium environment id
        :param overrides: zoo keys or constructor arguments that replace registered ones; ``seed``, ``verbose``,
            ``device`` and ``tensorboard_log`` go to the constructor
        :raises ValueError: if a key is unknown, or nothing is registered for the environment and there is no default
        """
        from sb3_ppo_variants.experiment import model_from_zoo  # needs the registry, which needs this module

        model = model_from_zoo(cls, env_id, **overrides)
        assert isinstance(model, cls)
        return model

    def learn(  # noqa: PLR0917 -- SB3's signature
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
        **family_arguments: Any,
    ) -> Self:
        """Train as SB3's ``learn`` does, with the class name as the default name of the TensorBoard run."""
        return super().learn(
            total_timesteps=total_timesteps,
            callback=callback,
            log_interval=log_interval,
            tb_log_name=tb_log_name if tb_log_name is not None else type(self).__name__,
            reset_num_timesteps=reset_num_timesteps,
            progress_bar=progress_bar,
            **family_arguments,
        )

    @classmethod
    def load(  # noqa: PLR0917 -- SB3's signature
        cls,
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Load as SB3 does; a file that was cut short is called that.

        :raises ValueError: if the file holds no whole model
        """
        try:
            return super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)
        except AssertionError as error:
            if "No data found" not in str(error):
                raise
            raise ValueError(
                f"{path} holds no whole model: it was cut short, or save() did not write it. Load another checkpoint."
            ) from error

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
        *family_arguments: Any,
    ) -> bool:
        """Collect as SB3 does; a NaN met on the way is reported as what it is.

        :raises NonFiniteUpdateError: if an observation is not finite, or the policy's outputs are not
        """
        engine = self._choose_engine()
        try:
            if engine is not None:
                return numpy_rollout.collect_rollouts(self, engine, env, callback, rollout_buffer, n_rollout_steps)
            with quick_checks(self.policy):
                return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps, *family_arguments)
        except ValueError as error:
            if not _is_invalid_distribution(error):
                raise
            bad_observation = not _all_finite(self._last_obs)
            where = f"while collecting the rollout after {self.num_timesteps} timesteps"
            raise NonFiniteUpdateError("observation" if bad_observation else "log-prob", where) from error

    def train(self) -> None:
        """Update the policy with the rollout just collected.

        :raises NonFiniteUpdateError: before a NaN or an infinity reaches the parameters
        """
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        self._check_rollout()
        engine = self._choose_engine()
        stats = TensorStatistics() if engine is None else engine.begin_update()
        self._old_policy = PolicySnapshot(self.policy)
        try:
            with quick_checks(self.policy) if engine is None else nullcontext():
                with batched_adam(self.policy.optimizer):
                    self._run_epochs(stats)
                measurement = self._after_update(self._measure_rollout())
        finally:
            self._old_policy = None
            if engine is not None:
                engine.end_update()
        self._log_update(stats, measurement)

    # Hooks ----------------------------------------------------------------------------------------------------------

    def _evaluate(self, rollout_data: RolloutBufferSamples) -> MiniBatch:
        """Evaluate rollout data under the current policy; families override it to take padding away.

        Advantages stay raw here.
        """
        actions = rollout_data.actions
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().flatten()
        try:
            values, log_prob, entropy = self.policy.evaluate_actions(
                rollout_data.observations, actions, **self._policy_arguments(rollout_data)
            )
        except ValueError as error:
            if not _is_invalid_distribution(error):
                raise
            raise NonFiniteUpdateError("log-prob", self._position()) from error
        return MiniBatch(
            actions=actions,
            advantages=rollout_data.advantages,
            returns=rollout_data.returns,
            old_values=rollout_data.old_values,
            old_log_prob=rollout_data.old_log_prob,
            values=values.flatten(),
            log_prob=log_prob,
            entropy=entropy,
            distribution=copy.copy(self.policy.action_dist),  # the policy overwrites its own at the next pass
            clip_range=self._current_clip_range(),
            clip_range_vf=self._current_clip_range_vf(),
        )

    def _policy_arguments(self, rollout_data: RolloutBufferSamples) -> dict[str, Any]:  # noqa: ARG002 -- a hook
        """Return what the policy needs beside observations and actions to evaluate them; families add to it."""
        return {}

    def _minibatch(self, rollout_data: RolloutBufferSamples) -> MiniBatch:
        """Return the minibatch that the losses see."""
        old_distribution = None
        if self.needs_old_distribution:
            assert self._old_policy is not None
            with self._old_policy.installed():
                old_distribution = self._evaluate(rollout_data).distribution
        batch = self._evaluate(rollout_data)
        return replace(
            batch,
            advantages=self._normalised(batch.advantages),
            old_distribution=old_distribution,
        )

    def _surrogate(self, batch: MiniBatch) -> th.Tensor:
        """Return the per-sample objective to maximise."""
        return losses.clipped_surrogate(batch.ratio, batch.advantages, batch.clip_range, batch.clip_range)

    def _penalty(self, batch: MiniBatch) -> th.Tensor | None:  # noqa: ARG002 -- a hook
        """Return a per-sample term to minimise beside the surrogate, or None to add nothing."""
        return None

    def _surrogate_slope(self, batch: ArrayBatch) -> FloatArray:
        """Return d(surrogate)/d(log ratio) per sample: the twin of ``_surrogate`` on the NumPy engine."""
        return losses.clipped_surrogate_slope(batch.ratio, batch.advantages, batch.clip_range, batch.clip_range)

    def _kl_slope(self, batch: ArrayBatch) -> FloatArray | None:  # noqa: ARG002 -- a hook
        """Return d(surrogate - penalty)/d(KL of the state) per sample on the NumPy engine, or None for zero."""
        return None

    def _mean_noise(self, shape: tuple[int, ...]) -> th.Tensor | None:  # noqa: ARG002 -- a hook
        """Return noise that ``_minibatch`` adds to a Gaussian's mean, or None: its part on the NumPy engine."""
        return None

    def _value_loss(self, batch: MiniBatch) -> th.Tensor:
        """Return the critic's loss."""
        return losses.value_loss(batch.values, batch.old_values, batch.returns, batch.clip_range_vf)

    def _value_loss_slope(
        self, values: FloatArray, old_values: FloatArray, returns: FloatArray, clip_range_vf: float | None
    ) -> FloatArray:
        """Return d(error)/d(value) per sample: the twin of ``_value_loss`` on the NumPy engine."""
        return losses.value_loss_slope(values, old_values, returns, clip_range_vf)

    def _should_stop(self, point: StopPoint, stats: UpdateStatistics) -> str | None:
        """Return why the actor's updates should end for this rollout, or None to go on.

        The base rule is SB3's ``target_kl``.

        :param point: before or after the optimizer's step on a minibatch, or after an epoch
        :param stats: figures of this update so far
        """
        if point == "before_step" and self.target_kl is not None and stats.minibatch_kl > 1.5 * self.target_kl:
            return f"minibatch KL {stats.minibatch_kl:.4g} above 1.5 * target_kl"
        return None

    def _after_update(self, measurement: RolloutMeasurement) -> RolloutMeasurement:
        """Act on what the update did to the policy, and return the measurement of the parameters that stay.

        :param measurement: the new policy against the old one over the whole rollout
        """
        return measurement

    # What variants read ---------------------------------------------------------------------------------------------

    def _current_clip_range(self) -> float:
        """Return the clip range of this update."""
        return self.clip_range(self._current_progress_remaining)  # type: ignore[operator]

    def _current_clip_range_vf(self) -> float | None:
        """Return the value function's clip range of this update."""
        if self.clip_range_vf is None:
            return None
        return self.clip_range_vf(self._current_progress_remaining)  # type: ignore[operator]

    def _measure_rollout(self) -> RolloutMeasurement:
        """Hold the current policy against the one that collected the rollout, over all of its samples.

        Draws no random number. A policy whose outputs are not finite measures as NaN.
        """
        if self._numpy_engine is not None:
            return self._numpy_engine.measure()
        assert self._old_policy is not None
        self.policy.set_training_mode(False)
        try:
            parts = [self._measure_chunk(chunk) for chunk in self._rollout_chunks()]
        finally:
            self.policy.set_training_mode(True)
        kl, gain, ratio, has_gradient = (th.cat(column) for column in zip(*(part[:4] for part in parts), strict=True))
        return RolloutMeasurement(
            kl=kl.double().mean().item(),
            kl_is_analytic=all(part[4] for part in parts),
            surrogate_gain=gain.double().mean().item(),
            ratio=ratio,
            zero_gradient_fraction=1.0 - has_gradient.double().mean().item(),
        )

    # The loop -------------------------------------------------------------------------------------------------------

    def _run_epochs(self, stats: TensorStatistics | ArrayStatistics) -> None:
        for epoch in range(self.n_epochs):
            stats.start_epoch(epoch)
            if isinstance(stats, ArrayStatistics):
                assert self._numpy_engine is not None
                self._numpy_engine.run_epoch(stats)
            else:
                self._run_epoch(stats)
            self._n_updates += 1
            self._ask_to_stop("after_epoch", stats)
            if self._is_over(stats):
                break
        if isinstance(stats, ArrayStatistics):
            stats.finish()

    def _run_epoch(self, stats: TensorStatistics) -> None:
        for rollout_data in minibatches(self.rollout_buffer, self.batch_size):
            batch = self._minibatch(rollout_data)
            minibatch_losses = self._losses(batch)
            with th.no_grad():
                kl = th.mean(divergences.k3(batch.log_ratio, batch.ratio))
                clip_fraction = th.mean((th.abs(batch.ratio - 1) > batch.clip_range).float())
            stats.record(batch, minibatch_losses, kl, clip_fraction)

            self._ask_to_stop("before_step", stats)
            if self._is_over(stats):
                return
            actor_runs = stats.stop_reason is None
            self._step(minibatch_losses.total if actor_runs else self.vf_coef * minibatch_losses.value, stats)
            self._ask_to_stop("after_step", stats)
            if self._is_over(stats):
                return

    def _losses(self, batch: MiniBatch) -> Losses:
        policy_loss = -self._surrogate(batch).mean()
        penalty = self._penalty(batch)
        if penalty is not None:
            policy_loss = policy_loss + penalty.mean()
        value_loss = self._value_loss(batch)
        # Without a closed form, the sampled -log pi estimates the entropy
        entropy_loss = -th.mean(-batch.log_prob) if batch.entropy is None else -th.mean(batch.entropy)
        total = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss
        return Losses(policy_loss, value_loss, entropy_loss, total)

    def _step(self, loss: th.Tensor, stats: TensorStatistics) -> None:
        optimizer = self.policy.optimizer
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        assert self._old_policy is not None
        norm = th.nn.utils.clip_grad_norm_(self._old_policy.parameters, self.max_grad_norm)
        # One host synchronisation for both; a sum that alone overflows raises nothing
        if not math.isfinite((norm + loss.detach()).item()):
            self._raise_if_non_finite(loss, stats)
        optimizer.step()

    def _ask_to_stop(self, point: StopPoint, stats: UpdateStatistics) -> None:
        if stats.stop_reason is not None:
            return
        reason = self._should_stop(point, stats)
        if reason is not None:
            stats.stop(reason)
            if self.verbose >= 1:
                print(f"Early stopping in epoch {stats.epoch}: {reason}")

    def _is_over(self, stats: UpdateStatistics) -> bool:
        return stats.stop_reason is not None and self.stop_critic

    def _normalised(self, advantages: th.Tensor) -> th.Tensor:
        # The standard deviation of one sample is NaN
        if self.normalize_advantage and len(advantages) > 1:
            return (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        return advantages

    def _rollout_chunks(self) -> Generator[RolloutBufferSamples, None, None]:
        """Yield the rollout in its stored order, without the permutation (and random draw) of ``get()``."""
        size = self.rollout_buffer.buffer_size * self.rollout_buffer.n_envs
        for start in range(0, size, _MEASURE_CHUNK):
            yield self.rollout_buffer._get_samples(np.arange(start, min(start + _MEASURE_CHUNK, size)))

    def _measure_chunk(self, chunk: RolloutBufferSamples) -> tuple[th.Tensor, th.Tensor, th.Tensor, th.Tensor, bool]:
        """Return KL, surrogate gain, ratio and whether there is a gradient per sample; then whether the KL is exact."""
        assert self._old_policy is not None
        with self._old_policy.installed():
            old = self._evaluate(chunk)
        try:
            with th.no_grad():
                new = self._evaluate(chunk)
        except NonFiniteUpdateError:
            nan = th.full_like(old.log_prob, float("nan"))
            return nan, nan, nan, th.ones_like(nan), True
        advantages = self._normalised_over_rollout(old.advantages)
        new = replace(new, advantages=advantages, old_distribution=old.distribution)
        # The log-probability as a leaf: its gradient shows which samples still pull
        leaf = new.log_prob.clone().requires_grad_()
        (gradient,) = th.autograd.grad(self._surrogate(replace(new, log_prob=leaf)).sum(), leaf)
        analytic = divergences.has_analytic_kl(old.distribution)
        pair = (divergences.in_float64(batch.distribution) for batch in (old, new))
        kl = divergences.kl_divergence(*pair) if analytic else new.kl
        return kl, (new.ratio - 1) * advantages, new.ratio, (gradient != 0).float(), analytic

    def _normalised_over_rollout(self, advantages: th.Tensor) -> th.Tensor:
        if not self.normalize_advantage:
            return advantages
        rollout = self.rollout_buffer.advantages
        return (advantages - float(rollout.mean())) / (float(rollout.std()) + 1e-8)

    # Checks and logs ------------------------------------------------------------------------------------------------

    def _check_rollout(self) -> None:
        """Refuse a rollout with a NaN or an infinity before it touches anything."""
        buffer = self.rollout_buffer
        for name, values in (
            ("observation", buffer.observations),
            ("observation", self._last_obs),  # its value is in the advantages
            ("reward", buffer.rewards),
            ("value", buffer.values),
            ("log-prob", buffer.log_probs),
            ("advantage", buffer.advantages),
        ):
            if not _all_finite(values):
                raise NonFiniteUpdateError(name, f"in the rollout that ends after {self.num_timesteps} timesteps")

    def _raise_if_non_finite(self, loss: th.Tensor, stats: TensorStatistics) -> None:
        """Name what is not finite; a gradient norm that alone overflows has been clipped to zero and is harmless."""
        batch = stats.batch
        assert isinstance(batch, MiniBatch)
        gradients = [parameter.grad for parameter in self.policy.parameters() if parameter.grad is not None]
        suspects = (
            ("log-prob", [batch.log_prob]),
            ("value", [batch.values]),
            ("entropy", [] if batch.entropy is None else [batch.entropy]),
            ("loss", [loss]),
            ("gradient", gradients),
        )
        for name, tensors in suspects:
            if not all(bool(th.isfinite(tensor).all()) for tensor in tensors):
                self.policy.optimizer.zero_grad()
                raise NonFiniteUpdateError(name, self._position(stats))

    def _position(self, stats: UpdateStatistics | None = None) -> str:
        where = f"in the update after {self.num_timesteps} timesteps"
        return where if stats is None else f"{where}, epoch {stats.epoch}, minibatch {stats.step}"

    def _log_update(self, stats: UpdateStatistics, measurement: RolloutMeasurement) -> None:
        buffer = self.rollout_buffer
        record = self.logger.record
        for key, value in (stats.means() | measurement.logs()).items():
            record(key, value)
        record("train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten()))
        if hasattr(self.policy, "log_std"):
            record("train/std", th.exp(self.policy.log_std).mean().item())
        record("train/n_updates", self._n_updates, exclude="tensorboard")
        record("train/epochs", stats.epoch + 1)
        assert stats.batch is not None
        record("train/clip_range", stats.batch.clip_range)
        if self.clip_range_vf is not None:
            record("train/clip_range_vf", self._current_clip_range_vf())
        if stats.stop_reason is not None:
            record("train/stop_epoch", stats.stop_epoch)
            record("train/stop_reason", stats.stop_reason, exclude="tensorboard")

    # Engine ---------------------------------------------------------------------------------------------------------

    @property
    def engine_in_use(self) -> Literal["torch", "numpy"]:
        """The engine that runs rollouts and updates of this model as it is now."""
        return "torch" if self._choose_engine() is None else "numpy"

    def _choose_engine(self) -> NumpyEngine | None:
        """Return the NumPy engine if it is wanted and can run the model as it is now, else None for PyTorch."""
        reason = "bit for bit SB3" if self.engine == "torch" else why_not_numpy(self)
        if self.engine == "numpy" and reason is not None:
            raise ValueError(f"engine='numpy' cannot run this model: {reason}. Use engine='auto' or 'torch'.")
        if reason is not None:
            self._numpy_engine = None
        elif self._numpy_engine is None or not self._numpy_engine.fits(self.policy):
            self._numpy_engine = NumpyEngine(self)
        self._report_engine("numpy" if reason is None else f"torch ({reason})")
        return self._numpy_engine

    def _report_engine(self, choice: str) -> None:
        if choice != self._reported_engine:
            self._reported_engine = choice
            if self.verbose >= 1:
                print(f"Engine: {choice}")

    # SB3's seams ----------------------------------------------------------------------------------------------------

    def _setup_model(self) -> None:
        self.policy_kwargs = resolve_policy_kwargs(self.policy_kwargs)
        super()._setup_model()
        self._choose_engine()

    @classmethod
    def _wrap_env(cls, env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Wrap as SB3 does, and take Gymnasium's vector environments too: every environment of a model enters here."""
        return super()._wrap_env(as_vec_env(env), verbose, monitor_wrapper)

    def set_parameters(
        self,
        load_path_or_dict: str | dict[str, Any],
        exact_match: bool = True,
        device: th.device | str = "auto",
    ) -> None:
        """Set parameters as SB3 does; the NumPy engine's memory takes them at once."""
        super().set_parameters(load_path_or_dict, exact_match, device)
        if self._numpy_engine is not None:
            self._numpy_engine.bind()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_old_policy", "_numpy_engine", "_reported_engine"]


def _all_finite(values: Any) -> bool:
    if isinstance(values, dict):
        return all(_all_finite(value) for value in values.values())
    array = np.asarray(values)
    return not np.issubdtype(array.dtype, np.floating) or bool(np.isfinite(array).all())


def _is_invalid_distribution(error: ValueError) -> bool:
    """Tell whether PyTorch's argument validation refused the parameters of an action distribution."""
    return "invalid values" in str(error)
