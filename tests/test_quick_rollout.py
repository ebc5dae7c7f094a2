"""The rollout that writes into the buffer's rows, without a callback, leaves what SB3's loop leaves: whatever
an environment in a DummyVecEnv does, and for whichever model and buffer.
"""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import ARRAY_ENGINES, mostly_slow
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from test_rollout import N_STEPS, Doubling, assert_alike, collect, other_buffer

from sb3_ppo_variants import ClipPPO
from sb3_ppo_variants.engines import rollout
from sb3_ppo_variants.update_parts.errors import NonFiniteUpdateError

pytestmark = [
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim", "ignore:invalid value encountered"),
    pytest.mark.skipif("compiled" not in ARRAY_ENGINES, reason="the extension is not there, or switched off"),
]

BOX = spaces.Box(-4, 4, (3,), np.float32)
Spoil = Callable[["Hostile", Any], Any]


class Hostile(gym.Env[Any, Any]):
    """Ends now and then, by a time limit or not; ``spoil`` does with itself and an action what it likes.

    :ivar kept: all actions that it was given
    """

    def __init__(self, observations: Any, actions: Any, spoil: Spoil, number: int) -> None:
        self.observation_space, self.action_space = observations, actions
        self.spoil, self.kept, self.rng = spoil, [], np.random.default_rng(number)

    def _observe(self) -> Any:
        space = self.observation_space
        return (self.rng.normal(size=space.shape) * 3 + (0 if space.dtype.kind == "f" else 20)).astype(space.dtype)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.kept.append(action)
        reward = float(np.sum(action) > 0) + self.rng.normal()  # Monitor rounds: not what rounding may change
        ended, cut_off = self.rng.random() < 0.15, self.rng.random() < 0.15
        observation = self._observe()
        changed = self.spoil(self, action)
        return observation if changed is None else changed, reward, ended, cut_off, {"is_success": ended}


def harmless(env: Hostile, action: Any) -> None:
    pass


def write_into_the_action(env: Hostile, action: Any) -> None:
    if isinstance(action, np.ndarray):
        action[...] = 0


def write_into_earlier_actions(env: Hostile, action: Any) -> None:
    for kept in env.kept[:-1]:
        write_into_the_action(env, kept)


def draw_from_torch(env: Hostile, action: Any) -> None:
    th.rand(3)


def speak_in_lists(env: Hostile, action: Any) -> Any:
    return env._observe().tolist()


def stay_where_it_was(env: Hostile, action: Any) -> Any:
    """Return the same array each time, with other numbers."""
    env.observation = getattr(env, "observation", np.zeros(3, np.float32))
    env.observation[:] = env._observe()
    return env.observation


