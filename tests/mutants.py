"""Mutation test: break the package in one place at a time; some test must fail each time.

Run by ``make mutants``. It works on copies of the package in a temporary directory; nothing here is changed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Mutant:
    """One broken place.

    :param fault: what it does wrong, in words
    :param file: path below ``sb3_ppo_variants``; one in ``native/`` is the C extension's, which is built
        again; one in ``docs/`` is the documentation's
    :param source: exact text, which occurs once in the file
    :param replacement: what stands there instead
    :param tests: file with the tests that should notice
    :param select: pytest's -k expression that picks them, to save time; at least one of them must fail
    """

    fault: str
    file: str
    source: str
    replacement: str
    tests: str
    select: str = ""

    @property
    def is_native(self) -> bool:
        """Whether it is in C."""
        return self.file.startswith("native/")

    @property
    def is_beside(self) -> bool:
        """Whether it stands beside the package, not in it."""
        return self.file.startswith(("native/", "docs/"))


MUTANTS = [
    # What sends a model to PyTorch, and what is said of it
    Mutant(
        "the default engine has SB3's speed",
        "training/update_loop.py",
        'engine: Literal["auto", "torch", "numpy", "compiled"] = "auto",',
        'engine: Literal["auto", "torch", "numpy", "compiled"] = "torch",',
        "tests/test_engine.py",
        "the_default_is",
    ),
    Mutant(
        "a method of the policy that was replaced on the object is passed over",
        "engines/eligibility.py",
        'yield from _replaced("the policy", policy, _METHODS)',
        'yield from _replaced("the policy", policy, ())',
        "tests/test_engine.py",
        "changes_the_forward_pass",
    ),
    Mutant(
        "hooks before a module's forward pass are passed over",
        "engines/eligibility.py",
        '_HOOKS = ("_forward_hooks", "_forward_pre_hooks", ',
        '_HOOKS = ("_forward_hooks", ',
        "tests/test_engine.py",
        "changes_the_forward_pass",
    ),
    Mutant(
        "a Tanh behind the mean is passed over",
        "engines/eligibility.py",
        "actor, critic = [*networks.policy_net, policy.action_net],",
        "actor, critic = [*networks.policy_net],",
        "tests/test_changed_objects.py",
        "bounded_mean or bounded",
    ),
    Mutant(
        "a critic on the actor's layers trains copies of them",
        "engines/eligibility.py",
        "if len(names) < len(own):",
        "if False:",
        "tests/test_changed_objects.py",
        "one or tied",
    ),
    Mutant(
        "an extractor of the critic's own is passed over",
        "engines/eligibility.py",
        "(policy.features_extractor, policy.pi_features_extractor, policy.vf_features_extractor)",
        "(policy.features_extractor,)",
        "tests/test_changed_objects.py",
        "an_extractor or extractor",
    ),
    Mutant(
        "hooks of the optimizer are passed over",
        "engines/eligibility.py",
        "if is_watched(optimizer):",
        "if False:",
        "tests/test_changed_objects.py",
        "hook or scheduler",
    ),
    Mutant(
        "parameters leave the memory that processes share",
        "engines/eligibility.py",
        "if any(parameter.is_shared() for parameter in own):",
        "if False:",
        "tests/test_changed_objects.py",
        "shared",
    ),
    Mutant(
        "a method put on the rollout buffer is passed over",
        "engines/untouched.py",
        "return type(instance) is cls and all(",
        "return type(instance) is cls or all(",
        "tests/test_changed_objects.py",
        "buffer",
    ),
    Mutant(
        "an exchanged activation is passed over",
        "engines/kernels/kernels.py",
        " or _parts(policy) != self._parts",
        "",
        "tests/test_changed_objects.py",
        "activation or network",
    ),
    Mutant(
        "a policy exchanged within a rollout waits for the update",
        "engines/kernels/kernels.py",
        "return policy is self.policy and self._addresses_of_now() == self._addresses",
        "return True",
        "tests/test_changed_objects.py",
        "exchanged_within",
    ),
    Mutant(
        "layers exchanged as a rollout begins wait for the update",
        "engines/rollout.py",
        "    kernels.unbind()\n",
        "    kernels.bind()\n",
        "tests/test_changed_objects.py",
        "as_a_rollout_begins",
    ),
    Mutant(
        "a batch of one sample has no advantage",
        "engines/array_update.py",
        " or model.batch_size == 1:",
        ":",
        "tests/test_changed_objects.py",
        "single",
    ),
    Mutant(
        "a pickled model takes its engine along",
        "training/sb3_seams.py",
        'if name not in {"_engine", "_update"}}',
        "}",
        "tests/test_changed_objects.py",
        "copy_of",
    ),
    Mutant(
        "a vanishing probability is an error where NumPy is set to raise",
        "engines/array_update.py",
        'self._within.enter_context(np.errstate(all="ignore"))',
        "pass",
        "tests/test_non_finite.py",
        "numpy_set_to",
    ),
    Mutant(
        "inference mode leaves parameters that PyTorch cannot train",
        "engines/kernels/layout.py",
        "    @th.inference_mode(False)  # tensors made in inference mode could never be trained by PyTorch\n",
        "",
        "tests/test_changed_objects.py",
        "inference",
    ),
    Mutant(
        "a hook that raises on a few samples ends the model",
        "engines/hook_slopes.py",
        "    except Exception as error:  # whatever a hook",
        "    except ZeroDivisionError as error:  # whatever a hook",
        "tests/test_hooks_on_arrays.py",
        "wants_whole_minibatches",
    ),
    Mutant(
        "a loss that is not finite is called a gradient",
        "engines/array_update.py",
        '            ("loss", self._losses([(self._record, self._rows)]).total),\n',
        "",
        "tests/test_non_finite.py",
        "third_party",
    ),
    Mutant(
        "a bound on the gradient's norm may be NaN",
        "training/sb3_seams.py",
        'check_number("max_grad_norm", self.max_grad_norm, at_least=0)',
        "pass",
        "tests/test_late_options.py",
        "nonsense and max_grad_norm",
    ),
    Mutant(
        "each algorithm draws its own trials",
        "tuning/decisions/tuning.py",
        'stream_seed(self.pair.study.seed, "sampler", self.pair.env_id, number)',
        'stream_seed(self.pair.study.seed, "sampler", self.pair.algorithm, self.pair.env_id, number)',
        "tests/tuning/test_tuning_track.py",
        "lucky",
    ),
    # Schedules
    Mutant(
        "a schedule is read at the start of training in every update",
        "training/schedules.py",
        'return self._number_at(name, getattr(self, "_current_progress_remaining", 1.0))',
        "return self._number_at(name, 1.0)",
        "tests/test_schedules.py",
        "once_at_its_start",
    ),
    Mutant(
        "a schedule is asked again in every minibatch",
        "training/schedules.py",
        "        if name in self._scheduled:\n            return self._scheduled[name]\n",
        "",
        "tests/test_schedules.py",
        "once_at_its_start",
    ),
    Mutant(
        "a schedule is asked beyond its end",
        "training/schedules.py",
        "progress = min(max(progress, 0.0), 1.0)",
        "pass",
        "tests/test_schedules.py",
        "beyond_the_end",
    ),
    Mutant(
        "a limit cannot fall to zero",
        "training/schedules.py",
        "value += _JUST_ABOVE",
        "pass",
        "tests/test_schedules.py",
        "beyond_the_end",
    ),
    Mutant(
        "a schedule is held against its range at the start only",
        "training/schedules.py",
        "for progress in (1.0, 0.0) if callable(getattr(self, name)) else (1.0,):",
        "for progress in (1.0,):",
        "tests/test_schedules.py",
        "out_of_range",
    ),
    Mutant(
        "the number of a schedule is not logged",
        "training/schedules.py",
        'self.logger.record(f"train/{name}", value)',
        "pass",
        "tests/test_schedules.py",
        "only_schedules_are_logged",
    ),
    Mutant(
        "an adapted value stays where a bound has closed in",
        "training/steering.py",
        "adapted = self._within_bounds(adapted)",
        "pass",
        "tests/test_schedules.py",
        "closes_in",
    ),
    Mutant(
        "a coefficient that nothing adapts ignores its schedule",
        "training/steering.py",
        "adapted = self._current(self.steered)",
        "pass",
        "tests/test_schedules.py",
        "nothing_adapts",
    ),
    Mutant(
        "lin_x_y falls to 0",
        "entries/schedules.py",
        "LinearSchedule(start, end, 1.0)",
        "LinearSchedule(start, 0.0, 1.0)",
        "tests/test_experiment.py",
        "other_schedules",
    ),
    # Options and policies
    Mutant(
        "counts are not checked",
        "training/sb3_seams.py",
        "check_count(name, value, at_least=1)",
        "pass",
        "tests/test_late_options.py",
        "nonsense and n_epochs",
    ),
    Mutant(
        "a policy with memory passes for one without",
        "training/policy_checks.py",
        'if kind is not wanted and not (kind is None and hasattr(policy, "evaluate_actions")):',
        "if False:",
        "tests/test_policy_checks.py",
        "another_kind",
    ),
    Mutant(
        "a number beyond float32 passes for finite",
        "update_parts/finite.py",
        "return bool((np.abs(array) <= np.finfo(np.float32).max).all())",
        "return bool(np.isfinite(array).all())",
        "tests/test_non_finite.py",
        "beyond_float32",
    ),
    Mutant(
        "the number of features stays NumPy's",
        "families/policies.py",
        "extractor._features_dim = int(extractor.features_dim)",
        "pass",
        "tests/families/test_families_faults.py",
        "remembers",
    ),
    Mutant(
        "the text of a stop is logged",
        "training/logs.py",
        'record("train/stop_reason", int(stats.stop_rule))',
        'record("train/stop_reason", stats.stop_rule.name)',
        "tests/test_sb3_behaviour.py",
        "output_format",
    ),
    # Objectives
    Mutant(
        "the clip takes the larger term",
        "maths/losses.py",
        "return th.min(advantages * ratio, advantages * th.clamp(ratio, 1 - clip_low, 1 + clip_high))",
        "return th.max(advantages * ratio, advantages * th.clamp(ratio, 1 - clip_low, 1 + clip_high))",
        "tests/test_losses.py",
        "golden_slopes",
    ),
    Mutant(
        "there is no clip",
        "maths/losses.py",
        "return th.min(advantages * ratio, advantages * th.clamp(ratio, 1 - clip_low, 1 + clip_high))",
        "return advantages * ratio",
        "tests/test_losses.py",
        "golden_slopes",
    ),
    Mutant(
        "the engine's clip cuts the inside too",
        "maths/losses.py",
        "return np.where(unclipped <= clipped, unclipped, 0.0)",
        "return np.where(unclipped < clipped, unclipped, 0.0)",
        "tests/test_losses.py",
        "autograds_gradient",
    ),
    Mutant(
        "dual clip bounds nothing",
        "maths/losses.py",
        "return th.where(advantages < 0, th.max(surrogate, bound * advantages), surrogate)",
        "return surrogate",
        "tests/test_losses.py",
        "golden_slopes",
    ),
    Mutant(
        "the value loss without its clip",
        "maths/losses.py",
        "return th.max((returns - values) ** 2, (returns - clipped) ** 2).mean()",
        "return th.min((returns - values) ** 2, (returns - clipped) ** 2).mean()",
        "tests/test_losses.py",
        "value",
    ),
    Mutant(
        "bounds per sample lose the lower one",
        "maths/losses.py",
        "advantages * th.clamp(ratio, lower, upper))",
        "advantages * th.clamp(ratio, max=upper))",
        "tests/test_losses.py",
        "autograds_gradient",
    ),
    Mutant(
        "SPO's penalty turns into a reward for bad actions",
        "maths/losses.py",
        "advantages.abs() * (ratio - 1) ** 2",
        "advantages * (ratio - 1) ** 2",
        "tests/test_losses.py",
        "golden_slopes",
    ),
    Mutant(
        "PPO-RB's rollback is forgotten",
        "maths/losses.py",
        "th.where(advantages * (ratio - kink) > 0, rolled_back, ratio)",
        "th.where(advantages * (ratio - kink) > 0, kink, ratio)",
        "tests/test_losses.py",
        "golden_slopes",
    ),
    Mutant(
        "PPO-RB's rollback starts on the wrong side",
        "maths/losses.py",
        "kink = 1 + epsilon * advantages.sign()",
        "kink = 1 - epsilon * advantages.sign()",
        "tests/test_losses.py",
        "golden_slopes",
    ),
    Mutant(
        "TR-PPO's triggered samples keep their gradient",
        "maths/losses.py",
        "th.where(triggered, surrogate.detach(), surrogate)",
        "surrogate",
        "tests/test_losses.py",
        "autograds_gradient",
    ),
    Mutant(
        "the KL trigger does not ask for a gain",
        "maths/losses.py",
        "return (kl >= kl_delta) & (ratio * advantages > advantages)",
        "return kl >= kl_delta",
        "tests/test_losses.py",
        "trigger",
    ),
    Mutant(
        "the KL trigger fires below the limit",
        "maths/losses.py",
        "return (kl >= kl_delta) & (ratio * advantages > advantages)",
        "return (kl < kl_delta) & (ratio * advantages > advantages)",
        "tests/test_losses.py",
        "trigger",
    ),
    Mutant(
        "the discovered drift is not cut at zero",
        "maths/losses.py",
        "F.relu(good - alpha * th.tanh(good / alpha))",
        "good - alpha * th.tanh(good / alpha)",
        "tests/test_losses.py",
        "autograds_gradient",
    ),
    Mutant(
        "the discovered drift takes good actions for bad ones",
        "maths/losses.py",
        "    drift = th.where(\n        advantages >= 0,",
        "    drift = th.where(\n        advantages < 0,",
        "tests/test_losses.py",
        "golden_slopes",
    ),
    # Divergences
    Mutant(
        "KL(new||old) in place of KL(old||new)",
        "maths/divergences.py",
        "sb3_kl_divergence(old, new)",
        "sb3_kl_divergence(new, old)",
        "tests/test_divergences.py",
    ),
    Mutant(
        "the KL is that of one dimension",
        "maths/divergences.py",
        "per_dimension.reshape(per_dimension.shape[0], -1).sum(dim=1)",
        "per_dimension.reshape(per_dimension.shape[0], -1).mean(dim=1)",
        "tests/test_divergences.py",
    ),
    Mutant(
        "k3 with the wrong sign",
        "maths/divergences.py",
        "(ratio - 1) - log_ratio",
        "(ratio - 1) + log_ratio",
        "tests/test_divergences.py",
    ),
    # Controllers
    Mutant(
        "a KL of zero raises the learning rate",
        "maths/controllers.py",
        "elif 0 < kl < desired_kl / band:",
        "elif kl < desired_kl / band:",
        "tests/test_controllers.py",
        "learning_rate_rule",
    ),
    Mutant(
        "the learning rate has no upper bound",
        "maths/controllers.py",
        "return min(max(value, low), high)",
        "return max(value, low)",
        "tests/test_controllers.py",
    ),
    Mutant(
        "the penalty can vanish",
        "maths/controllers.py",
        "return min(max(coef, low), high)",
        "return min(coef, high)",
        "tests/test_controllers.py",
    ),
    Mutant(
        "the penalty falls where it should rise",
        "maths/controllers.py",
        "coef = coef * factor",
        "coef = coef / factor",
        "tests/test_controllers.py",
    ),
    Mutant(
        "the clip range grows where it should shrink",
        "maths/controllers.py",
        "value = value / factor",
        "value = value * factor",
        "tests/test_controllers.py",
    ),
    Mutant(
        "there is no dead band",
        "maths/controllers.py",
        "    if kl > band * desired_kl:\n        value",
        "    if kl > desired_kl:\n        value",
        "tests/test_controllers.py",
    ),
    # Clip bounds
    Mutant(
        "bounds of several dimensions are those of one",
        "maths/clip_bounds.py",
        "np.exp(dimensions * np.interp(",
        "np.exp(np.interp(",
        "tests/test_clip_bounds.py",
        "share_the_budget or mean_action",
    ),
    Mutant(
        "the mean moves to the wrong side of the action",
        "maths/clip_bounds.py",
        "_largest(lambda a, t: log_ratio(a, t, +1))",
        "_largest(lambda a, t: log_ratio(a, t, -1))",
        "tests/test_clip_bounds.py",
        "direct_optimisation",
    ),
    Mutant(
        "the upper bound is the lower one turned over",
        "maths/clip_bounds.py",
        "return Bounds(lower, (1 - (1 - p) * lower_of_others) / p)",
        "return Bounds(lower, 1 / lower)",
        "tests/test_clip_bounds.py",
        "golden or binary_kl",
    ),
    # Variants
    Mutant(
        "the clip range in force is forgotten by load()",
        "variants/adaptive_clip_ppo.py",
        "    def _current_clip_range(self) -> float:",
        "    def _setup_model(self) -> None:\n"
        "        super()._setup_model()\n"
        "        self.adapted_clip_range = self.clip_range(1.0)\n\n"
        "    def _current_clip_range(self) -> float:",
        "tests/test_conformance.py",
        "TestAdaptiveClipPPO and save_and_load",
    ),
    Mutant(
        "the stop on KL fires below its limit",
        "variants/kl_stop_ppo.py",
        'if stats.minibatch_kl > self._current("max_kl"):',
        'if stats.minibatch_kl < self._current("max_kl"):',
        "tests/test_parity.py",
        "kl_stop_at_minibatch and discrete",
    ),
    Mutant(
        "the trust region accepts every update",
        "variants/trust_region_ppo.py",
        'return measurement.kl <= self._current("max_kl") * (1 - _ROUNDING_MARGIN) and measurement.surrogate_gain >= 0',
        "return True",
        "tests/test_trust_region.py",
    ),
    Mutant(
        "the KL penalty is a reward",
        "variants/kl_penalty_ppo.py",
        "return self.adapted_kl_coef * batch.kl if",
        "return -self.adapted_kl_coef * batch.kl if",
        "tests/test_variants_kl_penalty_ppo.py",
        "closer or gradient",
    ),
    Mutant(
        "the coefficient is forgotten by load()",
        "variants/kl_penalty_ppo.py",
        "    def _surrogate(self,",
        "    def _setup_model(self) -> None:\n"
        "        super()._setup_model()\n"
        "        self.adapted_kl_coef = self.kl_coef\n\n"
        "    def _surrogate(self,",
        "tests/test_variants_kl_penalty_ppo.py",
        "saving",
    ),
    Mutant(
        "the coefficient never moves",
        "variants/kl_penalty_ppo.py",
        "            self.adapted_kl_coef = steer_penalty(",
        "            _ = steer_penalty(",
        "tests/test_variants_kl_penalty_ppo.py",
        "follows",
    ),
    Mutant(
        "SB3's schedule overwrites the learning rate",
        "variants/adaptive_lr_ppo.py",
        "            update_learning_rate(optimizer, self.adapted_learning_rate)",
        "            update_learning_rate(optimizer, self.lr_schedule(1.0))",
        "tests/test_variants_adaptive_lr_ppo.py",
        "next_one",
    ),
    Mutant(
        "the learning rate is forgotten by load()",
        "variants/adaptive_lr_ppo.py",
        "    def _update_learning_rate(self,",
        "    def _setup_model(self) -> None:\n"
        "        super()._setup_model()\n"
        "        self.adapted_learning_rate = self.lr_schedule(1.0)\n\n"
        "    def _update_learning_rate(self,",
        "tests/test_variants_adaptive_lr_ppo.py",
        "survives",
    ),
    Mutant(
        "the learning rate moves after the step",
        "variants/adaptive_lr_ppo.py",
        'point == "before_step" and self.adapt_every',
        'point == "after_step" and self.adapt_every',
        "tests/test_variants_adaptive_lr_ppo.py",
        "before_each_step",
    ),
    Mutant(
        "the rate moves only from the next rollout on",
        "variants/adaptive_lr_ppo.py",
        "        update_learning_rate(self.policy.optimizer, self.adapted_learning_rate)",
        "",
        "tests/test_variants_adaptive_lr_ppo.py",
        "next_one",
    ),
    Mutant(
        "an epoch that was cut short does not count",
        "variants/adaptive_lr_ppo.py",
        'if self.adapt_every != "minibatch":',
        'if self.adapt_every == "rollout":',
        "tests/test_variants_adaptive_lr_ppo.py",
        "cuts_short",
    ),
    Mutant(
        "SPO divides by a clip range of zero",
        "variants/spo.py",
        "        epsilon = max(batch.clip_range, _SMALLEST_EPSILON)\n        return losses.simple_policy_surrogate(",
        "        epsilon = batch.clip_range\n        return losses.simple_policy_surrogate(",
        "tests/test_variants_spo.py",
        "zero",
    ),
    Mutant(
        "Truly PPO punishes all samples",
        "variants/truly_ppo.py",
        "return self._alpha * th.where(triggered, batch.kl, 0.0)",
        "return self._alpha * batch.kl",
        "tests/test_variants_truly_ppo.py",
        "rolls_back or own_values",
    ),
    Mutant(
        "TR-PPO is the unclipped objective",
        "variants/truly_ppo.py",
        "        if self._alpha:\n            return losses.unclipped_surrogate(",
        "        if self._alpha is not None:\n            return losses.unclipped_surrogate(",
        "tests/test_variants_truly_ppo.py",
        "is_tr_ppo",
    ),
    Mutant(
        "TRGPPO takes unlikely actions for likely ones",
        "variants/trgppo.py",
        "np.exp(old_log_prob)",
        "1 - np.exp(old_log_prob)",
        "tests/test_variants_trgppo.py",
        "binary_kl",
    ),
    Mutant(
        "TRGPPO ignores the clip range",
        "variants/trgppo.py",
        "clip_bounds.categorical_kl_delta(max(clip_range, 0.0))",
        "clip_bounds.categorical_kl_delta(0.2)",
        "tests/test_variants_trgppo.py",
        "follows",
    ),
    Mutant(
        "ESPO stops while the ratios are still close",
        "variants/espo.py",
        'if deviation > self._current("max_ratio_deviation"):',
        'if deviation < self._current("max_ratio_deviation"):',
        "tests/test_variants_espo.py",
        "first_minibatch or upper_limit",
    ),
    Mutant(
        "ESPO stops before the step",
        "variants/espo.py",
        'if point == "after_step":',
        'if point == "before_step":',
        "tests/test_variants_espo.py",
        "ends_with_the_step",
    ),
    Mutant(
        "RPO collects and measures with noise",
        "variants/rpo.py",
        "    def _minibatch(self, rollout_data: RolloutBufferSamples) -> MiniBatch:\n"
        "        batch = super()._minibatch(rollout_data)",
        "    def _evaluate(self, rollout_data: RolloutBufferSamples) -> MiniBatch:\n"
        "        batch = super()._evaluate(rollout_data)",
        "tests/test_variants_rpo.py",
        "measured",
    ),
    Mutant(
        "RPO draws although it adds nothing",
        "variants/rpo.py",
        "uniform_(-alpha, alpha) if alpha else None",
        "uniform_(-alpha, alpha)",
        "tests/test_variants_rpo.py",
        "draws_nothing and box",
    ),
    Mutant(
        "RPO shifts to one side only",
        "variants/rpo.py",
        "uniform_(-alpha, alpha)",
        "uniform_(0, alpha)",
        "tests/test_variants_rpo.py",
        "uniform",
    ),
    # Variants, continued: stops and rollbacks
    Mutant(
        "the rollback is forgotten",
        "variants/trust_region_ppo.py",
        "                step.undo()\n",
        "",
        "tests/test_trust_region.py",
        "promise",
    ),
    Mutant(
        "a rolled back critic loses its training",
        "variants/trust_region_ppo.py",
        "actor = [p for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None]",
        "actor = parameters",
        "tests/test_trust_region.py",
        "promise or separate",
    ),
    Mutant(
        "running statistics are not rolled back",
        "variants/trust_region_ppo.py",
        "[*actor, *self.policy.buffers()]",
        "actor",
        "tests/test_trust_region.py",
        "running_statistics",
    ),
    Mutant(
        "the surrogate may get worse",
        "variants/trust_region_ppo.py",
        " and measurement.surrogate_gain >= 0",
        "",
        "tests/test_trust_region.py",
    ),
    Mutant(
        "the bound has SB3's headroom",
        "variants/trust_region_ppo.py",
        'measurement.kl <= self._current("max_kl") * (1 - _ROUNDING_MARGIN)',
        'measurement.kl <= 1.5 * self._current("max_kl")',
        "tests/test_trust_region.py",
        "bound_is_met",
    ),
    Mutant(
        "the stop after an epoch goes by its last minibatch",
        "variants/kl_stop_ppo.py",
        'if stats.epoch_kl > self._current("max_kl"):',
        'if stats.minibatch_kl > self._current("max_kl"):',
        "tests/test_kl_stop.py",
        "epoch_mode",
    ),
    Mutant(
        "the stop on the rollout's KL has SB3's headroom",
        "variants/kl_stop_ppo.py",
        '            if kl > self._current("max_kl"):',
        '            if kl > 1.5 * self._current("max_kl"):',
        "tests/test_kl_stop.py",
        "rollout_mode",
    ),
    Mutant(
        "an older slope stands for a newer hook",
        "engines/hook_slopes.py",
        "    return ruling[0] is ruling[1]\n",
        "    return True\n",
        "tests/test_hooks_on_arrays.py",
        "older_class",
    ),
    Mutant(
        "a penalty that is differentiated by autograd is added",
        "engines/hook_slopes.py",
        "objective - penalty)",
        "objective + penalty)",
        "tests/test_hooks_on_arrays.py",
        "trains_as_in_pytorch and PullsBack",
    ),
    Mutant(
        "a hook that trains the policy's parameters is taken",
        "engines/hook_slopes.py",
        "if variable is not None and id(variable) not in known:",
        "if False:",
        "tests/test_hooks_on_arrays.py",
        "more_than_the_minibatch",
    ),
    Mutant(
        "trying a hook moves the generators",
        "engines/hook_slopes.py",
        "        th.set_rng_state(torch_state)\n",
        "        pass\n",
        "tests/test_hooks_on_arrays.py",
        "leaves_no_trace",
    ),
    Mutant(
        "the entropy's slope of a hook is lost",
        "engines/array_update.py",
        "(ent_coef if by_entropy is None else ent_coef + by_entropy)",
        "ent_coef",
        "tests/test_hooks_on_arrays.py",
        "trains_as_in_pytorch and LikesEntropy",
    ),
    Mutant(
        "an adapted value starts anew from every file",
        "training/steering.py",
        "        if base != self._adapted_from:\n",
        "        if True:\n",
        "tests/test_late_options.py",
        "goes_on_unless",
    ),
    Mutant(
        "another base is not noticed",
        "training/steering.py",
        "        if base != self._adapted_from:\n",
        "        if self._adapted_from is None:\n",
        "tests/test_late_options.py",
        "goes_on_unless",
    ),
    Mutant(
        "attributes are not checked before learning",
        "training/sb3_seams.py",
        "        self._check_options()\n        self._prepare_critic()\n",
        "        self._prepare_critic()\n",
        "tests/test_late_options.py",
        "nonsense_is_refused",
    ),
    Mutant(
        "load takes any name",
        "training/sb3_seams.py",
        "        _check_names(cls, kwargs)\n",
        "",
        "tests/test_late_options.py",
        "unknown_name",
    ),
    Mutant(
        "a rate that was reached is lost in set_parameters",
        "variants/adaptive_lr_ppo.py",
        "        if not self._is_loading:\n",
        "        if False:\n",
        "tests/test_late_options.py",
        "set_parameters_brings",
    ),
    Mutant(
        "a value loss that overflows is not noticed on arrays",
        "engines/array_update.py",
        '("loss", self._losses([(self._record, self._rows)]).total),',
        '("loss", self._losses([(self._record, self._rows)]).policy),',
        "tests/test_non_finite.py",
        "value_loss_that_overflows",
    ),
    Mutant(
        "the critic always stops with the actor",
        "training/update_loop.py",
        "        self.stop_critic = stop_critic\n",
        "",
        "tests/test_kl_stop.py",
        "critic_can_finish",
    ),
    Mutant(
        "a critic of its own is in the actor loss too",
        "training/update_loop.py",
        "        if self.critic_epochs is not None:\n            return Losses(",
        "        if False:\n            return Losses(",
        "tests/test_critic.py",
        "actor_does_not_feel",
    ),
    Mutant(
        "an early stop does not end an actor whose critic is apart",
        "training/update_loop.py",
        "(self.stop_critic or self.critic_epochs is not None)",
        "self.stop_critic",
        "tests/test_critic.py",
        "files_with or early_stop or actor_does_not_feel",
    ),
    Mutant(
        "a critic of its own is trained on the lambda of the actor",
        "training/critic_update.py",
        "self._old_last_values, self._model.critic_gae_lambda)",
        "self._old_last_values, self._model.gae_lambda)",
        "tests/test_critic.py",
        "another_lambda",
    ),
    Mutant(
        "advantages are computed again without the time limits",
        "training/critic_update.py",
        "rewards[truncation.step, truncation.env] += model.gamma * difference",
        "pass",
        "tests/test_critic.py",
        "critic_of_that_moment",
    ),
    Mutant(
        "the buffer keeps the last epoch",
        "training/critic_update.py",
        "            self._put(self._advantages, self._returns)\n",
        "            pass\n",
        "tests/test_critic.py",
        "critic_of_that_moment",
    ),
    Mutant(
        "the moments of the critic are not saved",
        "training/critic_options.py",
        "(modules if self.critic_optimizer is None else [*modules, _OPTIMIZER])",
        "modules",
        "tests/test_critic.py",
        "saved_moments",
    ),
    Mutant(
        "the gradient of the critic is clipped by the norm of the actor",
        "training/critic_options.py",
        "self.max_grad_norm if self.critic_max_grad_norm is None else self.critic_max_grad_norm",
        "self.max_grad_norm",
        "tests/test_critic.py",
        "actor_does_not_feel or squared_error",
    ),
    Mutant(
        "a gradient of the critic that is not finite is stepped with",
        "engines/array_update.py",
        '                self._raise_if_bad(("value", values[rows]), ("loss", loss)',
        '                print(("value", values[rows]), ("loss", loss)',
        "tests/test_critic.py",
        "not_finite",
    ),
    Mutant(
        "the upper clip range is the lower one",
        "variants/clip_ppo.py",
        "losses.clipped_surrogate(batch.ratio, batch.advantages, batch.clip_range, high)",
        "losses.clipped_surrogate(batch.ratio, batch.advantages, batch.clip_range, batch.clip_range)",
        "tests/test_clip_options.py",
        "objective",
    ),
    Mutant(
        "the first minibatch of a rollout moves the learning rate",
        "variants/adaptive_lr_ppo.py",
        " and (stats.epoch, stats.step) != (0, 0)",
        "",
        "tests/test_variants_adaptive_lr_ppo.py",
        "rounding",
    ),
    Mutant(
        "the last epoch moves the learning rate twice",
        "variants/adaptive_lr_ppo.py",
        " and stats.epoch + 1 < self.n_epochs",
        "",
        "tests/test_variants_adaptive_lr_ppo.py",
        "after_each_epoch",
    ),
    Mutant(
        "the drift of bad actions has the scale of good ones",
        "variants/discovered_ppo.py",
        "    def _surrogate(self, batch: MiniBatch) -> th.Tensor:\n"
        "        return losses.discovered_surrogate(\n"
        "            batch.log_ratio, batch.ratio, batch.advantages, "
        'self._current("drift_alpha"), self._current("drift_beta")',
        "    def _surrogate(self, batch: MiniBatch) -> th.Tensor:\n"
        "        return losses.discovered_surrogate(\n"
        "            batch.log_ratio, batch.ratio, batch.advantages, "
        'self._current("drift_alpha"), self._current("drift_alpha")',
        "tests/test_variants_discovered_ppo.py",
        "own",
    ),
    Mutant(
        "TRGPPO's bounds look at the wrong distance",
        "variants/trgppo.py",
        "standardised = (batch.actions - old.mean) / old.stddev",
        "standardised = (batch.actions - old.mean) * old.stddev",
        "tests/test_variants_trgppo.py",
        "autograds",
    ),
    # The loop
    Mutant(
        "target_kl stops at the target itself",
        "training/update_loop.py",
        "stats.minibatch_kl > 1.5 * self.target_kl",
        "stats.minibatch_kl > self.target_kl",
        "tests/test_parity.py",
        "clip_ppo_is_ppo and target_kl",
    ),
    Mutant(
        "a stop takes its minibatch's step all the same",
        "training/update_loop.py",
        '                        if self._ends("before_step", update.stats):\n                            break\n',
        '                        self._ends("before_step", update.stats)\n',
        "tests/test_update_loop.py",
        "ends_the_update_where",
    ),
    Mutant(
        "the advantage of one sample is normalised",
        "training/update_loop.py",
        "if self.normalize_advantage and len(advantages) > 1:",
        "if self.normalize_advantage:",
        "tests/test_parity.py",
        "clip_ppo_is_ppo and last and minibatch",
    ),
    Mutant(
        "the entropy is punished",
        "training/update_loop.py",
        '+ self._current("ent_coef") * entropy_loss',
        '- self._current("ent_coef") * entropy_loss',
        "tests/test_parity.py",
        "clip_ppo_is_ppo and entropy",
    ),
    Mutant(
        "gradients are not clipped",
        "engines/torch_engine.py",
        "clip_grad_norm_(self.old_policy.parameters, self._model.max_grad_norm)",
        "clip_grad_norm_(self.old_policy.parameters, 1e9)",
        "tests/test_parity.py",
        "clip_ppo_is_ppo and (box or VecNormalize)",
    ),
    Mutant(
        "a gradient that is not finite reaches the parameters",
        "engines/torch_engine.py",
        "if not math.isfinite((norm + loss.detach()).item()):\n            self._raise_if_non_finite(loss)",
        "if False:\n            self._raise_if_non_finite(loss)",
        "tests/test_non_finite.py",
        "bad_gradient",
    ),
    Mutant(
        "a rollout that is not finite is learned from",
        "update_parts/finite.py",
        "        if not all_finite(values):\n",
        "        if False:\n",
        "tests/test_non_finite.py",
        "bad_entry",
    ),
    Mutant(
        "a refused update leaves its gradients behind",
        "engines/torch_engine.py",
        "            optimizer.zero_grad()\n            raise NonFiniteUpdateError(",
        "            optimizer.step()\n            raise NonFiniteUpdateError(",
        "tests/test_non_finite.py",
        "bad_gradient",
    ),
    Mutant(
        "the KL over the rollout is that of its beginning",
        "engines/rollout_data.py",
        "range(0, size, _MEASURE_CHUNK)",
        "range(0, min(size, _MEASURE_CHUNK), _MEASURE_CHUNK)",
        "tests/test_update_loop.py",
        "logged_diagnostics",
    ),
    Mutant(
        "measuring draws a random number",
        "engines/rollout_data.py",
        "    for start in range(0, size, _MEASURE_CHUNK):",
        "    np.random.rand()\n    for start in range(0, size, _MEASURE_CHUNK):",
        "tests/test_parity.py",
        "clip_ppo_is_ppo and discrete",
    ),
    Mutant(
        "penalties are left out",
        "training/update_loop.py",
        "policy_loss = policy_loss + penalty.mean()",
        "policy_loss = policy_loss + 0 * penalty.mean()",
        "tests/test_update_loop.py",
        "penalty",
    ),
    Mutant(
        "the ratio is turned over",
        "update_parts/minibatch.py",
        "return self.log_prob - self.old_log_prob",
        "return self.old_log_prob - self.log_prob",
        "tests/test_parity.py",
        "clip_ppo_is_ppo and discrete",
    ),
    Mutant(
        "the old policy follows the new one",
        "update_parts/snapshot.py",
        "self._old = [tensor.detach().clone() for tensor in self._live]",
        "self._old = [tensor.detach() for tensor in self._live]",
        "tests/test_update_loop.py",
        "every_minibatch_gets or snapshot",
    ),
    Mutant(
        "the old policy computes in training mode",
        "update_parts/snapshot.py",
        "self._policy.train(False)",
        "self._policy.train(was_training)",
        "tests/test_update_loop.py",
        "snapshot",
    ),
    Mutant(
        "the effective sample size is the mean ratio",
        "update_parts/statistics.py",
        "ratio.sum() ** 2 / (np.square(ratio).sum() * len(ratio))",
        "ratio.sum() / len(ratio)",
        "tests/test_update_loop.py",
        "logged_diagnostics",
    ),
    # The NumPy engine
    Mutant(
        "the engine's categorical gradient forgets the action taken",
        "engines/kernels/discrete_heads.py",
        "        gradient.ravel()[self._taken] += log_prob_slope\n",
        "",
        "tests/test_engine_gradients.py",
        "variant_and_head and clip_ppo and Discrete",
    ),
    Mutant(
        "the engine punishes the entropy",
        "engines/kernels/discrete_heads.py",
        "gradient -= slope * probs * (self._log_probs + entropy)",
        "gradient += slope * probs * (self._log_probs + entropy)",
        "tests/test_engine_gradients.py",
        "variant_and_head and clip_ppo and Discrete",
    ),
    Mutant(
        "the engine's entropy of a Gaussian counts one sample",
        "engines/kernels/gaussian_head.py",
        "if np.ndim(entropy_slope) else entropy_slope * len(z)",
        "if np.ndim(entropy_slope) else entropy_slope",
        "tests/test_engine_gradients.py",
        "variant_and_head and clip_ppo and Box",
    ),
    Mutant(
        "the engine's KL gradient forgets the mean",
        "engines/kernels/gaussian_head.py",
        "spread = (old.std * inverse_std) ** 2 + scaled**2",
        "spread = (old.std * inverse_std) ** 2 + 0 * scaled",
        "tests/test_engine_gradients.py",
        "variant_and_head and kl_penalty_ppo and Box",
    ),
    Mutant(
        "the engine's KL is that of new to old",
        "engines/kernels/discrete_heads.py",
        "gradient += kl_slope[:, None] * (probs - _sigmoid(old.outputs))",
        "gradient += kl_slope[:, None] * (_sigmoid(old.outputs) - probs)",
        "tests/test_engine_gradients.py",
        "variant_and_head and kl_penalty_ppo and MultiBinary",
    ),
    Mutant(
        "the engine normalises one sample",
        "engines/array_update.py",
        "_standardised(tail[None])[0] if len(tail) > 1 else tail",
        "_standardised(tail[None])[0]",
        "tests/test_update_loop.py",
        "both_engines and clip_ppo",
    ),
    Mutant(
        "the engine does not clip gradients",
        "engines/array_update.py",
        "min(1.0, max_norm / (math.sqrt(squared_norm) + 1e-6))",
        "1.0",
        "tests/test_engine.py",
        "first_update",
    ),
    Mutant(
        "the engine's Adam is not corrected for its start",
        "engines/kernels/adam.py",
        "second_correction = math.sqrt(1 - beta2**group.steps)",
        "second_correction = 1.0",
        "tests/test_engine.py",
        "first_update",
    ),
    Mutant(
        "the engine does not discount the value at a time limit",
        "engines/rollout.py",
        "rewards[idx] += self.gamma * terminal_value",
        "rewards[idx] += terminal_value",
        "tests/test_engine.py",
        "time_limits",
    ),
    Mutant(
        "the engine's advantages reach over the end of an episode",
        "engines/gae.py",
        "decay = gamma * gae_lambda * continues",
        "decay = gamma * gae_lambda * np.ones_like(continues)",
        "tests/test_engine.py",
        "time_limits or first_update",
    ),
    Mutant(
        "the engine's ReLU lets negative slopes through",
        "engines/kernels/activations.py",
        "np.multiply(gradient, z > 0.0, out=gradient)",
        "np.multiply(gradient, z > -1.0, out=gradient)",
        "tests/test_engine_gradients.py",
        "activation and relu",
    ),
    Mutant(
        "a terminal observation is not converted as SB3 does",
        "engines/rollout.py",
        'self.policy.obs_to_tensor(infos[idx]["terminal_observation"])[0]',
        'th.from_numpy(infos[idx]["terminal_observation"][None])',
        "tests/test_rollout.py",
        "environments_that_speak_in_lists",
    ),
    Mutant(
        "an info is looked at where no episode has ended",
        "engines/rollout.py",
        "            if (\n                done\n                and infos[idx]",
        "            if (\n                infos[idx] is not None\n                and infos[idx]",
        "tests/test_rollout.py",
        "what_sb3_takes and fewer",
    ),
    Mutant(
        "what a callback puts in place of the last observation is not stored",
        "engines/rollout.py",
        "_add(rollout_buffer, self._last_obs, actions,",
        "_add(rollout_buffer, obs_tensor, actions,",
        "tests/test_rollout.py",
        "interferes",
    ),
    Mutant(
        "every buffer counts as full",
        "engines/rollout.py",
        "if buffer.pos == buffer.buffer_size:",
        "if True:",
        "tests/test_rollout.py",
        "another_size",
    ),
    Mutant(
        "a buffer of another class is written to behind its back",
        "engines/array_engine.py",
        "if not is_untouched(rollout_buffer, RolloutBuffer):",
        "if False:",
        "tests/test_rollout.py",
        "another_class",
    ),
    Mutant(
        "the lean step returns the environment's own memory",
        "engines/lean_step.py",
        "return buf_obs.copy(), ",
        "return buf_obs, ",
        "tests/test_lean_step.py",
        "known_environments and Pendulum",
    ),
    Mutant(
        "the lean step copies an array twice that an info holds twice",
        "engines/lean_step.py",
        'copied = memo[id(value)] = value.copy("K")',
        'copied = value.copy("K")',
        "tests/test_lean_step.py",
        "hostile_environments",
    ),
    Mutant(
        "the lean step is taken for a subclass",
        "engines/untouched.py",
        "return type(instance) is cls and all(",
        "return isinstance(instance, cls) and all(",
        "tests/test_lean_step.py",
        "not_known",
    ),
    Mutant(
        "the lean step goes on with the returns of an episode that has ended",
        "engines/lean_step.py",
        "            env.returns[dones] = 0\n",
        "",
        "tests/test_lean_step.py",
        "known_environments and CartPole",
    ),
    # Families
    Mutant(
        "masks are left out of the update",
        "families/maskable.py",
        ' | {"action_masks": masks.action_masks}',
        "",
        "tests/families/test_families_parity.py",
        "clip_form_is_sb3_contribs_class and not drawn",
    ),
    Mutant(
        "the KL of masked actions is that of new to old",
        "maths/divergences.py",
        "zip(old.distributions, new.distributions, strict=True)",
        "zip(new.distributions, old.distributions, strict=True)",
        "tests/families/test_families_masks_and_padding.py",
        "valid_actions",
    ),
    Mutant(
        "a callback's calls of the policy overwrite the masks of the rollout",
        "families/maskable_recurrent.py",
        "if aside.runs:",
        "if False:",
        "tests/families/test_families_masks_and_padding.py",
        "callbacks_may_call",
    ),
    Mutant(
        "padding counts",
        "families/recurrent.py",
        "return without_padding(super()._evaluate(sequences), sequences.mask > 1e-8)",
        "return super()._evaluate(sequences)",
        "tests/families/test_families_masks_and_padding.py",
        "padding_changes_nothing",
    ),
    Mutant(
        "a measurement cuts sequences",
        "families/recurrent.py",
        "end = int(fitting[-1] if len(fitting) else ahead[0])",
        "end = int(min(begin + _MEASURE_CHUNK, ends[-1]))",
        "tests/families/test_families_masks_and_padding.py",
        "chunk",
    ),
    Mutant(
        "squashed actions stay between -1 and 1",
        "families/recurrent.py",
        "self.venv.step_async(self._policy.unscale_action(self._squashed))",
        "self.venv.step_async(self._squashed)",
        "tests/families/test_families_faults.py",
        "squashed_actions_reach",
    ),
    Mutant(
        "minibatches of one sample are accepted",
        "families/family.py",
        "if self.normalize_advantage and min(",
        "if not self.normalize_advantage and min(",
        "tests/families/test_families_faults.py",
        "refuses_to_normalise",
    ),
    Mutant(
        "masks of several environments are mixed up",
        "families/buffers.py",
        "self.action_masks = self.swap_and_flatten(self.action_masks)",
        "self.action_masks = self.action_masks.reshape(-1, self.mask_dims)",
        "tests/families/test_families_masks_and_padding.py",
        "stored_with_it",
    ),
    Mutant(
        "masks stay on after the call that gave them",
        "families/policies.py",
        "            self._masks = outer\n",
        "            pass\n",
        "tests/families/test_families_conformance.py",
        "predictions_need_no_masks",
    ),
    # Plug-ins and the conformance suite
    Mutant(
        "a plug-in takes the id of a variant",
        "plugins.py",
        "    if name in taken:\n",
        "    if False:\n",
        "tests/test_plugins.py",
        "is_taken",
    ),
    Mutant(
        "a plug-in that exits ends the command",
        "plugins.py",
        "    except (Exception, SystemExit) as error:",
        "    except Exception as error:",
        "tests/test_plugins.py",
        "what_is_wrong",
    ),
    Mutant(
        "one of two plug-ins with the same id is used",
        "plugins.py",
        "    if name in several:\n",
        "    if False:\n",
        "tests/test_plugins.py",
        "two_packages",
    ),
    Mutant(
        "every look-up imports the plug-ins",
        "registry.py",
        "    for registered in (ALGORITHMS, FAMILIES):\n        if",
        "    for registered in (plugged(), ALGORITHMS, FAMILIES):\n        if",
        "tests/test_plugins.py",
        "imported_when",
    ),
    Mutant(
        "the hyperparameters of a plug-in are looked for in this package",
        "entries/zoo_files.py",
        'resources.files(package or "sb3_ppo_variants.zoo_configs")',
        'resources.files("sb3_ppo_variants.zoo_configs")',
        "tests/test_plugins.py",
        "brings_its",
    ),
    Mutant(
        "a plug-in is tuned into the file of its ancestor",
        "registry.py",
        'return f"{self.variant_id or self.id}.yml"',
        'return f"{self.config}.yml"',
        "tests/test_plugins.py",
        "tuned_into",
    ),
    Mutant(
        "checks train on the model that they share",
        "testing/variant.py",
        'return self.cls.load(file, env=self.make_env(), device="cpu")',
        "return self.trained()",
        "tests/test_conformance.py",
        "third_party",
    ),
    Mutant(
        "the contract forgets the constructor's arguments",
        "testing/contract.py",
        "Variant(cls.variant, cls.constructor_kwargs)",
        "Variant(cls.variant)",
        "tests/test_conformance.py",
        "hands_its_arguments",
    ),
    # Environments that come as a batch
    Mutant(
        "a vec_env with keys beside gymnasium is taken",
        "entries/vector.py",
        'value.keys() == {"gymnasium"}',
        '"gymnasium" in value',
        "tests/test_vec_env.py",
        "makes_no_sense",
    ),
    Mutant(
        "the reset of one cart resets them all",
        "vec_env/resets.py",
        "    base.state[:, others] = states[:, others]",
        "    pass",
        "tests/test_vec_env.py",
        "carts_begin_anew",
    ),
    Mutant(
        "an environment that ignores reset masks is taken",
        "vec_env/resets.py",
        "if have_moved and all(",
        "if have_moved or all(",
        "tests/test_vec_env.py",
        "lost_on_resets",
    ),
    Mutant(
        "the value behind a termination at the time limit is bootstrapped",
        "vec_env/gym_vector_env.py",
        "np.greater(truncated, terminated)",
        "np.asarray(truncated, dtype=bool)",
        "tests/test_vec_env.py",
        "with_any_observation",
    ),
    Mutant(
        "the terminal observation is the next episode's first",
        "vec_env/batches.py",
        "return batch[index].copy()",
        "return batch[index]",
        "tests/test_vec_env.py",
        "with_any_observation",
    ),
    Mutant(
        "masks are those of the ended episode",
        "vec_env/gym_vector_env.py",
        "            self._current_infos[index] = self.reset_infos[index]",
        "            pass",
        "tests/test_vec_env.py",
        "masks_are_those",
    ),
    # Exploration noise
    Mutant(
        "the noise has the spectrum of its amplitude",
        "update_parts/colored_noise.py",
        "powerlaw_psd_gaussian(self.color,",
        "powerlaw_psd_gaussian(self.color / 2,",
        "tests/test_exploration_noise.py",
        "spectrum",
    ),
    Mutant(
        "a sequence's mean adds to the unit variance",
        "update_parts/colored_noise.py",
        "sequence - sequence.mean(axis=-1, keepdims=True)",
        "sequence",
        "tests/test_exploration_noise.py",
        "standard_normal",
    ),
    Mutant(
        "sequences are faded with weights that sum to one",
        "update_parts/colored_noise.py",
        "np.cos(angle) * ending",
        "np.cos(angle) ** 2 * ending",
        "tests/test_exploration_noise.py",
        "standard_normal",
    ),
    Mutant(
        "the next sequence is not faded in",
        "update_parts/colored_noise.py",
        "faded[:, 1:] += np.sin(angle[1:]) * beginning[:, : _HOP - 1]",
        "faded[:, 1:] += 0 * beginning[:, : _HOP - 1]",
        "tests/test_exploration_noise.py",
        "standard_normal",
    ),
    Mutant(
        "a sequence ends where the next one begins",
        "update_parts/colored_noise.py",
        "self._sequence(number, env), self._sequence(number + 1, env)",
        "self._sequence(2 * number, env), self._sequence(2 * number + 1, env)",
        "tests/test_exploration_noise.py",
        "no_seam",
    ),
    Mutant(
        "all environments have the same noise",
        "update_parts/colored_noise.py",
        "(self.seed, number, env)",
        "(self.seed, number, 0)",
        "tests/test_exploration_noise.py",
        "independent",
    ),
    Mutant(
        "all seeds have the same noise",
        "update_parts/colored_noise.py",
        "(self.seed, number, env)",
        "(0, number, env)",
        "tests/test_exploration_noise.py",
        "independent",
    ),
    Mutant(
        "each rollout begins with the same noise",
        "update_parts/colored_noise.py",
        "self._rollout_start = self.position",
        "self._rollout_start = 0",
        "tests/test_exploration_noise.py",
        "goes_on_over_rollouts or broken_off",
    ),
    Mutant(
        "the draws of the last block are taken for those of the next",
        "update_parts/colored_noise.py",
        "if number != self._block_number:",
        "if self._block_number < 0:",
        "tests/test_exploration_noise.py",
        "no_seam",
    ),
    Mutant(
        "files hold the draws",
        "update_parts/colored_noise.py",
        'if name != "_block"}',
        "if name}",
        "tests/test_exploration_noise.py",
        "files_hold",
    ),
    Mutant(
        "PyTorch's loop draws white noise",
        "engines/torch_engine.py",
        "quick_checks(self._model.policy), exploring(self._model, rollout_buffer)",
        "quick_checks(self._model.policy)",
        "tests/test_exploration_noise.py",
        "goes_on_over_rollouts",
    ),
    Mutant(
        "NumPy's kernels draw white noise",
        "engines/rollout.py",
        "None if self.exploration_noise is None else self.exploration_noise.at(rollout_buffer.pos)",
        "None",
        "tests/test_exploration_noise.py",
        "goes_on_over_rollouts",
    ),
    Mutant(
        "the noise is not spread by the policy's deviation",
        "engines/exploring.py",
        "th.from_numpy(noise).to(normal.loc) * normal.scale",
        "th.from_numpy(noise).to(normal.loc) * normal.scale**2",
        "tests/test_exploration_noise.py",
        "same_numbers",
    ),
    Mutant(
        "predict is given the rollout's noise",
        "engines/exploring.py",
        'vars(policy.action_dist).pop("sample", None)',
        "None",
        "tests/test_exploration_noise.py",
        "predict_draws",
    ),
    Mutant(
        "a callback's other observations are given the rollout's noise",
        "engines/exploring.py",
        "if normal.loc.shape != noise.shape:",
        "if False:",
        "tests/test_exploration_noise.py",
        "predict_draws",
    ),
    Mutant(
        "hooks stay on the policy",
        "engines/exploring.py",
        "            hook.remove()",
        "            pass",
        "tests/test_exploration_noise.py",
        "predict_draws",
    ),
    Mutant(
        "a loaded model begins its noise anew",
        "training/exploration.py",
        "self.exploration_noise, self._noise_settings = noise, settings",
        "pass",
        "tests/test_exploration_noise.py",
        "loaded_model",
    ),
    Mutant(
        "another seed goes on with the noise of the first",
        "training/exploration.py",
        "or settings != self._noise_settings",
        "",
        "tests/test_exploration_noise.py",
        "seeds_decide or color_can_change",
    ),
    Mutant(
        "set_random_seed leaves the noise as it is",
        "training/exploration.py",
        "        if seed is not None:\n            self.exploration_noise = None",
        "        pass",
        "tests/test_exploration_noise.py",
        "seeds_decide",
    ),
    Mutant(
        "noise that is switched off goes on",
        "training/exploration.py",
        "        if self.exploration_noise_color == 0:\n            self.exploration_noise = None\n            return",
        "        if self.exploration_noise_color == 0:\n            return",
        "tests/test_exploration_noise.py",
        "color_can_change",
    ),
    Mutant(
        "gSDE takes noise that it never draws",
        "training/exploration.py",
        "        if self.use_sde:",
        "        if False:",
        "tests/test_exploration_noise.py",
        "cannot_draw",
    ),
    Mutant(
        "discrete actions take noise that they never draw",
        "training/exploration.py",
        "if not isinstance(self.action_space, spaces.Box):",
        "if False:",
        "tests/test_exploration_noise.py",
        "cannot_draw or masked_forms",
    ),
    Mutant(
        "a distribution that draws otherwise takes noise",
        "training/exploration.py",
        "is not DiagGaussianDistribution.sample:",
        "is None:",
        "tests/test_exploration_noise.py",
        "own_way",
    ),
    Mutant(
        "an attribute's noise is not checked",
        "training/exploration.py",
        'if self.exploration_noise_color != 0 and "policy" in vars(self):',
        "if False:",
        "tests/test_exploration_noise.py",
        "cannot_draw",
    ),
    Mutant(
        "noise may be blue",
        "training/exploration.py",
        "at_least=0, at_most=2",
        "at_most=2",
        "tests/test_exploration_noise.py",
        "other_colors",
    ),
    # Asymmetric actor and critic
    Mutant(
        "the critic's features extractor is the actor's",
        "training/asymmetric.py",
        '("critic", self.critic_keys) if self.features_extractor else',
        '("critic", self.actor_keys) if self.features_extractor else',
        "tests/test_asymmetric.py",
        "each_sees",
    ),
    Mutant(
        "an extractor of a user's own sees everything",
        "training/asymmetric.py",
        "return ({key: observation[key] for key in keys},)",
        "return arguments",
        "tests/test_asymmetric.py",
        "user_s_own",
    ),
    Mutant(
        "the actor sees what its extractor was not built for",
        "training/asymmetric.py",
        "space = spaces.Dict({key: self.observation_space[key] for key in keys})",
        "space = self.observation_space",
        "tests/test_asymmetric.py",
        "predict_needs",
    ),
    Mutant(
        "actor and critic share an extractor by default",
        "training/asymmetric.py",
        "share_features_extractor: bool = False",
        "share_features_extractor: bool = True",
        "tests/test_asymmetric.py",
        "each_sees",
    ),
    Mutant(
        "an extractor is shared between different keys",
        "training/asymmetric.py",
        "if share_features_extractor and self.actor_keys != self.critic_keys:",
        "if False:",
        "tests/test_asymmetric.py",
        "bad_keys",
    ),
    Mutant(
        "the critic's network is as wide as the actor's features",
        "training/asymmetric.py",
        "dim = self.vf_features_extractor.features_dim",
        "dim = self.features_dim",
        "tests/test_asymmetric.py",
        "both_learn",
    ),
    Mutant(
        "a linear critic is as wide as the actor's features",
        "training/asymmetric.py",
        "self.mlp_extractor.value_net, self.mlp_extractor.latent_dim_vf = critic.value_net, critic.latent_dim_vf",
        "self.mlp_extractor.value_net = critic.value_net",
        "tests/test_asymmetric.py",
        "user_s_own",
    ),
    Mutant(
        "a policy's own file forgets its keys",
        "training/asymmetric.py",
        "super()._get_constructor_parameters() | own |",
        "super()._get_constructor_parameters() |",
        "tests/test_asymmetric.py",
        "own_file",
    ),
    Mutant(
        "keys are named for a policy that has none",
        "training/asymmetric.py",
        "    if policy_class is not known:",
        "    if False:",
        "tests/test_asymmetric.py",
        "other_observations",
    ),
    Mutant(
        "a missing key of the actor is a KeyError",
        "training/asymmetric.py",
        "    if missing:\n",
        "    if False:\n",
        "tests/test_asymmetric.py",
        "predict_needs",
    ),
    Mutant(
        "a word is a list of keys",
        "training/asymmetric.py",
        "isinstance(keys, str) or not isinstance(keys, Sequence) or not keys",
        "not isinstance(keys, Sequence) or not keys",
        "tests/test_asymmetric.py",
        "bad_keys",
    ),
    Mutant(
        "no key is a choice",
        "training/asymmetric.py",
        "isinstance(keys, str) or not isinstance(keys, Sequence) or not keys",
        "isinstance(keys, str) or not isinstance(keys, Sequence)",
        "tests/test_asymmetric.py",
        "bad_keys",
    ),
    Mutant(
        "a shared LSTM is left to an assertion",
        "training/asymmetric.py",
        'if policy_arguments.get("shared_lstm"):',
        "if False:",
        "tests/test_asymmetric.py",
        "shared_lstm",
    ),
    Mutant(
        "the critic's LSTM is as wide as the actor's features",
        "families/asymmetric.py",
        "dim, actor = int(self.vf_features_extractor.features_dim), self.lstm_actor",
        "dim, actor = self.features_dim, self.lstm_actor",
        "tests/test_asymmetric.py",
        "both_learn and Recurrent",
    ),
    Mutant(
        "the optimizer does not know the critic's LSTM",
        "families/asymmetric.py",
        "        self.optimizer = self.optimizer_class(\n            self.parameters(),",
        '        self.optimizer = self.optimizer_class(\n            self.optimizer.param_groups[0]["params"],',
        "tests/test_asymmetric.py",
        "both_learn and Recurrent",
    ),
    Mutant(
        "keys are left to a policy that knows none",
        "training/sb3_seams.py",
        "policy_with_keys(self.policy_class, self.policy_kwargs, self.asymmetric_policy)",
        "self.policy_class",
        "tests/test_asymmetric.py",
        "each_sees",
    ),
    Mutant(
        "masks are lost to keys",
        "families/maskable.py",
        "    asymmetric_policy: ClassVar[type[ActorCriticPolicy]] = MaskableAsymmetricMultiInputPolicy\n",
        "",
        "tests/test_asymmetric.py",
        "each_sees",
    ),
    # Studies
    Mutant(
        "a fixed value is searched all the same",
        "tuning_space.py",
        "for name, parameter in self._ranges.items() if name not in decided}",
        "for name, parameter in self._ranges.items()}",
        "tests/tuning/test_tuning_configurations.py",
        "what_is_fixed",
    ),
    Mutant(
        "a sampled value replaces a fixed one",
        "tuning_space.py",
        'return entry | {name: deepcopy(value) for name, value in self.fixed.items() if name != "policy_kwargs"}',
        "return entry",
        "tests/tuning/test_tuning_configurations.py",
        "what_is_fixed",
    ),
    Mutant(
        "a joint critic keeps passes of its own",
        "tuning_space.py",
        'entry |= own if params["own_critic"] else joint',
        "entry |= own",
        "tests/tuning/test_tuning_search_space.py",
        "critic_is_joint",
    ),
    Mutant(
        "a critic of its own is searched where it shares parameters",
        "tuning_space.py",
        'if "critic_epochs" not in arguments or not self._critic_stands_apart:',
        'if "critic_epochs" not in arguments:',
        "tests/tuning/test_tuning_search_space.py",
        "can_stand_apart",
    ),
    Mutant(
        "a configuration is run as the algorithm of its name",
        "tuning/decisions/pair.py",
        "algorithm=self.space.algorithm.id",
        "algorithm=self.algorithm",
        "tests/tuning/test_tuning_configurations.py",
        "one_cell",
    ),
    Mutant(
        "export mixes the configurations of one algorithm",
        "tuning/ranking/export.py",
        "if owned_by != name:",
        "if not name:",
        "tests/tuning/test_tuning_configurations.py",
        "best_configuration",
    ),
    Mutant(
        "a ranking in which TRPO alone has its own critic passes for fair",
        "tuning/report/checklist.py",
        "len(set(may_be_own.values())) <= 1",
        "True",
        "tests/tuning/test_tuning_configurations.py",
        "what_was_given",
    ),
    Mutant(
        "an extended study forgets what it was begun as",
        "tuning/study/protocol.py",
        '"begun_as": protocol_digest(earlier), ',
        "",
        "tests/tuning/test_tuning_extension.py",
        "keeps_its_history",
    ),
    Mutant(
        "a study with fewer test seeds passes for the same",
        "tuning/study/extension.py",
        'min(part["budget"][count], earlier["budget"][count])',
        'earlier["budget"][count]',
        "tests/tuning/test_tuning_extension.py",
        "keeps_its_history",
    ),
    Mutant(
        "studies that do not agree are merged",
        "tuning/compare.py",
        '_refuse(f"{first} and {second} do not agree", listed(found, f"in {first}", f"in {second}"))',
        "del found",
        "tests/tuning/test_tuning_extension.py",
        "told_why",
    ),
    Mutant(
        "settings of an environment are read and forgotten",
        "tuning/study/study_file.py",
        "fixed = environment.settings | configuration.hyperparameters",
        "fixed = configuration.hyperparameters",
        "tests/tuning/test_tuning_extension.py",
        "settings_of_an",
    ),
    # What is ranked
    Mutant(
        "masked forms are run where there are no masks",
        "tuning/study/pairs.py",
        "if knows_masks(entry.cls) and not is_masking_supported(env):",
        "if knows_masks(entry.cls) and is_masking_supported(env):",
        "tests/tuning/test_tuning_pairs.py",
        "cannot_run",
    ),
    Mutant(
        "an algorithm without a finished run is ranked",
        "tuning/ranking/records.py",
        "if not faults and len(failed) < len(runs):",
        "if not faults:",
        "tests/tuning/test_tuning_results.py",
        "not_ranked_but_named",
    ),
    Mutant(
        "a fault of the package counts with the floor",
        "tuning/ranking/records.py",
        "if not faults and len(failed) < len(runs):",
        "if len(failed) < len(runs):",
        "tests/tuning/test_tuning_results.py",
        "no_low_score",
    ),
    Mutant(
        "an environment on which nobody has run counts",
        "tuning/ranking/taking_part.py",
        "for track in everything if track.pair not in missing))",
        "for track in everything))",
        "tests/tuning/test_tuning_results.py",
        "counts_for_none",
    ),
    Mutant(
        "what the package objects to is taken for its fault",
        "tuning/runs/faults.py",
        "if frame is None or not isinstance(error, _PROGRAMMING_ERRORS):",
        "if frame is None:",
        "tests/tuning/test_tuning_cell.py",
        "objects_to",
    ),
    Mutant(
        "what an environment raises is taken for a fault of the package",
        "tuning/runs/faults.py",
        "return frames[-1] if frames else None",
        "return frames[0] if frames else None",
        "tests/tuning/test_tuning_cell.py",
        "environment_raises",
    ),
    Mutant(
        "a study in which nothing finished is a success",
        "cli.py",
        "    if not ranking.lines:\n        raise typer.Exit(3)",
        "    if not ranking.lines:\n        raise typer.Exit(0)",
        "tests/tuning/test_tuning_rank.py",
        "no_success",
    ),
    Mutant(
        "an interrupt that Python drops is lost",
        "tuning/decisions/coordinator.py",
        "                self._collect()\n                interrupts.check()",
        "                self._collect()",
        "tests/tuning/test_tuning_coordinator.py",
        "python_forgets",
    ),
    Mutant(
        "what scores no better than the registered configuration is exported",
        "tuning/ranking/export.py",
        "if before is not None and mean <= before:",
        "if before is not None and mean < before:",
        "tests/tuning/test_tuning_export.py",
        "only_what_is_better",
    ),
    Mutant(
        "runs on other seeds are held against a study",
        "tuning/ranking/registered.py",
        '"test seeds": part["seeds"]["test"]',
        '"test seeds": []',
        "tests/tuning/test_tuning_export.py",
        "cannot_be_held_against",
    ),
    Mutant(
        "the command that makes a row again tunes what was not tuned",
        "tuning/ranking/again.py",
        'shipped.budget.trials and not protocol["budget"]["trials"]',
        'not shipped.budget.trials and not protocol["budget"]["trials"]',
        "tests/tuning/test_tuning_again.py",
        "options_of_the_study",
    ),
    Mutant(
        "the site resamples the whole study anew",
        "tuning/ranking/part.py",
        'if "iqm" in line and set(env_ids) == set(ranking["environments"]):',
        'if "iqm" in line and set(env_ids) != set(ranking["environments"]):',
        "tests/tuning/test_tuning_part.py",
        "numbers_are_the_rankings",
    ),
    Mutant(
        "the power of a study depends on who was better",
        "tuning/ranking/power.py",
        "return float(difference_of_iqms(samples, n, axis=-1) - np.quantile(lower_ends, 1 - _POWER))",
        "return float(-np.quantile(lower_ends, 1 - _POWER))",
        "tests/tuning/test_tuning_power.py",
        "not_on_who_is_better",
    ),
    Mutant(
        "a damaged note of a resumable run is a traceback",
        "zoo/resumable_folder.py",
        "except (ValueError, KeyError, TypeError) as error:",
        "except ZeroDivisionError as error:",
        "tests/zoo/test_zoo_resume.py",
        "damaged_note",
    ),
    Mutant(
        "the second of two equal keys replaces the first",
        "tuning/study/unique_keys.py",
        "if key.value in lines:",
        "if False:",
        "tests/tuning/test_tuning_study.py",
        "twice",
    ),
    Mutant(
        "optimize takes a trained agent and trains it",
        "zoo/idle_options.py",
        'given & {"-i", "--trained-agent"}',
        'given & {"--trained-agent"}',
        "tests/zoo/test_zoo_idle_options.py",
        "only_one",
    ),
    # Predictions, and the baselines' rollouts
    Mutant(
        "predict decides ties by the last bit",
        "engines/prediction.py",
        "_TIE = 1e-5",
        "_TIE = 0.0",
        "tests/test_prediction.py",
        "nearly_equal",
    ),
    Mutant(
        "predict does not see a hook",
        "engines/prediction.py",
        "module._forward_hooks or module._forward_pre_hooks",
        "module._forward_hooks",
        "tests/test_prediction.py",
        "policy_of_now",
    ),
    Mutant(
        "predict does not see a replaced method",
        "engines/prediction.py",
        " or not vars(policy).keys().isdisjoint(_METHODS)",
        "",
        "tests/test_prediction.py",
        "policy_of_now",
    ),
    Mutant(
        "predict returns what is not a number",
        "engines/prediction.py",
        "    if not is_finite(outputs):",
        "    if False:",
        "tests/test_prediction.py",
        "meets_sb3s_answer",
    ),
    Mutant(
        "a baseline's rollout is that of earlier parameters",
        "engines/baseline_rollouts.py",
        "        self._kernels.read_parameters()",
        "        pass",
        "tests/test_baseline_rollouts.py",
        "beginning_count",
    ),
    Mutant(
        "a baseline's rollout moves its memory",
        "engines/baseline_rollouts.py",
        "        self._kernels.read_parameters()",
        "        self._kernels.bind()",
        "tests/test_baseline_rollouts.py",
        "leaves_memory",
    ),
    # The kernels in C
    Mutant(
        "a saturated tanh in C is not quite one",
        "native/kernels.c",
        "select_lanes(beyond > 0.0f, far, c * p / q)",
        "c * p / q",
        "tests/test_kernels.py",
        "tanh_is_one",
    ),
    Mutant(
        "log(1 + t) in C rounds small t away",
        "native/kernels.c",
        "select_lanes(u == 1.0f, t, log_of(u) * t / (u - 1.0f))",
        "log_of(u)",
        "tests/test_kernels.py",
        "hardly_ever",
    ),
    Mutant(
        "the KL of coins in C pulls away from the old policy",
        "native/kernels.c",
        "slopes.kl * (p - old_probs[k])",
        "slopes.kl * (old_probs[k] - p)",
        "tests/test_kernels.py",
        "those_of_autograd",
    ),
    Mutant(
        "the KL of choices in C forgets the old policy",
        "native/kernels.c",
        "slopes.kl * (probs[k] - old_probs[k])",
        "slopes.kl * probs[k]",
        "tests/test_kernels.py",
        "those_of_autograd",
    ),
    Mutant(
        "a study that is taken up again forgets the configurations of then",
        "tuning/study/study_file.py",
        "registered = self.registered_configurations.get(algorithm, {}).get(env_id)",
        "registered = None",
        "tests/tuning/test_tuning_kept.py",
        "brings_its_registered",
    ),
    Mutant(
        "merged studies keep the configurations of the first alone",
        "tuning/compare.py",
        "registered[name] = {**registered.get(name, {}), **entries}",
        "registered.setdefault(name, {} if registered else entries)",
        "tests/tuning/test_tuning_kept.py",
        "are_merged",
    ),
    # The documentation
    Mutant(
        "the page names a family's first without those that it is not separable from",
        "docs/sitegen/published.py",
        "close = [line.algorithm for line in others if not (line.behind and line.behind.excludes(0.0))]",
        "close: list[str] = []",
        "tests/docs/test_docs_published.py",
        "sentence",
    ),
    Mutant(
        "who did not run is ranked by the floor",
        "docs/sitegen/published.py",
        'scored = {line["algorithm"]: line for line in tested if line["algorithm"] not in not_run}',
        'scored = {line["algorithm"]: line for line in tested}',
        "tests/docs/test_docs_published.py",
        "did_not_run",
    ),
    Mutant(
        "the picture forgets the penalty",
        "docs/sitegen/pictures.py",
        "total = objective if penalty is None else objective - penalty",
        "total = objective",
        "tests/docs/test_docs_generated.py",
        "penalty_is_in_the_picture",
    ),
    Mutant(
        "a page loses a paragraph of the docstring",
        "docs/sitegen/docstrings.py",
        "            getattr(parts, rest).append(paragraph)",
        "            getattr(parts, rest)[:] = [paragraph]",
        "tests/docs/test_docs_generated.py",
        "nothing_of_a_docstring",
    ),
    Mutant(
        "every space is called usable",
        "docs/sitegen/usable.py",
        'return "yes" if is_usable else "no"',
        'return "yes"',
        "tests/docs/test_docs_generated.py",
        "found_by_trying",
    ),
    Mutant(
        "the page lacks messages of errors that are made in one place and raised in another",
        "docs/sitegen/messages.py",
        "if call is node and not _ERROR.fullmatch(error):",
        "if call is node:",
        "tests/docs/test_docs_messages.py",
        "made_in_one_place",
    ),
    Mutant(
        "a message on the page shows code where a value stands",
        "docs/sitegen/messages.py",
        "_words(part) if isinstance(part, ast.Constant) else _GAP",
        "_words(part) if isinstance(part, ast.Constant) else ast.unparse(part)",
        "tests/docs/test_docs_messages.py",
        "values_are_left_out",
    ),
    Mutant(
        "keys of nested models are not explained",
        "docs/sitegen/study_keys.py",
        "            yield from _models(inner, ",
        "            _models(inner, ",
        "tests/docs/test_docs_generated.py",
        "study_file",
    ),
]


def source_of(mutant: Mutant) -> Path:
    """Return the file that is to be broken: setuptools maps ``tuning`` into the package."""
    beside = mutant.is_beside or mutant.file.startswith("tuning/")
    return (ROOT if beside else ROOT / "sb3_ppo_variants") / mutant.file


def copy_package(target: Path) -> None:
    """Copy the package as it is installed, its tests and their settings."""
    unwanted = shutil.ignore_patterns("__pycache__", "slow")
    package = target / "sb3_ppo_variants"
    shutil.copytree(ROOT / "sb3_ppo_variants", package, ignore=unwanted)
    for name in ("tuning", "zoo_configs"):  # setuptools maps them into the package
        shutil.copytree(ROOT / name, package / name, ignore=unwanted)
    shutil.copytree(ROOT / "tests", target / "tests", ignore=unwanted)
    shutil.copytree(ROOT / "native", target / "native", ignore=unwanted)
    shutil.copytree(ROOT / "docs", target / "docs", ignore=shutil.ignore_patterns("__pycache__", "_build"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):  # what building the extension reads
        shutil.copy(ROOT / name, target)


def apply(mutant: Mutant, target: Path) -> None:
    """Break the copy.

    :raises ValueError: if the text is not there exactly once: the list must follow the code
    """
    path = (target if mutant.is_beside else target / "sb3_ppo_variants") / mutant.file
    text = path.read_text("utf-8")
    if text.count(mutant.source) != 1:
        raise ValueError(f"{mutant.file} has the text of {mutant.fault!r} {text.count(mutant.source)} times, not once.")
    path.write_text(text.replace(mutant.source, mutant.replacement), "utf-8")


def build_extension(target: Path) -> None:
    """Build the C extension of a copy, in the copy.

    :raises RuntimeError: if it does not compile
    """
    built = target / "sb3_ppo_variants" / "_kernels.abi3.so"
    built.unlink(missing_ok=True)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    result = subprocess.run(command, cwd=target, capture_output=True, text=True, check=False)
    if not built.exists():  # an extension that is optional may fail without a word
        raise RuntimeError(f"The extension does not compile.\n{result.stdout}{result.stderr}")


def run_tests(target: Path, tests: str, select: str) -> subprocess.CompletedProcess[str]:
    """Run tests on a copy, which comes before the installed package in Python's search order."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", tests]
    environment = os.environ | {"PYTHONPATH": str(target), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*command, "-k", select], cwd=target, env=environment, capture_output=True, text=True, check=False
    )


