"""The one training loop of the package: SB3's PPO update with hooks for what limits the step.

A variant is a mixin on :class:`UpdateLoop` that overrides one to three hooks; its public class puts the mixin in front
of SB3's PPO. Rollout collection, policies, saving and loading stay SB3's.
"""

import copy
from collections.abc import Generator
from dataclasses import replace
from inspect import signature
from typing import Any, ClassVar, Literal, cast

import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import RolloutBufferSamples, Schedule
from typing_extensions import Unpack

from sb3_ppo_variants.engines.choice import ENGINES, choose_engine
from sb3_ppo_variants.engines.engine import Engine
from sb3_ppo_variants.engines.rollout_data import chunks
from sb3_ppo_variants.entries.schedules import SCHEDULE_KEYS
from sb3_ppo_variants.maths import losses
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.search_space import SearchSpace
from sb3_ppo_variants.training import logs
from sb3_ppo_variants.training.checks import check_choice
from sb3_ppo_variants.training.critic_options import CriticOptions
from sb3_ppo_variants.training.critic_update import CriticUpdate
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs
from sb3_ppo_variants.training.sb3_seams import COUNTS
from sb3_ppo_variants.update_parts.array_batch import ArrayBatch
from sb3_ppo_variants.update_parts.errors import NonFiniteUpdateError
from sb3_ppo_variants.update_parts.finite import check_rollout, in_the_update, is_invalid_distribution
from sb3_ppo_variants.update_parts.minibatch import CriticBatch, MiniBatch
from sb3_ppo_variants.update_parts.snapshot import PolicySnapshot
from sb3_ppo_variants.update_parts.statistics import Losses, RolloutMeasurement, UpdateStatistics
from sb3_ppo_variants.update_parts.stop import Stop, StopRule

StopPoint = Literal["before_step", "after_step", "after_epoch"]