def vectorized(
    observations: spaces.Space[Any] = BOX,
    actions: spaces.Space[Any] | None = None,
    spoil: Spoil = harmless,
    n_envs: int = 3,
    normalized: bool = False,
) -> VecEnv:
    actions = spaces.Discrete(3) if actions is None else actions
    env: VecEnv = DummyVecEnv(
        [lambda number=number: Monitor(Hostile(observations, actions, spoil, number)) for number in range(n_envs)]
    )
    return VecNormalize(env) if normalized else env


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the rollouts that took the quick way."""
    taken: list[int] = []
    original = rollout._collect_quickly

    def counting(*arguments: Any) -> Any:
        taken.append(1)
        return original(*arguments)

    monkeypatch.setattr(rollout, "_collect_quickly", counting)
    return taken


def assert_as_with_sb3(make: Callable[[], VecEnv], **arguments: Any) -> dict[str, Any]:
    expected = collect("torch", make, None, **arguments)
    assert_alike(collect("compiled", make, None, **arguments), expected)
    return expected


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("normalized", mostly_slow([False, True], [True]))
@pytest.mark.parametrize(
    "spoil", [write_into_the_action, write_into_earlier_actions, draw_from_torch, speak_in_lists, stay_where_it_was]
)
@pytest.mark.parametrize("actions", [spaces.Discrete(3), spaces.Box(-0.5, 0.5, (2,))], ids=str)
def test_hostile_environments_fill_the_buffer_as_with_sb3(
    spoil: Spoil, actions: Any, n_envs: int, normalized: bool, quick: list[int]
) -> None:
    assert_as_with_sb3(lambda: vectorized(BOX, actions, spoil, n_envs, normalized))
    assert len(quick) == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (1,)])
@pytest.mark.parametrize("normalized", [False, True])
def test_observations_of_floats_are_read_where_they_are_stored(
    dtype: Any, shape: tuple[int, ...], normalized: bool, quick: list[int]
) -> None:
    space = spaces.Box(-4, 4, shape, dtype)
    assert_as_with_sb3(lambda: vectorized(space, normalized=normalized))
    assert len(quick) == 2


@pytest.mark.parametrize(
    "actions",
    [
        spaces.Discrete(3, start=5),
        spaces.Box(-0.1, 0.1, (2, 3)),
        spaces.Box(np.array([0, -3], np.float32), np.array([3, 0.5], np.float32)),
    ],
    ids=str,
)
def test_actions_of_every_shape_are_drawn_into_the_buffer(actions: Any, quick: list[int]) -> None:
    assert_as_with_sb3(lambda: vectorized(actions=actions, spoil=write_into_earlier_actions))
    assert len(quick) == 2


@pytest.mark.parametrize(
    ("observations", "actions"),
    [
        (spaces.Box(0, 40, (3,), np.uint8), None),
        (spaces.Box(-4, 4, (3,), np.float16), None),
        (BOX, spaces.Box(-1, 1, (2,), np.float64)),
        (BOX, spaces.MultiDiscrete([3, 2])),
        (BOX, spaces.MultiBinary(2)),
    ],
    ids=str,
)
def test_what_has_another_form_in_the_buffer_or_may_be_kept_goes_the_other_way(
    observations: Any, actions: Any, quick: list[int]
) -> None:
    assert_as_with_sb3(lambda: vectorized(observations, actions, write_into_earlier_actions))
    assert not quick


@pytest.mark.parametrize(
    ("make_buffer", "n_rollout_steps"),
    [
        (other_buffer, N_STEPS - 5),
        (other_buffer, N_STEPS + 1),
        (lambda: other_buffer(n_envs=2), N_STEPS),
        (lambda: other_buffer(Doubling), N_STEPS),
    ],
    ids=["fewer", "more", "environments", "class"],
)
def test_a_buffer_that_does_not_fit_goes_the_other_way(
    make_buffer: Callable[[], RolloutBuffer], n_rollout_steps: int, quick: list[int]
) -> None:
    assert_as_with_sb3(vectorized, make_buffer=make_buffer, n_rollout_steps=n_rollout_steps)
    assert not quick


@pytest.mark.parametrize("last", [np.full((3, 3), 0.5, np.float64), np.full((3, 3), 2)], ids=repr)
def test_first_observations_of_another_form_are_read_as_with_sb3(last: Any, quick: list[int]) -> None:
    prepare = lambda model: setattr(model, "_last_obs", last)  # noqa: E731
    assert_as_with_sb3(vectorized, prepare=prepare)
    assert len(quick) == 1, "the second rollout begins with what the first one left"


def test_a_first_observation_beyond_float32_is_named_whatever_numpy_does(quick: list[int]) -> None:
    prepare = lambda model: setattr(model, "_last_obs", np.full((3, 3), 1e300))  # noqa: E731
    with np.errstate(all="raise"):
        (kind, words), _ = collect("compiled", vectorized, None, prepare=prepare)["results"]
    assert kind is NonFiniteUpdateError
    assert "observation" in words


class Counting(ClipPPO):
    """Counts episodes, and steps, in its own way."""

    def _update_info_buffer(self, infos: Any, dones: Any = None) -> None:
        super()._update_info_buffer(infos, dones)
        self.num_timesteps += int(sum(dones))


def test_a_model_that_counts_episodes_itself_is_told_of_every_step(quick: list[int]) -> None:
    assert_as_with_sb3(vectorized, cls=Counting)
    assert len(quick) == 2


@pytest.mark.parametrize("at", [1, N_STEPS // 2, N_STEPS + 3])
def test_an_environment_that_breaks_leaves_the_steps_before(at: int, quick: list[int]) -> None:
    def break_down(env: Hostile, action: Any) -> None:
        if len(env.kept) == at:
            raise RuntimeError("broken")

    outcomes = [collect(engine, lambda: vectorized(spoil=break_down), None) for engine in ("compiled", "torch")]
    for outcome in outcomes:  # the row of the step that broke is nobody's
        outcome["buffer"] = {name: rows[: outcome["positions"][0]] for name, rows in outcome["buffer"].items()}
    assert_alike(*outcomes)
    assert "broken" in str(outcomes[1]["results"])
    assert quick


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_observation_that_is_not_finite_is_named_before_the_environment_acts_on_it(
    bad: float, quick: list[int]
) -> None:
    def go_bad(env: Hostile, action: Any) -> Any:
        return np.full(3, bad, np.float32) if len(env.kept) == 4 else None

    env = vectorized(spoil=go_bad)
    (kind, words), _ = collect("compiled", lambda: env, None)["results"]
    assert kind is NonFiniteUpdateError
    assert "observation" in words
    assert [len(inner.unwrapped.kept) for inner in env.envs] == [4, 4, 4]
    assert quick


def test_colored_noise_is_drawn_as_step_by_step(quick: list[int]) -> None:
    """Through the other way, which a callback takes."""

    def train(callback: Any) -> dict[str, Any]:
        env = vectorized(actions=spaces.Box(-1, 1, (2,)))
        model = ClipPPO("MlpPolicy", env, n_steps=N_STEPS, batch_size=N_STEPS, seed=0, exploration_noise_color=1.0)
        model.learn(4 * N_STEPS * 3, callback)
        return {name: tensor.numpy() for name, tensor in model.policy.state_dict().items()}

    assert_alike(train(None), train(lambda *_: True))
    assert len(quick) == 4
