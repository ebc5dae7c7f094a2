"""The public conformance suite passes on every shipped class, and fails on broken ones with a message to act on."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import contract_of, differing, mostly_slow, tensors_of
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger

from sb3_ppo_variants import (
    AdaptiveClipPPO,
    ClipPPO,
    NonFiniteUpdateError,
    TrustRegionPPO,
    UpdateLoop,
)
from sb3_ppo_variants.registry import VARIANTS
from sb3_ppo_variants.search_space import FloatRange
from sb3_ppo_variants.testing import (
    BOX,
    CHECKS,
    DISCRETE,
    MULTI_BINARY,
    MULTI_DISCRETE,
    NotApplicable,
    Variant,
    VariantContract,
    check_variant,
    run_check,
)
from sb3_ppo_variants.training.checks import check_number
from sb3_ppo_variants.training.schedules import Range

# With every check: one of which nothing is measured, and one whose updates are undone
_WHOLE = (ClipPPO, TrustRegionPPO)
# The others with those that look at what a variant adds; with these, which look at the loop, among the slow tests
_OF_THE_LOOP = [
    "image_observations", "dict_observations", "several_environments", "vec_normalize", "evaluate_policy",
    "get_and_set_parameters", "custom_objects", "saved_file_holds_nothing_big", "first_rollout_is_the_baselines",
    "callbacks", "progress_bar", "tensorboard", "non_finite_observation", "non_finite_reward", "non_finite_advantage",
    "non_finite_gradient", "activation_by_name",
]  # fmt: skip


# TestClipPPO, TestAdaptiveClipPPO, ...: each check is a test of its own
for _variant in VARIANTS.values():
    _repeated = [] if _variant.cls in _WHOLE else _OF_THE_LOOP
    globals()[f"Test{_variant.cls.__name__}"] = contract_of(_variant.cls, _repeated)


@pytest.mark.parametrize("algorithm_id", list(VARIANTS))
def test_only_rpo_refuses_an_action_space(algorithm_id: str) -> None:
    everything = [DISCRETE, BOX, MULTI_DISCRETE, MULTI_BINARY]
    assert Variant(VARIANTS[algorithm_id].cls).accepted == ([BOX] if algorithm_id == "rpo" else everything)


@pytest.mark.parametrize("algorithm_id", mostly_slow(VARIANTS, ["clip_ppo", "kl_penalty_ppo", "rpo", "trgppo"]))
def test_state_dependent_noise_is_refused_by_none_and_squashing_where_a_gaussian_is_needed(algorithm_id: str) -> None:
    variant = Variant(VARIANTS[algorithm_id].cls)
    assert variant.make(actions=BOX, use_sde=True).use_sde
    squashed: dict[str, Any] = {"actions": BOX, "use_sde": True, "policy_kwargs": {"squash_output": True}}
    if algorithm_id in ("rpo", "trgppo"):
        with pytest.raises(ValueError, match=r"use (ClipPPO|TrulyPPO).*squash_output"):
            variant.make(**squashed)
    else:
        variant.make(**squashed).learn(64)


# Those that train what all share, or a copy of it, are among the rest
_REPEATED = [name for name in _OF_THE_LOOP if not name.startswith("non_finite")]


@pytest.mark.parametrize("left_out", mostly_slow([[], _REPEATED], [_REPEATED]), ids=["nothing", "of the loop"])
def test_a_third_party_variant_conforms(left_out: list[str]) -> None:
    class Pessimistic(UpdateLoop):
        def __init__(self, policy: Any, env: Any, *, weight: float = 0.5, **kwargs: Any) -> None:
            check_number("weight", weight, at_least=0)
            self.weight = weight
            super().__init__(policy, env, **kwargs)

        def _surrogate(self, batch: Any) -> th.Tensor:
            return super()._surrogate(batch) - self.weight * (batch.ratio - 1) ** 2

    class PessimisticPPO(Pessimistic, PPO):
        pass

    pessimistic, other = Variant(PessimisticPPO, {"weight": 0.1}), Variant(PessimisticPPO, {"weight": 0.1})
    for check in CHECKS:
        if check.__name__.removeprefix("check_") not in left_out:
            run_check(check, pessimistic)
    # The model that the checks share is as it was before them
    assert differing(tensors_of(pessimistic.trained()), tensors_of(other.trained())) == []
    assert pessimistic.trained().num_timesteps == other.trained().num_timesteps


# Broken variants, one for each way in which the suite must say no -----------------------------------------------------


class NoDefault(ClipPPO):
    def __init__(self, policy: Any, env: Any, *, weight: float, **kwargs: Any) -> None:
        self.weight = weight
        super().__init__(policy, env, **kwargs)


class ChangesItsArgument(ClipPPO):
    def __init__(self, policy: Any, env: Any, *, weight: float = 0.5, **kwargs: Any) -> None:
        self.weight = 2 * weight
        super().__init__(policy, env, **kwargs)


class ForgetsItsArgument(ClipPPO):
    def __init__(self, policy: Any, env: Any, *, weight: float = 0.5, **kwargs: Any) -> None:
        super().__init__(policy, env, **kwargs)


class Weighted(ClipPPO):
    schedulable = {"weight": Range(at_least=0)}  # noqa: RUF012

    def __init__(self, policy: Any, env: Any, *, weight: Any = 0.5, **kwargs: Any) -> None:
        self.weight = weight
        super().__init__(policy, env, **kwargs)

    def _surrogate(self, batch: Any) -> th.Tensor:
        return self.now() * super()._surrogate(batch)

    def now(self) -> float:
        return self._current("weight")


class NeverLooksAtItsSchedule(Weighted):
    def now(self) -> float:
        return self.weight(1.0) if callable(self.weight) else self.weight


class TakesTheScheduleForANumber(Weighted):
    def now(self) -> float:
        return self.weight


class LogsNoSchedule(Weighted):
    def train(self) -> None:
        super().train()
        self.logger.record("train/weight", 0.1)


class SearchesTheUnknown(ClipPPO):
    own_search_space = {"weight": FloatRange(0.0, 1.0)}  # noqa: RUF012


class RefusesWithoutAdvice(ClipPPO):
    def __init__(self, policy: Any, env: Any, **kwargs: Any) -> None:
        super().__init__(policy, env, **kwargs)
        if isinstance(self.action_space, spaces.MultiBinary):
            raise ValueError("MultiBinary actions are not possible.")


class ForgetsAdaptedState(AdaptiveClipPPO):
    def _setup_model(self) -> None:
        super()._setup_model()
        self.adapted_clip_range = 0.2


class LeavesAdaptedStateOutOfTheFile(AdaptiveClipPPO):
    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "adapted_clip_range"]


class KeepsThePolicyInTheFile(ClipPPO):
    def _after_update(self, measurement: Any) -> Any:
        self.old = {name: tensor.clone() for name, tensor in self.policy.state_dict().items()}
        return measurement


class DrawsWhileMeasuring(ClipPPO):
    def _measure_rollout(self) -> Any:
        np.random.permutation(8)
        return super()._measure_rollout()


class DrawsWhileCollecting(ClipPPO):
    def collect_rollouts(self, *arguments: Any, **kwargs: Any) -> bool:
        th.rand(1)
        return super().collect_rollouts(*arguments, **kwargs)


class IgnoresTheSeed(ClipPPO):
    def _after_update(self, measurement: Any) -> Any:
        with th.no_grad():
            self.policy.action_net.bias += float(np.random.default_rng().normal())
        return measurement


class LearnsFromNaN(ClipPPO):
    def train(self) -> None:
        with contextlib.suppress(NonFiniteUpdateError):
            super().train()


class FailsOnOneKindOfAction(ClipPPO):
    """Whatever the observations."""

    def _surrogate(self, batch: Any) -> th.Tensor:
        surrogate = super()._surrogate(batch)
        return surrogate * float("nan") if isinstance(self.action_space, spaces.MultiBinary) else surrogate


class StopsLate(ClipPPO):
    def _should_stop(self, point: Any, stats: Any) -> str | None:
        return None


class LogsNothing(ClipPPO):
    def train(self) -> None:
        logger = self.logger
        self.set_logger(Logger(None, []))
        super().train()
        self.set_logger(logger)


class NormalisesOneSample(ClipPPO):
    def _normalised(self, advantages: th.Tensor) -> th.Tensor:
        return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


class WritesItsOwnLearn(ClipPPO):
    def learn(self, total_timesteps: int, **kwargs: Any) -> Any:
        return super().learn(total_timesteps, **(kwargs | {"tb_log_name": "run", "callback": None}))


# The others, which use the same list of action spaces, with the slow tests
_ON_EVERY_SPACE = ("check_multi_binary_actions", "check_dict_observations", "check_save_and_load")


@pytest.mark.parametrize(
    ("cls", "check", "message"),
    mostly_slow(
        [
            (NoDefault, "check_constructor_arguments", "weight"),
            (ChangesItsArgument, "check_constructor_arguments", "weight=0.5 is stored as 1.0"),
            (ForgetsItsArgument, "check_constructor_arguments", "weight is not stored"),
            (SearchesTheUnknown, "check_search_space", "weight"),
            (RefusesWithoutAdvice, "check_multi_binary_actions", "names no alternative"),
            (ForgetsAdaptedState, "check_save_and_load", "adapted_clip_range"),
            (LeavesAdaptedStateOutOfTheFile, "check_save_and_load", "adapted_clip_range|after training on"),
            (KeepsThePolicyInTheFile, "check_saved_file_holds_nothing_big", "bytes"),
            (DrawsWhileMeasuring, "check_measuring_draws_no_random_number", "draws random numbers"),
            (DrawsWhileCollecting, "check_first_rollout_is_the_baselines", "actions"),
            (IgnoresTheSeed, "check_same_seed", "of the same seed"),
            (LearnsFromNaN, "check_non_finite_reward", "reward"),
            (LearnsFromNaN, "check_non_finite_advantage", "advantage"),
            (LearnsFromNaN, "check_non_finite_gradient", "gradient"),
            (FailsOnOneKindOfAction, "check_multi_binary_actions", "loss"),
            (FailsOnOneKindOfAction, "check_image_observations", "loss"),
            (FailsOnOneKindOfAction, "check_dict_observations", "loss"),
            (FailsOnOneKindOfAction, "check_several_environments", "loss"),
            (FailsOnOneKindOfAction, "check_last_minibatch_of_one_sample", "loss"),
            (FailsOnOneKindOfAction, "check_vec_normalize", "loss"),
            (FailsOnOneKindOfAction, "check_save_and_load", "loss"),
            (StopsLate, "check_target_kl", "target_kl"),
            (NeverLooksAtItsSchedule, "check_schedules", "with schedules, and with their numbers set"),
            (TakesTheScheduleForANumber, "check_schedules", "LinearSchedule"),
            (LogsNoSchedule, "check_schedules", "train/weight is not what"),
            (LogsNothing, "check_log_keys", "approx_kl"),
            (NormalisesOneSample, "check_last_minibatch_of_one_sample", "Non-finite"),
            (WritesItsOwnLearn, "check_tensorboard", "run_1"),
            (WritesItsOwnLearn, "check_callbacks", "on_step"),
        ],
        lambda case: case[0] is not FailsOnOneKindOfAction or case[1] in _ON_EVERY_SPACE,
    ),
)
def test_a_broken_variant_is_named(cls: type[UpdateLoop], check: str, message: str) -> None:
    (function,) = [one for one in CHECKS if one.__name__ == check]
    with pytest.raises(Exception, match=message):
        run_check(function, Variant(cls))


def test_the_report_names_class_and_every_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"check_target_kl", "check_log_keys", "check_discrete_actions"}
    monkeypatch.setattr("sb3_ppo_variants.testing.suite.CHECKS", [one for one in CHECKS if one.__name__ in wanted])
    with pytest.raises(AssertionError, match=r"(?s)StopsLate fails 1 of 3 checks:\n  check_target_kl: .*early"):
        check_variant(StopsLate)


def test_an_ineligible_engine_is_left_out_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class OneEngine(ClipPPO):
        def __init__(self, policy: Any, env: Any, *, engine: str = "torch", **kwargs: Any) -> None:
            if engine == "numpy" and policy == "CnnPolicy":
                raise ValueError("engine='numpy' runs MLP policies only: use engine='torch'.")
            super().__init__(policy, env, **kwargs)

    wanted = [one for one in CHECKS if one.__name__ in ("check_image_observations", "check_log_keys")]
    monkeypatch.setattr("sb3_ppo_variants.testing.suite.CHECKS", wanted)
    (left_out,) = check_variant(OneEngine, engine="numpy")
    assert left_out.startswith("check_image_observations: engine='numpy'")
    with pytest.raises(NotApplicable):
        run_check(wanted[0], Variant(OneEngine, {"engine": "numpy"}))


# The contract class ---------------------------------------------------------------------------------------------------


class StopsLateContract(VariantContract):
    variant = StopsLate


class SmallStepContract(VariantContract):
    variant = ClipPPO
    constructor_kwargs = {"target_kl": 1e-9, "engine": "numpy"}  # noqa: RUF012


@pytest.fixture
def contract(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A contract class as pytest holds it while its tests run."""
    request.param.setup_class()
    yield request.param()
    request.param.teardown_class()