class UpdateLoop(CriticOptions):
    """SB3's PPO update taken apart into hooks.

    Whatever is called equal to SB3 bit for bit is so with ``engine="torch"``; on arrays, up to float rounding. Its
    hooks, in the order in which an update meets them:

    1. ``_evaluate``: raw rollout data to a :class:`MiniBatch` under the current policy; only families override it
    2. ``_minibatch``: the minibatch that the losses see, advantages normalised
    3. ``_surrogate``: per-sample objective to maximise; ``_surrogate_slope`` may state its derivative on arrays
    4. ``_penalty``: per-sample term to minimise beside it; ``_kl_slope`` goes with it as the slope with the surrogate
    5. ``_value_loss``: the critic's loss; ``_value_loss_slope`` may state its derivative on arrays
    6. ``_should_stop``: a reason to end the actor's updates for this rollout
    7. ``_after_update``: act on the exact KL over the rollout: steer, accept, roll back

    The critic. SB3 trains it with the actor: one loss, one gradient norm, one learning rate, the same passes, and an
    early stop ends both. ``stop_critic=False`` lets it finish the passes after the actor was stopped. With
    ``critic_epochs`` it is trained on its own, as in sb3-contrib's TRPO: the actor's loss has no value term
    (``vf_coef`` is not used), the actor's gradient norm is its own, an early stop ends the actor alone (whatever
    ``stop_critic`` says), and the critic makes its passes with an Adam of its own. Both need actor and critic
    without shared trainable parameters.

    With Dict observations, ``policy_kwargs=dict(actor_keys=[...], critic_keys=[...])`` says what actor and critic see:
    :class:`~sb3_ppo_variants.training.asymmetric.AsymmetricKeys`.

    Schedules. ``ent_coef``, ``vf_coef`` and every option in ``schedulable`` take a number or, as SB3's ``clip_range``,
    a function of the remaining progress, stored as given. Each update takes its number once and logs it by its name;
    hooks read ``self._current("<option>")``. A limit above 0 may fall to 0: there it is 1e-8.

    Beside SB3's keys every update logs ``train/actor_epochs`` and ``train/critic_epochs``, the passes that each made
    or began. Where it ended early, ``train/stop_epoch`` says in which pass and ``train/stop_reason`` by which rule, a
    number of :class:`~sb3_ppo_variants.update_parts.stop.StopRule`; ``verbose=1`` prints the reason in words. With
    ``critic_epochs``, ``train/value_loss`` is that of the critic's last pass, ``train/critic_learning_rate`` its rate,
    and ``train/explained_variance_after`` what SB3's ``train/explained_variance`` would be after its passes.

    :param stop_critic: True: an early stop ends the critic's updates too, as in SB3; False: it finishes its passes,
        as in Spinning Up
    :param critic_epochs: passes over each rollout of a critic that is trained on its own, >= 1; None: with the actor
    :param critic_batch_size: samples per minibatch of those passes; None: ``batch_size``
    :param critic_learning_rate: their rate, a number or a schedule; None: the actor's of the same update
    :param critic_gae_lambda: lambda of the returns that the critic is trained on, in [0, 1]; None: ``gae_lambda``
    :param critic_max_grad_norm: bound on the norm of the critic's gradient, > 0, or infinite; None: ``max_grad_norm``
    :param critic_first: whether the critic's passes come before the actor's, not after them
    :param recompute_advantages: "epoch" computes advantages and returns again before each epoch, with the critic as it
        is then; "never" keeps the rollout's, as SB3 does
    :param exploration_noise_color: exponent of the power spectrum 1/f^color, along time, of the standard normal numbers
        that a Gaussian policy draws while rollouts are collected, in [0, 2]: 0 draws what SB3 draws, 0.5 is the
        recommendation of Hollenstein et al. 2024 (2312.11091), 1 pink noise, 2 red noise. Each number stays N(0, 1),
        and log-probabilities are those of independent draws; environments and action dimensions are independent; it
        goes on over the ends of episodes and rollouts, and in files. ``predict`` draws as always. See
        :class:`~sb3_ppo_variants.update_parts.colored_noise.ColoredNoise`
    :param engine: "auto" (default) runs plain MLP policies on the CPU in compiled kernels or, where those do not run,
        in NumPy: several times faster and equal to SB3 up to float rounding; and everything else in PyTorch. "torch"
        equals SB3 bit for bit. "compiled" and "numpy" insist
    :raises ValueError: if ``engine`` is "compiled" or "numpy" and the model cannot run on it,
        ``exploration_noise_color`` is above 0 and the policy is not SB3's Gaussian (discrete actions, gSDE), or an
        option is outside its range; a schedule is held against it at both ends here, and in each update at its value

    :cvar limits_step_by: a few words for tables
    :cvar schedulable: own options that take a number or a schedule, with their ranges; its ancestors' stay
    :cvar own_search_space: ranges of the parameters that tuning adds to the shared ones
    :cvar zoo_config: name of the file in ``zoo_configs`` that ``from_zoo`` reads, without its ending, or
        ``package:name`` for ``name.yml`` in another package
    """

    limits_step_by: ClassVar[str]
    zoo_config: ClassVar[str] = "ppo"
    own_search_space: ClassVar[SearchSpace] = {}
    needs_old_distribution: bool = False

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        engine: Literal["auto", "torch", "numpy", "compiled"] = "auto",
        stop_critic: bool = True,
        critic_epochs: int | None = None,
        critic_batch_size: int | None = None,
        critic_learning_rate: float | Schedule | None = None,
        critic_gae_lambda: float | None = None,
        critic_max_grad_norm: float | None = None,
        critic_first: bool = False,
        recompute_advantages: Literal["never", "epoch"] = "never",
        exploration_noise_color: float = 0.0,
        **kwargs: Unpack[PPOKwargs],
    ) -> None:
        self.engine = engine
        self.stop_critic = stop_critic
        self.critic_epochs = critic_epochs
        self.critic_batch_size = critic_batch_size
        self.critic_learning_rate = critic_learning_rate
        self.critic_gae_lambda = critic_gae_lambda
        self.critic_max_grad_norm = critic_max_grad_norm
        self.critic_first = critic_first
        self.recompute_advantages = recompute_advantages
        self.exploration_noise_color = exploration_noise_color
        # What checks read of SB3's arguments, before SB3 makes an environment
        for name in (*SCHEDULE_KEYS, "ent_coef", "vf_coef", "max_grad_norm", "normalize_advantage", *COUNTS):
            setattr(self, name, kwargs.get(name, signature(PPO).parameters[name].default))
        self._check_options()
        super().__init__(policy, env, **cast(Any, kwargs))  # SB3 only stores what may be a schedule here

    def _check_options(self) -> None:
        """Refuse options that make no sense, and derive what is kept of them: variants add their own.

        Run by the constructor, by ``load`` and before each ``learn``, so it reads attributes.

        :raises ValueError: naming the option, its value and what would be right
        """
        super()._check_options()
        check_choice("engine", self.engine, ENGINES)

    # The loop -------------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Update the policy with the rollout just collected.

        :raises NonFiniteUpdateError: before a NaN or an infinity reaches the parameters
        """
        self.policy.set_training_mode(True)
        self._begin_schedules()
        self._update_learning_rate(self.policy.optimizer)
        check_rollout(self.rollout_buffer, self._last_obs, self.num_timesteps)
        self._update = update = self._choose_engine().begin_update(PolicySnapshot(self.policy))
        critic = CriticUpdate(self, update)
        try:
            with update, critic:
                if self.critic_first:
                    critic.train()
                for epoch in range(self.n_epochs):
                    critic.refresh_advantages()
                    for _ in update.minibatches(epoch):
                        if self._ends("before_step", update.stats):
                            break
                        update.step()
                        if self._ends("after_step", update.stats):
                            break
                    self._n_updates += 1
                    if self._ends("after_epoch", update.stats):
                        break
                update.finish_steps()
                measurement = self._after_update(self._measure_rollout())
                if not self.critic_first:
                    critic.train()
        finally:
            self._update = None
            self._scheduled = {}
        logs.log_update(self, update.stats, measurement, critic, self._current_clip_range_vf())

    def _losses(self, batch: MiniBatch) -> Losses:
        policy_loss = -self._surrogate(batch).mean()
        penalty = self._penalty(batch)
        if penalty is not None:
            policy_loss = policy_loss + penalty.mean()
        # Without a closed form, the sampled -log pi estimates the entropy
        entropy_loss = -th.mean(-batch.log_prob) if batch.entropy is None else -th.mean(batch.entropy)
        total = policy_loss + self._current("ent_coef") * entropy_loss
        if self.critic_epochs is not None:
            return Losses(policy_loss, th.zeros_like(total), entropy_loss, total)
        value_loss = self._value_loss(batch)
        total = total + self._current("vf_coef") * value_loss
        return Losses(policy_loss, value_loss, entropy_loss, total)

    def _ends(self, point: StopPoint, stats: UpdateStatistics) -> bool:
        """Ask whether the actor stops here; tell whether the update is over, since the critic stops with it."""
        if stats.actor_runs:
            stop = self._should_stop(point, stats)
            if stop is not None:
                rule, text = stop if isinstance(stop, Stop) else (StopRule.OTHER, stop)
                stats.stop(rule)
                if self.verbose >= 1:
                    print(f"Early stopping in epoch {stats.epoch}: {text}")
        return not stats.actor_runs and (self.stop_critic or self.critic_epochs is not None)

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
            if not is_invalid_distribution(error):
                raise
            raise NonFiniteUpdateError("log-prob", in_the_update(self.num_timesteps)) from error
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

    def _rollout_chunks(self) -> Generator[RolloutBufferSamples, None, None]:
        """Yield the rollout in its stored order, without a random draw; families cut it otherwise."""
        return chunks(self.rollout_buffer)

    def _minibatch(self, rollout_data: RolloutBufferSamples) -> MiniBatch:
        """Return the minibatch that the losses see."""
        old_distribution = None
        if self.needs_old_distribution:
            assert self._update is not None
            with self._update.old_policy.installed():
                old_distribution = self._evaluate(rollout_data).distribution
        batch = self._evaluate(rollout_data)
        return replace(
            batch,
            advantages=self._normalised(batch.advantages),
            old_distribution=old_distribution,
        )

    def _normalised(self, advantages: th.Tensor) -> th.Tensor:
        """Return the advantages of a minibatch, normalised if the algorithm does so."""
        # The standard deviation of one sample is NaN
        if self.normalize_advantage and len(advantages) > 1:
            return (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        return advantages

    def _surrogate(self, batch: MiniBatch) -> th.Tensor:
        """Return the per-sample objective to maximise."""
        return losses.clipped_surrogate(batch.ratio, batch.advantages, batch.clip_range, batch.clip_range)

    def _penalty(self, batch: MiniBatch) -> th.Tensor | None:  # noqa: ARG002 -- a hook
        """Return a per-sample term to minimise beside the surrogate, or None to add nothing."""
        return None

    def _surrogate_slope(self, batch: ArrayBatch) -> FloatArray:
        """Return d(surrogate)/d(log ratio) per sample: the twin of ``_surrogate`` on arrays."""
        return losses.clipped_surrogate_slope(batch.ratio, batch.advantages, batch.clip_range, batch.clip_range)

    def _kl_slope(self, batch: ArrayBatch) -> FloatArray | None:  # noqa: ARG002 -- a hook
        """Return d(surrogate - penalty)/d(KL of the state) per sample on arrays, or None for zero."""
        return None

    def _mean_noise(self, shape: tuple[int, ...]) -> th.Tensor | None:  # noqa: ARG002 -- a hook
        """Return noise that ``_minibatch`` adds to a Gaussian's mean, or None: its part on arrays."""
        return None

    def _value_loss(self, batch: CriticBatch) -> th.Tensor:
        """Return the critic's loss."""
        return losses.value_loss(batch.values, batch.old_values, batch.returns, batch.clip_range_vf)

    def _value_loss_slope(
        self, values: FloatArray, old_values: FloatArray, returns: FloatArray, clip_range_vf: float | None
    ) -> FloatArray:
        """Return d(error)/d(value) per sample: the twin of ``_value_loss`` on arrays."""
        return losses.value_loss_slope(values, old_values, returns, clip_range_vf)

    def _should_stop(self, point: StopPoint, stats: UpdateStatistics) -> Stop | str | None:
        """Return why the actor's updates should end for this rollout, or None to go on.

        The base rule is SB3's ``target_kl``. A plain text is logged as ``StopRule.OTHER``.

        :param point: before or after the optimizer's step on a minibatch, or after an epoch
        :param stats: figures of this update so far
        """
        if point == "before_step" and self.target_kl is not None and stats.minibatch_kl > 1.5 * self.target_kl:
            return Stop(StopRule.TARGET_KL, f"minibatch KL {stats.minibatch_kl:.4g} above 1.5 * target_kl")
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

    def _measure_rollout(self) -> RolloutMeasurement:
        """Hold the current policy against the one that collected the rollout, over all of its samples.

        Draws no random number. A policy whose outputs are not finite measures as NaN.
        """
        assert self._update is not None
        return self._update.measure()

    # The engine -----------------------------------------------------------------------------------------------------

    def _choose_engine(self) -> Engine:
        """Return the engine that runs the model as it is now; say so when it is another one than before."""
        self._engine, report = choose_engine(self, self._engine)
        if report != self._reported_engine:
            self._reported_engine = report
            if self.verbose >= 1:
                print(f"Engine: {report}")
        return self._engine
