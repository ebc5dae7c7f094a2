"""Faults of sb3-contrib 2.9.2's copies of PPO: each shown in theirs, and absent in ours."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from families_helpers import LSTM, make_masked_env, make_model
from gymnasium import spaces
from helpers import mostly_slow
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_with_masks
from sb3_contrib.common.recurrent.buffers import RecurrentRolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants import ClipPPO, MaskableClipPPO, MaskableRecurrentClipPPO, RecurrentClipPPO
from sb3_ppo_variants.evaluation import evaluate_policy
from sb3_ppo_variants.testing import BOX, MULTI_BINARY, VECTOR, SpaceEnv, make_env

PAIRS = [
    pytest.param(MaskablePPO, MaskableClipPPO, make_masked_env, id="maskable"),
    pytest.param(RecurrentPPO, RecurrentClipPPO, make_env, id="recurrent"),
]
OURS = [
    pytest.param(MaskableClipPPO, make_masked_env, id="maskable"),
    pytest.param(RecurrentClipPPO, make_env, id="recurrent"),
    pytest.param(MaskableRecurrentClipPPO, make_masked_env, id="maskable recurrent"),
]


# The last minibatch has one sample ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "_", "env"), PAIRS)
def test_theirs_crashes_on_a_last_minibatch_of_one_sample(theirs: Any, _: Any, env: Any) -> None:
    with pytest.raises(ValueError, match="nan"):
        make_model(theirs, env(), n_steps=33, batch_size=32).learn(33)


@pytest.mark.parametrize(("ours", "env"), OURS)
def test_ours_learns_from_a_last_minibatch_of_one_sample(ours: Any, env: Any) -> None:
    model = make_model(ours, env(), n_steps=33, batch_size=32).learn(66)
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())


# All minibatches have one sample --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "_", "env"), PAIRS)
def test_theirs_accepts_a_batch_size_of_one_and_crashes_later(theirs: Any, _: Any, env: Any) -> None:
    model = make_model(theirs, env(), batch_size=1)
    with pytest.raises(ValueError, match="nan"):
        model.learn(32)


@pytest.mark.parametrize("arguments", [{"batch_size": 1}, {"n_steps": 1}, {"n_steps": 1, "batch_size": None}])
@pytest.mark.parametrize(("ours", "env"), OURS)
def test_ours_refuses_to_normalise_advantages_of_one_sample(ours: Any, env: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"minibatches of one sample.*normalize_advantage=False"):
        make_model(ours, env(), **arguments)


@pytest.mark.parametrize(("ours", "env"), OURS)
def test_ours_takes_single_samples_without_normalisation_and_whole_rollouts(ours: Any, env: Any) -> None:
    make_model(ours, env(), batch_size=1, n_steps=8, normalize_advantage=False).learn(8)
    assert make_model(ours, env(), batch_size=None).learn(32).logger.name_to_value["train/n_updates"] == 2


# Squashed actions -----------------------------------------------------------------------------------------------------


class ActionRecorder(SpaceEnv):
    """Keeps the actions that it was given."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__(VECTOR, spaces.Box(low, high, (2,), dtype=np.float32))
        self.taken: list[np.ndarray] = []

    def step(self, action: Any) -> Any:
        self.taken.append(np.array(action))
        return super().step(action)


