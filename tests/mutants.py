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
    :param file: path below ``sb3_ppo_variants``
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


MUTANTS = [
    # Objectives
    Mutant(
        "the clip takes the larger term",
        "training/losses.py",
        "return th.min(advantages * ratio, advantages * th.clamp(ratio, 1 - clip_low, 1 + clip_high))",
        "return th.max(advantages * ratio, advantages * th.clamp(ratio, 1 - clip_low, 1 + clip_high))",
        "tests/test_losses.py",
        "golden_slopes",
    ),
    Mutant(
        "there is no clip",
        "training/losses.py",
        "return th.min(advantages * ratio, advantages * th.clamp(ratio, 1 - clip_low, 1 + clip_high))",
        "return advantages * ratio",
        "tests/test_losses.py",
        "golden_slopes",
    ),
    Mutant(
        "the engine's clip cuts the inside too",
        "training/losses.py",
        "return np.where(unclipped <= clipped, unclipped, 0.0)",
        "return np.where(unclipped < clipped, unclipped, 0.0)",
        "tests/test_losses.py",
        "autograds_gradient",
    ),
    Mutant(
        "dual clip bounds nothing",
        "training/losses.py",
        "return th.where(advantages < 0, th.max(surrogate, bound * advantages), surrogate)",
        "return surrogate",
        "tests/test_losses.py",
        "golden_slopes",
    ),
    Mutant(
        "the value loss without its clip",
        "training/losses.py",
        "return th.max((returns - values) ** 2, (returns - clipped) ** 2).mean()",
        "return th.min((returns - values) ** 2, (returns - clipped) ** 2).mean()",
        "tests/test_losses.py",
        "value",
    ),
    Mutant(
        "bounds per sample lose the lower one",
        "training/losses.py",
        "advantages * th.clamp(ratio, lower, upper))",
        "advantages * th.clamp(ratio, max=upper))",
        "tests/test_losses.py",
        "autograds_gradient",
    ),
    Mutant(
        "SPO's penalty turns into a reward for bad actions",
        "training/losses.py",
        "advantages.abs() * (ratio - 1) ** 2",
        "advantages * (ratio - 1) ** 2",
        "tests/test_losses.py",
        "golden_slopes",
    ),
    Mutant(
        "the rollback is forgotten",
        "training/losses.py",
        "th.where(advantages * (ratio - kink) > 0, rolled_back, ratio)",
        "th.where(advantages * (ratio - kink) > 0, kink, ratio)",
        "tests/test_losses.py",
        "golden_slopes",
    ),
    Mutant(
        "the rollback starts on the wrong side",
        "training/losses.py",
        "kink = 1 + epsilon * advantages.sign()",
        "kink = 1 - epsilon * advantages.sign()",
        "tests/test_losses.py",
        "golden_slopes",
    ),
    Mutant(
        "TR-PPO's triggered samples keep their gradient",
        "training/losses.py",
        "th.where(triggered, surrogate.detach(), surrogate)",
        "surrogate",
        "tests/test_losses.py",
        "autograds_gradient",
    ),
    Mutant(
        "the KL trigger does not ask for a gain",
        "training/losses.py",
        "return (kl >= kl_delta) & (ratio * advantages > advantages)",
        "return kl >= kl_delta",
        "tests/test_losses.py",
        "trigger",
    ),
    Mutant(
        "the KL trigger fires below the limit",
        "training/losses.py",
        "return (kl >= kl_delta) & (ratio * advantages > advantages)",
        "return (kl < kl_delta) & (ratio * advantages > advantages)",
        "tests/test_losses.py",
        "trigger",
    ),
    Mutant(
        "the discovered drift is not cut at zero",
        "training/losses.py",
        "F.relu(good - alpha * th.tanh(good / alpha))",
        "good - alpha * th.tanh(good / alpha)",
        "tests/test_losses.py",
        "autograds_gradient",
    ),
    Mutant(
        "the discovered drift takes good actions for bad ones",
        "training/losses.py",
        "    drift = th.where(\n        advantages >= 0,",
        "    drift = th.where(\n        advantages < 0,",
        "tests/test_losses.py",
        "golden_slopes",
    ),
    # Divergences
    Mutant(
        "KL(new||old) in place of KL(old||new)",
        "training/divergences.py",
        "sb3_kl_divergence(old, new)",
        "sb3_kl_divergence(new, old)",
        "tests/test_divergences.py",
    ),
    Mutant(
        "the KL is that of one dimension",
        "training/divergences.py",
        "per_dimension.reshape(per_dimension.shape[0], -1).sum(dim=1)",
        "per_dimension.reshape(per_dimension.shape[0], -1).mean(dim=1)",
        "tests/test_divergences.py",
    ),
    Mutant(
        "k3 with the wrong sign",
        "training/divergences.py",
        "(ratio - 1) - log_ratio",
        "(ratio - 1) + log_ratio",
        "tests/test_divergences.py",
    ),
    # Controllers
    Mutant(
        "a KL of zero raises the learning rate",
        "training/controllers.py",
        "elif 0 < kl < desired_kl / band:",
        "elif kl < desired_kl / band:",
        "tests/test_controllers.py",
        "learning_rate_rule",
    ),
    Mutant(
        "the learning rate has no upper bound",
        "training/controllers.py",
        "return min(max(value, low), high)",
        "return max(value, low)",
        "tests/test_controllers.py",
    ),
    Mutant(
        "the penalty can vanish",
        "training/controllers.py",
        "return min(max(coef, low), high)",
        "return min(coef, high)",
        "tests/test_controllers.py",
    ),
    Mutant(
        "the penalty falls where it should rise",
        "training/controllers.py",
        "coef = coef * factor",
        "coef = coef / factor",
        "tests/test_controllers.py",
    ),
    # Clip bounds
    Mutant(
        "bounds of several dimensions are those of one",
        "training/clip_bounds.py",
        "np.exp(dimensions * np.interp(",
        "np.exp(np.interp(",
        "tests/test_clip_bounds.py",
        "share_the_budget or mean_action",
    ),
    Mutant(
        "the mean moves to the wrong side of the action",
        "training/clip_bounds.py",
        "_largest(lambda a, t: log_ratio(a, t, +1))",
        "_largest(lambda a, t: log_ratio(a, t, -1))",
        "tests/test_clip_bounds.py",
        "direct_optimisation",
    ),
    Mutant(
        "the upper bound is the lower one turned over",
        "training/clip_bounds.py",
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
        "conforms and adaptive_clip",
    ),
    Mutant(
        "the stop on KL fires below its limit",
        "variants/kl_stop_ppo.py",
        "if stats.minibatch_kl > self.max_kl:",
        "if stats.minibatch_kl < self.max_kl:",
        "tests/test_parity.py",
        "kl_stop_at_minibatch and discrete",
    ),
    Mutant(
        "the trust region accepts every update",
        "variants/trust_region_ppo.py",
        "return measurement.kl <= self.max_kl * (1 - _ROUNDING_MARGIN) and measurement.surrogate_gain >= 0",
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
        "if deviation > self.max_ratio_deviation:",
        "if deviation < self.max_ratio_deviation:",
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
        "if self.rpo_alpha == 0:",
        "if self.rpo_alpha < 0:",
        "tests/test_variants_rpo.py",
        "draws_nothing and box",
    ),
    Mutant(
        "RPO shifts to one side only",
        "variants/rpo.py",
        "uniform_(-self.rpo_alpha, self.rpo_alpha)",
        "uniform_(0, self.rpo_alpha)",
        "tests/test_variants_rpo.py",
        "uniform",
    ),
]


