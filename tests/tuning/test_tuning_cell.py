"""Cells: stable keys, pure runs, honest failures."""

import math
import pickle
import re
import time

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from helpers import mostly_slow
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sb3_ppo_variants.tuning.runs import cell as cell_module
from sb3_ppo_variants.tuning.runs.cell import Cell, CellResult, Evaluation, canonical_json, package_versions, run_cell
from tuning_helpers import make_cell, make_result

texts = st.text(alphabet='aZ0 \\"\n\x00\u00e9\u2603\U0001f600', max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(texts, children, max_size=3),
    max_leaves=8,
)


class OddEnv(gymnasium.Env[np.ndarray, int]):
    """Three steps; reward, or what happens in a step, as given."""

    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space = spaces.Discrete(2)

    def __init__(self, reward: float | str = 1.0, error: str = "") -> None:
        self.reward = float(reward)
        self.error = error
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.sample() * 0.0, {}

    def step(self, action: int):
        if self.error:
            raise RuntimeError(self.error)
        self.steps += 1
        return np.zeros(2, np.float32), self.reward, self.steps >= 3, False, {}


gymnasium.register("Odd-v0", entry_point=OddEnv)


def odd_cell(**env_kwargs: object) -> Cell:
    return make_cell(environment="Odd-v0", entry={**make_cell().entry, "env_kwargs": env_kwargs})


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("clip_ppo", "9c4a9c09fef91a7a131f6ed3695e122fe6fd54ce49ce659f936a09bb2e4aa31a"),
        ("ppo", "1dd5cef32b5cd8073665c4ac7603703ffa9df7b7d9c4d60c36f9a5a87472a120"),
        ("trpo", "6881fbeb3ef82e7db3c4ec9810693c3dd92c309a40b4eec18ea8d93a60458dfb"),
    ],
)
def test_key_of_a_cell_is_the_same_for_ever(algorithm: str, key: str) -> None:
    assert make_cell(algorithm=algorithm).key == key


def test_key_does_not_depend_on_the_order_in_which_an_entry_is_written() -> None:
    entry = make_cell().entry
    assert make_cell(entry=dict(reversed(entry.items()))).key == make_cell().key


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "trpo"},
        {"environment": "Acrobot-v1"},
        {"entry": {"policy": "MlpPolicy"}},
        {"seed": 2048},
        {"steps": 1024},
        {"evaluation": Evaluation(seed=8192, episodes=3, checkpoints=1)},
        {"evaluation": Evaluation(seed=4096, episodes=4, checkpoints=1)},
        {"evaluation": Evaluation(seed=4096, episodes=3, checkpoints=2)},
    ],
)
def test_whatever_decides_the_outcome_changes_the_key(change: dict[str, object]) -> None:
    assert make_cell(**change).key != make_cell().key


@given(st.dictionaries(texts, json_values, max_size=4))
@settings(max_examples=25, deadline=None)
def test_a_cell_read_back_from_json_has_the_same_key(entry: dict[str, object]) -> None:
    cell = make_cell(entry=entry)
    assert Cell.model_validate_json(cell.model_dump_json()).key == cell.key
    assert pickle.loads(pickle.dumps(cell)).key == cell.key  # noqa: S301


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_entry_that_is_no_json_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        make_cell(entry={"gamma": value})


def test_a_cell_cannot_be_changed_or_hold_unknown_fields() -> None:
    cell = make_cell()
    with pytest.raises(ValidationError):
        cell.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        make_cell(purpose="test")