def actions_of(cls: type, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the actions that the environment got, and those in the buffer."""
    env = make_vec_env(lambda: ActionRecorder(low, high), seed=0)
    squashed = {"use_sde": True, "policy_kwargs": LSTM["policy_kwargs"] | {"squash_output": True, "log_std_init": 1.0}}
    model = make_model(cls, env, **squashed)
    model.learn(32)
    return np.array(env.envs[0].unwrapped.taken), model.rollout_buffer.actions.reshape(32, 2)


@pytest.mark.parametrize(("low", "high"), mostly_slow([(-2.0, 2.0), (0.0, 0.5), (-7.0, 3.0)], [(-7.0, 3.0)]))
def test_squashed_actions_reach_the_environment_on_its_scale(low: float, high: float) -> None:
    taken, squashed = actions_of(RecurrentPPO, low, high)
    np.testing.assert_array_equal(taken, np.clip(squashed, low, high))  # theirs: not unscaled, but clipped
    taken, squashed = actions_of(RecurrentClipPPO, low, high)
    assert np.abs(squashed).max() > 0.9, "the actions should come near the bounds"
    np.testing.assert_allclose(taken, low + (squashed + 1) / 2 * (high - low), rtol=1e-6, atol=1e-6)


def test_collecting_squashed_actions_leaves_no_hook_on_the_policy() -> None:
    env = make_env(VECTOR, BOX)
    squashed = {"use_sde": True, "policy_kwargs": LSTM["policy_kwargs"] | {"squash_output": True}}
    model = make_model(RecurrentClipPPO, env, **squashed).learn(32)
    assert not model.policy._forward_hooks


# Own rollout buffers --------------------------------------------------------------------------------------------------


class HalvingBuffer(RecurrentRolloutBuffer):
    """Scales rewards, by a half unless told otherwise."""

    def __init__(self, *arguments: Any, factor: float = 0.5, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.factor = factor

    def compute_returns_and_advantage(self, *arguments: Any, **keywords: Any) -> None:
        self.rewards *= self.factor
        super().compute_returns_and_advantage(*arguments, **keywords)


def test_theirs_refuses_a_rollout_buffer_class() -> None:
    with pytest.raises(TypeError, match="rollout_buffer_class"):
        make_model(RecurrentPPO, make_env(), rollout_buffer_class=HalvingBuffer)


def test_ours_uses_a_rollout_buffer_class_before_and_after_loading(tmp_path: Path) -> None:
    own = {"rollout_buffer_class": HalvingBuffer, "rollout_buffer_kwargs": {"factor": 0.25}}
    rewards = [
        make_model(RecurrentClipPPO, make_env(), **arguments).learn(32).rollout_buffer.rewards
        for arguments in ({}, own)
    ]
    np.testing.assert_allclose(rewards[1], 0.25 * rewards[0], rtol=1e-6)
    model = make_model(RecurrentClipPPO, make_env(), **own)
    model.save(tmp_path / "model")
    loaded = RecurrentClipPPO.load(tmp_path / "model", env=make_env())
    assert type(loaded.rollout_buffer) is HalvingBuffer
    assert loaded.rollout_buffer.factor == 0.25


# The collecting loop's variables at the end of a rollout --------------------------------------------------------------


class EndOfRollout(BaseCallback):
    """Compares what it sees at the end of each rollout with the rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.saw_last_values: list[bool] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.steps.append(self.locals["n_steps"])
        buffer, last_values = self.model.rollout_buffer, self.locals["values"].numpy().flatten()
        over = self.locals["dones"].astype(float)
        delta = buffer.rewards[-1] + buffer.gamma * last_values * (1 - over) - buffer.values[-1]
        self.saw_last_values.append(np.allclose(delta, buffer.advantages[-1], atol=1e-5))


def seen_at_the_end(cls: type, env: VecEnv) -> tuple[list[int], list[bool]]:
    callback = EndOfRollout()
    make_model(cls, env).learn(64, callback=callback)
    return callback.steps, callback.saw_last_values


def test_sb3_shows_the_loops_variables_at_the_end_of_a_rollout() -> None:
    assert seen_at_the_end(ClipPPO, make_env()) == ([32, 32], [True, True])


@pytest.mark.parametrize(("theirs", "_", "env"), PAIRS)
def test_theirs_shows_those_of_the_last_step(theirs: Any, _: Any, env: Any) -> None:
    assert seen_at_the_end(theirs, env()) == ([31, 31], [False, False])


@pytest.mark.parametrize(("ours", "env"), OURS)
def test_ours_shows_what_sb3_shows(ours: Any, env: Any) -> None:
    assert seen_at_the_end(ours, env()) == ([32, 32], [True, True])


# MultiBinary actions and memory ---------------------------------------------------------------------------------------


def test_theirs_crashes_on_multi_binary_actions() -> None:
    with pytest.raises(RuntimeError, match="Char"):
        make_model(RecurrentPPO, make_env(VECTOR, MULTI_BINARY)).learn(32)


def test_ours_learns_multi_binary_actions() -> None:
    model = make_model(RecurrentClipPPO, make_env(VECTOR, MULTI_BINARY), n_epochs=1, batch_size=None).learn(32)
    assert model.logger.name_to_value["train/approx_kl"] == pytest.approx(0.0, abs=1e-6), "ratios are 1 at first"


# Evaluation with masks and memory -------------------------------------------------------------------------------------


class RecordingStates(MaskableRecurrentClipPPO):
    """Keeps the states that it is asked to predict from."""

    def predict(self, observation: Any, state: Any = None, *arguments: Any, **keywords: Any) -> Any:
        self.states = [*getattr(self, "states", []), state]
        return super().predict(observation, state, *arguments, **keywords)


def states_seen(evaluate: Any) -> list[Any]:
    model = make_model(RecordingStates, make_masked_env())
    evaluate(model, make_masked_env(), n_eval_episodes=2)
    return model.states


def test_theirs_forgets_in_evaluation_with_masks() -> None:
    assert all(state is None for state in states_seen(evaluate_with_masks))


def test_ours_remembers_in_evaluation_with_masks() -> None:
    first, *others = states_seen(evaluate_policy)
    assert first is None
    assert others
    assert all(np.abs(state[0]).max() > 0 for state in others)


# MultiDiscrete observations, and a policy in torch.compile's wrapper --------------------------------------------------

PARTS = spaces.MultiDiscrete([3, 4])
OBSERVATIONS = {"alone": PARTS, "in a Dict": spaces.Dict({"parts": PARTS, "vector": VECTOR})}


@pytest.mark.parametrize("observations", OBSERVATIONS.values(), ids=OBSERVATIONS.keys())
@pytest.mark.parametrize(("ours", "env"), OURS[-1:])
def test_ours_remembers_multi_discrete_observations(ours: Any, env: Any, observations: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="should be of type int"):
        make_model(RecurrentPPO, make_env(observations))
    model = make_model(ours, env(observations)).learn(32)
    model.save(tmp_path / "model")
    again = ours.load(tmp_path / "model", env=env(observations)).learn(32)
    assert again.policy.lstm_actor.input_size == (7 if observations is PARTS else 11)


@pytest.mark.parametrize("engine", ["torch", "auto"])
@pytest.mark.parametrize(("ours", "env"), OURS[-1:])
def test_a_compiled_policy_with_memory_learns_as_it_is(
    ours: Any, env: Any, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution = th.distributions.Distribution
    monkeypatch.setattr(distribution, "_validate_args", distribution._validate_args)  # torch.compile switches it off
    plain, compiled = (make_model(ours, env(), engine=engine) for _ in range(2))
    with th.compiler.set_stance("force_eager"):  # what the wrapper does to the policy, without the time it takes
        compiled.policy = th.compile(compiled.policy, backend="eager")
        for model in (plain, compiled):
            model.set_random_seed(3)
            model.learn(64)
    pairs = zip(plain.policy.parameters(), compiled.policy.parameters(), strict=True)
    assert all(th.equal(one, other) for one, other in pairs)