def test_the_contract_has_one_test_for_each_check() -> None:
    tests = [name for name in dir(VariantContract) if name.startswith("test_")]
    assert sorted(tests) == sorted(check.__name__.replace("check_", "test_") for check in CHECKS)
    assert VariantContract.test_save_and_load.__doc__ == next(
        check.__doc__ for check in CHECKS if check.__name__ == "check_save_and_load"
    )


@pytest.mark.parametrize("contract", [StopsLateContract], indirect=True)
def test_a_broken_variant_fails_the_test_of_that_name_and_no_other(contract: Any) -> None:
    contract.test_discrete_actions()
    with pytest.raises(AssertionError, match=r"StopsLate, check_target_kl: .*early"):
        contract.test_target_kl()


@pytest.mark.parametrize("contract", [SmallStepContract], indirect=True)
def test_the_contract_hands_its_arguments_to_every_construction_and_skips_what_they_rule_out(contract: Any) -> None:
    contract.test_callbacks()
    assert contract._under_test.trained().target_kl == 1e-9
    with pytest.raises(SkipTest, match="engine='numpy'"):
        contract.test_image_observations()


def test_a_contract_without_a_variant_or_with_another_class_says_so() -> None:
    with pytest.raises(ValueError, match=r"Nothing does not say .* variant = YourPPO"):
        type("Nothing", (VariantContract,), {}).setup_class()
    for cls in (PPO, UpdateLoop, "ClipPPO"):
        with pytest.raises(ValueError, match=r"is no variant: give a class"):
            type("Wrong", (VariantContract,), {"variant": cls}).setup_class()
