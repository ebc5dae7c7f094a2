"""All checks, and how they are run."""

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import torch as th

from sb3_ppo_variants.testing.checks import (
    construction,
    environments,
    non_finite,
    reproducibility,
    saving,
    schedules,
    training,
)
from sb3_ppo_variants.testing.variant import NotApplicable, Variant
from sb3_ppo_variants.training.update_loop import UpdateLoop

Check: TypeAlias = Callable[[Variant], None]

CHECKS: tuple[Check, ...] = (
    construction.check_constructor_arguments,
    construction.check_search_space,
    construction.check_activation_by_name,
    environments.check_box_actions,
    environments.check_discrete_actions,
    environments.check_multi_discrete_actions,
    environments.check_multi_binary_actions,
    environments.check_state_dependent_noise,
    environments.check_image_observations,
    environments.check_dict_observations,
    environments.check_several_environments,
    environments.check_last_minibatch_of_one_sample,
    environments.check_vec_normalize,
    environments.check_evaluate_policy,
    schedules.check_schedules,
    saving.check_save_and_load,
    saving.check_get_and_set_parameters,
    saving.check_custom_objects,
    saving.check_saved_file_holds_nothing_big,
    reproducibility.check_same_seed,
    reproducibility.check_first_rollout_is_the_baselines,
    reproducibility.check_measuring_draws_no_random_number,
    training.check_log_keys,
    training.check_callbacks,
    training.check_progress_bar,
    training.check_tensorboard,
    training.check_target_kl,
    non_finite.check_non_finite_observation,
    non_finite.check_non_finite_reward,
    non_finite.check_non_finite_advantage,
    non_finite.check_non_finite_gradient,
)
"""Every check, in the order in which :func:`check_variant` runs them."""


def check_variant(cls: type[UpdateLoop], **constructor_kwargs: Any) -> list[str]:
    """Run every check of :data:`CHECKS` on a variant.

    A check that the class cannot take part in, because an engine given in ``constructor_kwargs`` refuses its model or
    an optional package is missing, is left out and reported.

    :param cls: the class: a mixin on :class:`UpdateLoop` in front of SB3's PPO, MaskablePPO or RecurrentPPO
    :param constructor_kwargs: arguments for every construction of the class
    :return: the checks left out, each with its reason
    :raises ValueError: if ``cls`` is no such class
    :raises AssertionError: naming the class, and every failed check with its reason
    """
    variant = Variant(cls, constructor_kwargs)
    failures: list[tuple[str, Exception]] = []
    left_out = []
    for check in CHECKS:
        try:
            run_check(check, variant)
        except NotApplicable as reason:
            left_out.append(f"{check.__name__}: {reason}")
        except Exception as error:  # whatever the class raises is a failure to report
            failures.append((check.__name__, error))
    if failures:
        lines = [f"  {name}: {type(error).__name__}: {error}" for name, error in failures]
        summary = f"{cls.__name__} fails {len(failures)} of {len(CHECKS)} checks:"
        raise AssertionError("\n".join([summary, *lines])) from failures[0][1]
    return left_out


def run_check(check: Check, variant: Variant) -> None:
    """Run one check on one torch thread, without SB3's advice on batch sizes.

    :param check: one of :data:`CHECKS`
    :param variant: the class; checks of the same variant share what they only look at
    :raises AssertionError: naming the class and the check
    :raises NotApplicable: if the check cannot be made; pytest counts it as skipped
    """
    threads = th.get_num_threads()
    th.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            check(variant)
    except AssertionError as error:
        raise AssertionError(f"{variant.cls.__name__}, {check.__name__}: {error}") from error
    finally:
        th.set_num_threads(threads)