def copy_package(target: Path) -> None:
    """Copy the package as it is installed, its tests and their settings."""
    unwanted = shutil.ignore_patterns("__pycache__", "slow")
    package = target / "sb3_ppo_variants"
    shutil.copytree(ROOT / "sb3_ppo_variants", package, ignore=unwanted)
    for name in ("tuning", "zoo_configs"):  # setuptools maps them into the package
        shutil.copytree(ROOT / name, package / name, ignore=unwanted)
    shutil.copytree(ROOT / "tests", target / "tests", ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", target)


def apply(mutant: Mutant, target: Path) -> None:
    """Break the copy.

    :raises ValueError: if the text is not there exactly once: the list must follow the code
    """
    path = target / "sb3_ppo_variants" / mutant.file
    text = path.read_text("utf-8")
    if text.count(mutant.source) != 1:
        raise ValueError(f"{mutant.file} has the text of {mutant.fault!r} {text.count(mutant.source)} times, not once.")
    path.write_text(text.replace(mutant.source, mutant.replacement), "utf-8")


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
        outcomes = list(pool.map(outcome, mutants))
    for mutant, result in zip(mutants, outcomes, strict=True):
        print(f"{result:8}  {mutant.file}: {mutant.fault}")
    survivors = sum(result != "killed" for result in outcomes)
    print(f"{len(mutants) - survivors} of {len(mutants)} mutants killed.")
    return survivors


if __name__ == "__main__":
    sys.exit(main())