def outcome(mutant: Mutant) -> str:
    """Return "killed", or what else happened."""
    with tempfile.TemporaryDirectory() as name:
        target = Path(name)
        copy_package(target)
        apply(mutant, target)
        if mutant.is_native:
            build_extension(target)
        result = run_tests(target, mutant.tests, mutant.select)
    # pytest's exit codes: 0 all passed, 1 some failed, others: nothing ran
    return {0: "SURVIVED", 1: "killed"}.get(result.returncode, f"NOT RUN\n{result.stdout}{result.stderr}")


def failure_without_a_mutant(tests: str, mutants: list[Mutant]) -> str:
    """Run what the mutants of one file of tests run, on a copy without a fault; return pytest's words if it fails."""
    selections = [mutant.select for mutant in mutants if mutant.tests == tests]
    select = " or ".join(f"({select})" for select in selections) if all(selections) else ""
    with tempfile.TemporaryDirectory() as name:
        target = Path(name)
        copy_package(target)
        where = "import sb3_ppo_variants; print(sb3_ppo_variants.__file__)"
        environment = os.environ | {"PYTHONPATH": str(target)}
        found = subprocess.run(
            [sys.executable, "-c", where], cwd=target, env=environment, capture_output=True, text=True, check=True
        )
        assert Path(found.stdout.strip()).is_relative_to(target), "the copy is not what Python imports"
        result = run_tests(target, tests, select)
    return "" if result.returncode == 0 else result.stdout + result.stderr


def main() -> int:
    """Run all mutants, or those whose fault contains the word given; return the number that no test noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("word", nargs="?", default="", help="only mutants whose fault contains this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    mutants = [mutant for mutant in MUTANTS if arguments.word in mutant.fault]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        files = sorted({mutant.tests for mutant in mutants})
        failures = [words for words in pool.map(lambda tests: failure_without_a_mutant(tests, mutants), files) if words]
        if failures:
            print(*failures, "These tests fail without a mutant: repair them first.", sep="\n")
            return len(failures)
        survivors = 0
        for mutant, result in zip(mutants, pool.map(outcome, mutants), strict=True):
            print(f"{result:8}  {mutant.file}: {mutant.fault}", flush=True)
            survivors += result != "killed"
    print(f"{len(mutants) - survivors} of {len(mutants)} mutants killed.")
    return survivors


if __name__ == "__main__":
    sys.exit(main())