def test_canonical_json_is_sorted_and_compact() -> None:
    assert canonical_json({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'


def test_a_run_is_a_pure_function_of_its_cell() -> None:
    np.random.seed(5)
    first = run_cell(make_cell())
    np.random.seed(6)
    second = run_cell(make_cell())
    assert first.status == "ok"
    times = {"seconds": True, "curve": {"__all__": {"seconds"}}}
    assert first.model_dump(exclude=times) == second.model_dump(exclude=times)


@pytest.mark.parametrize(
    ("algorithm", "environment"),
    mostly_slow(
        [("ppo", "Pendulum-v1"), ("trpo", "CartPole-v1"), ("ppo", "CartPole-v1"), ("trpo", "InvertedPendulum-v5")],
        [("ppo", "Pendulum-v1"), ("trpo", "CartPole-v1")],
    ),
)
def test_scores_of_a_baseline_are_those_of_its_class(
    algorithm: str, environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = make_cell(
        algorithm=algorithm,
        environment=environment,
        entry={"policy": "MlpPolicy", "n_envs": 2, "n_steps": 64, "batch_size": 64, "normalize": True},
        evaluation=Evaluation(seed=4096, episodes=3, checkpoints=2),
    )
    ours = run_cell(cell)
    monkeypatch.setattr(cell_module, "on_arrays", lambda cls: cls)
    theirs = run_cell(cell)
    assert (ours.status, theirs.status) == ("ok", "ok"), ours.reason
    assert ours.rollouts == ours.updates in {"numpy", "compiled"}
    assert theirs.rollouts == theirs.updates == "torch"
    assert ours.returns == pytest.approx(theirs.returns, rel=1e-3)
    assert [point.score for point in ours.curve] == pytest.approx([point.score for point in theirs.curve], rel=1e-3)


def test_a_result_of_before_updates_were_noted_is_read() -> None:
    older = make_result().model_dump(exclude={"updates"}) | {"rollouts": "compiled"}
    result = CellResult.model_validate(older)
    assert (result.rollouts, result.updates) == ("compiled", "")


def test_a_baseline_on_arrays_takes_no_option_of_the_variants() -> None:
    result = run_cell(make_cell(entry=make_cell().entry | {"critic_epochs": 3}))
    assert result.status == "failed"
    assert "Unknown key 'critic_epochs' in the ppo entry" in result.reason


@pytest.mark.parametrize("algorithm", mostly_slow(["ppo", "trpo", "trust_region_ppo"], ["trust_region_ppo"]))
def test_a_learning_curve_does_not_disturb_the_training(algorithm: str) -> None:
    """The final score of a run with checkpoints is the score of the run without them."""
    entry = {"policy": "MlpPolicy", "n_envs": 2, "n_steps": 64, "batch_size": 64, "normalize": True}
    plain, curved = (
        run_cell(
            make_cell(
                algorithm=algorithm, entry=entry, evaluation=Evaluation(seed=4096, episodes=3, checkpoints=checkpoints)
            )
        )
        for checkpoints in (1, 4)
    )
    assert plain.status == "ok", plain.reason
    assert curved.returns == plain.returns
    assert [point.steps for point in plain.curve] == [512]
    assert [point.steps for point in curved.curve] == [128, 256, 384, 512]
    assert curved.curve[-1].score == curved.score == pytest.approx(np.mean(curved.returns))


def test_the_seconds_of_a_curve_leave_the_evaluations_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that jumps by 1,000 seconds whenever the policy is evaluated."""
    jumps = 0
    evaluate_policy, time_ns = cell_module.evaluate_policy, time.time_ns

    def slow_evaluation(*args: object, **options: object) -> object:
        nonlocal jumps
        jumps += 1
        return evaluate_policy(*args, **options)

    monkeypatch.setattr(cell_module, "evaluate_policy", slow_evaluation)
    monkeypatch.setattr(cell_module.time, "time_ns", lambda: time_ns() + 1000 * 10**9 * jumps)
    result = run_cell(make_cell(evaluation=Evaluation(seed=4096, episodes=3, checkpoints=4)))
    seconds = [point.seconds for point in result.curve]
    assert jumps == 4
    assert 0 < seconds[0] < seconds[1] < seconds[2] < seconds[3] < 900
    assert result.seconds == seconds[-1]


def test_a_run_never_takes_more_steps_than_its_budget() -> None:
    result = run_cell(make_cell(steps=600))
    assert result.steps == 512 == result.curve[-1].steps


def test_a_rollout_larger_than_the_budget_is_a_failure_not_a_longer_run() -> None:
    result = run_cell(make_cell(steps=100))
    assert result.status == "failed"
    assert "one rollout takes 128 steps" in result.reason


def test_another_seed_or_other_evaluation_episodes_give_another_score() -> None:
    base = run_cell(make_cell())
    assert run_cell(make_cell(seed=2048)).returns != base.returns
    other_episodes = Evaluation(seed=8192, episodes=3, checkpoints=1)
    assert run_cell(make_cell(evaluation=other_episodes)).returns != base.returns


def test_statistics_of_vec_normalize_reach_the_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them a policy trained on normalised observations sees others in its evaluation."""
    cell = make_cell(environment="Pendulum-v1", entry={**make_cell().entry, "normalize": True})
    synced = run_cell(cell)
    monkeypatch.setattr("sb3_ppo_variants.tuning.runs.cell.sync_envs_normalization", lambda *envs: None)
    assert run_cell(cell).returns != synced.returns


def test_returns_are_raw_whatever_is_normalised() -> None:
    cell = make_cell(environment="Odd-v0", entry={**make_cell().entry, "normalize": True})
    assert run_cell(cell).returns == (3.0, 3.0, 3.0)


def test_results_record_what_they_were_made_with() -> None:
    result = run_cell(odd_cell())
    assert result.versions == package_versions()
    assert {"python", "torch", "stable-baselines3", "sb3-contrib", "gymnasium", "numpy"} <= set(result.versions)
    assert result.seconds > 0


@pytest.mark.parametrize("reward", ["nan", "inf"])
def test_non_finite_rewards_make_a_failed_run_with_a_reason(reward: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_cell(odd_cell(reward=reward))
    assert (result.status, result.score) == ("failed", None)
    assert re.search(r"finite|nan", result.reason)
    assert not result.is_fault


def test_an_environment_that_raises_makes_a_failed_run_with_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    cell = odd_cell(error="the motor\nburnt")
    result = run_cell(cell)
    assert (result.status, result.is_fault) == ("failed", False)
    assert re.fullmatch(r"RuntimeError: the motor burnt \(test_tuning_cell\.py:\d+\)", result.reason)
    log = capsys.readouterr().err
    assert log.startswith(f"ppo on Odd-v0, seed 1024, cell {cell.key}:\n")
    assert "Traceback" in log


def test_a_programming_error_inside_the_package_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_module, "whole_rollouts", None)
    result = run_cell(make_cell())
    assert (result.status, result.is_fault) == ("failed", True)
    assert re.search(r"TypeError: .* \(sb3_ppo_variants/tuning/runs/cell\.py:\d+\)", result.reason)


@pytest.mark.parametrize("error", [TypeError, KeyError, ValueError])
def test_what_an_environment_raises_is_no_fault_of_the_package(error: type[Exception]) -> None:
    def raising(*args: object) -> None:
        raise error("mine")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OddEnv, "step", raising)
        assert not run_cell(odd_cell()).is_fault


def test_what_the_package_objects_to_is_no_fault_of_its_own() -> None:
    result = run_cell(make_cell(steps=100))
    assert "cell.py" in result.reason
    assert not result.is_fault


def test_a_configuration_that_makes_no_sense_is_a_failed_run() -> None:
    assert run_cell(make_cell(entry={"policy": "MlpPolicy", "n_steps": -1})).status == "failed"


def test_a_result_cannot_hold_nan() -> None:
    with pytest.raises(ValidationError):
        CellResult(status="ok", score=math.nan)
