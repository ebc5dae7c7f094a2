"""Normalised scores: fixed table, floor, and the user's own numbers."""

import math
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from sb3_ppo_variants.tuning.study.random_returns import main, random_returns
from sb3_ppo_variants.tuning.study.scales import FLOOR, SCALES, Scale, scale_of

ISSUE_ENVIRONMENTS = (
    "CartPole-v1", "Acrobot-v1", "Pendulum-v1", "MountainCarContinuous-v0", "LunarLander-v3",
    "LunarLanderContinuous-v3", "BipedalWalker-v3", "Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5",
    "Swimmer-v5", "Reacher-v5", "InvertedDoublePendulum-v5",
)  # fmt: skip


@pytest.mark.parametrize("env_id", SCALES)
def test_random_scores_zero_and_the_reference_one(env_id: str) -> None:
    scale = SCALES[env_id]
    assert scale.normalise(scale.random) == 0.0
    assert scale.normalise(scale.reference) == 1.0


def test_the_table_knows_every_environment_with_a_shipped_configuration() -> None:
    assert set(ISSUE_ENVIRONMENTS) <= set(SCALES)


@pytest.mark.parametrize("env_id", [env_id for env_id in SCALES if "threshold" in SCALES[env_id].source])
def test_references_taken_from_gymnasium_are_gymnasiums(env_id: str) -> None:
    assert gymnasium.spec(env_id).reward_threshold == SCALES[env_id].reference


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Reacher-v5"])
def test_the_table_holds_what_a_random_policy_earns(env_id: str) -> None:
    returns = random_returns(env_id, episodes=30, seed=123)
    standard_error = returns.std(ddof=1) / math.sqrt(len(returns))
    assert np.mean(returns) == pytest.approx(SCALES[env_id].random, abs=5 * standard_error + 1.0)


def test_measuring_prints_mean_error_and_episodes(capsys: pytest.CaptureFixture[str]) -> None:
    main(["CartPole-v1"], episodes=20)
    assert capsys.readouterr().out.startswith("CartPole-v1: 2")


class OnlyLast(gymnasium.Env):
    """Ten steps; of each part of an action only the last value is valid, and any other is an error."""

    observation_space = spaces.Discrete(1)

    def __init__(self, action_space: spaces.Space) -> None:
        self.action_space = action_space
        self.sizes, self.start = {
            spaces.Discrete: lambda: ([5], 3),
            spaces.MultiDiscrete: lambda: ([2, 3], 0),
            spaces.MultiBinary: lambda: ([2, 2, 2], 0),
        }[type(action_space)]()

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        self.left = 10
        return 0, {}

    def step(self, action: np.ndarray | int) -> tuple[int, float, bool, bool, dict]:
        assert action in self.action_space
        assert np.ravel(action).tolist() == [self.start + size - 1 for size in self.sizes]
        self.left -= 1
        return 0, 1.0, self.left == 0, False, {}

    def action_masks(self) -> np.ndarray:
        return np.concatenate([np.arange(size) == size - 1 for size in self.sizes])


@pytest.mark.parametrize(
    "space", [spaces.Discrete(5, start=3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)], ids=repr
)
def test_a_random_policy_takes_valid_actions_where_there_are_masks(
    space: spaces.Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = gymnasium.envs.registration.EnvSpec("OnlyLast-v0", partial(OnlyLast, space))
    monkeypatch.setitem(gymnasium.registry, "OnlyLast-v0", spec)
    assert random_returns("OnlyLast-v0", episodes=3).tolist() == [10.0] * 3


def test_nothing_scores_below_the_floor_and_a_failed_run_scores_it() -> None:
    scale = SCALES["Pendulum-v1"]
    assert scale.normalise(-1e9) == FLOOR == scale.normalise(None)
    assert scale.normalise(-1500.0) > FLOOR


def test_an_unknown_environment_needs_both_numbers() -> None:
    with pytest.raises(ValueError, match="Taxi-v3: no normalisation is known; give its random and reference"):
        scale_of("Taxi-v3")
    with pytest.raises(ValueError, match="give both"):
        scale_of("Taxi-v3", random=-770.0)
    assert scale_of("Taxi-v3", random=-770.0, reference=8.0).normalise(8.0) == 1.0


def test_the_users_numbers_come_before_the_table() -> None:
    assert scale_of("CartPole-v1", random=0.0, reference=100.0).normalise(50.0) == 0.5


def test_a_scale_that_does_not_rise_is_refused() -> None:
    with pytest.raises(ValueError, match="reference must be above random"):
        Scale(1.0, 1.0, "nowhere")
