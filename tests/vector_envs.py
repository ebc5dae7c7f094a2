"""Small environments for the tests of GymVectorEnv: single ones, and vector environments of several manners."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.vec_env import VecEnv

OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "box, float64": spaces.Box(-1, 1, (2, 3), np.float64),
    "image": spaces.Box(0, 255, (4, 4, 1), np.uint8),
    "discrete": spaces.Discrete(5),
    "multi-discrete": spaces.MultiDiscrete([3, 4]),
    "multi-binary": spaces.MultiBinary(3),
    "dict": spaces.Dict({"b": spaces.Box(-1, 1, (2,), np.float32), "a": spaces.MultiDiscrete([3, 4])}),
    "tuple": spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32))),
}


class Walk(gym.Env[Any, Any]):
    """Random observations of any space, episodes of some 6 steps; every kind of value in the infos."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 -- as gymnasium has it

    def __init__(self, observations: spaces.Space[Any] = OBSERVATIONS["dict"], render_mode: str | None = None) -> None:
        self.observation_space = observations
        self.action_space = spaces.Discrete(3)
        self.render_mode = render_mode
        self.level = 0
        self.steps = 0

    def _observation(self) -> Any:
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        self.start = 0.0 if options is None else float(options.get("start", 0.0))
        return self._observation(), {"start": self.start, "by": "reset"}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if action == 2 and self.level == 13:
            raise RuntimeError("the level is haunted")
        self.steps += 1
        reward = float(self.np_random.normal()) + int(action) + self.start
        terminated = bool(self.np_random.random() < 0.15)
        info: dict[str, Any] = {"steps": self.steps, "noise": np.float32(reward), "position": np.arange(2) * self.steps}
        if self.steps % 2:
            info["odd"] = {"text": f"step {self.steps}", "flag": True, "trail": [self.steps]}
        return self._observation(), reward, terminated, self.steps == 8, info

    def render(self) -> Any:
        return np.full((2, 2, 3), self.steps, dtype=np.uint8)

    def climb(self, by: int, *, times: int = 1) -> int:
        self.level += by * times
        return self.level


class _Gated(Walk):
    """Only one action is valid in each step, and the others raise."""

    def __init__(self) -> None:
        super().__init__(spaces.Box(-1, 1, (2,), np.float32))

    def _valid(self) -> np.ndarray[Any, Any]:
        return np.arange(3) == self.steps % 3

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self._valid()[action]:
            raise RuntimeError(f"action {action} is invalid in step {self.steps}")
        return super().step(action)


class Gates(_Gated):
    """Tells its masks when asked."""

    def action_masks(self) -> np.ndarray[Any, Any]:
        return self._valid()


class SayingGates(_Gated):
    """Tells its masks in its infos, and only there."""

    def reset(self, **keywords: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = super().reset(**keywords)
        return observation, info | {"action_mask": self._valid()}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, info | {"action_mask": self._valid()}


class Clocks(VectorEnv[Any, Any, Any]):
    """Clock i ends its episodes after i + 2 steps; an observation is [number of episode, step in it].

    :param resets: what ``reset`` does with a mask: "masked", "masked rows only", "all", or "refuses"
    """

    def __init__(
        self, resets: str, autoreset_mode: AutoresetMode | None = AutoresetMode.NEXT_STEP, num_envs: int = 3
    ) -> None:
        self.num_envs = num_envs
        self.metadata = {} if autoreset_mode is None else {"autoreset_mode": autoreset_mode}
        self.resets = resets
        self.single_observation_space = spaces.Box(0, np.inf, (2,), np.float32)
        self.single_action_space = spaces.Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.clocks = np.zeros((num_envs, 2), dtype=np.float32)
        self.ended = np.zeros(num_envs, dtype=bool)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        mask = (options or {}).get("reset_mask")
        if mask is not None and self.resets == "refuses":
            raise KeyError("reset_mask")
        if mask is None or self.resets == "all":
            mask = np.ones(self.num_envs, dtype=bool)
        self.clocks[mask] = self.clocks[mask] * [1, 0] + [1, 0]
        self.ended[mask] = False
        chosen = mask.copy() if self.resets == "masked rows only" else slice(None)
        mask[:] = False  # a mask is the environment's to do with as it likes
        return self.clocks[chosen], {"episode_number": self.clocks[chosen][:, 0].astype(int), "makers": list("ABCD")}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        late = self.ended.copy()
        self.clocks[late] = self.clocks[late] * [1, 0] + [1, 0]
        self.clocks[~late, 1] += 1
        self.ended = ~late & (self.clocks[:, 1] == np.arange(self.num_envs) + 2)
        return self.clocks, (~late).astype(np.float32), np.zeros_like(late), self.ended, {"clock": self.clocks}


def assert_same(ours: Any, theirs: Any) -> None:
    """Compare values of any nesting: same types of containers, same types and bits of arrays."""
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert type(ours) is type(theirs) or isinstance(theirs, (np.generic, np.ndarray))
        one, other = np.asarray(ours), np.asarray(theirs)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, strict=True)


def assert_same_steps(ours: VecEnv, theirs: VecEnv, steps: int) -> list[dict[str, Any]]:
    """Walk through two environments with the same random actions; all that SB3 sees has to be the same.

    :return: infos of the ended episodes
    """
    assert_same(ours.reset(), theirs.reset())
    theirs.action_space.seed(7)
    ends = []
    for step in range(steps):
        if step == steps // 2:
            assert_same(ours.reset(), theirs.reset())
        actions = np.array([theirs.action_space.sample() for _ in range(theirs.num_envs)])
        (*batch, infos), (*expected, expected_infos) = ours.step(actions), theirs.step(actions)
        for info in (*infos, *expected_infos):
            if "episode" in info:
                assert 0 <= info["episode"].pop("t") < 600
        assert_same([*batch, infos], [*expected, expected_infos])
        assert_same(ours.reset_infos, theirs.reset_infos)
        ends += [info for info, done in zip(infos, batch[2], strict=True) if done]
    ours.close()
    theirs.close()
    return ends
