"""The array engine's way through DummyVecEnv and VecNormalize gives what SB3's gives, whatever an environment does.

Compared are values, types, dtypes, and which objects are one and the same: within a step's results, between results
that a callback may have kept, and with what the vectorized environment holds.
"""

import enum
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import mostly_slow
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize

from sb3_ppo_variants.engines.lean_step import lean_step
from sb3_ppo_variants.testing import BOX, DICT, DISCRETE, VECTOR, SpaceEnv

pytestmark = [
    pytest.mark.filterwarnings("ignore:invalid value encountered"),
    pytest.mark.filterwarnings("ignore:overflow encountered"),
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim"),
]

STATE = {
    DummyVecEnv: ("actions", "buf_obs", "buf_rews", "buf_dones", "buf_infos", "reset_infos", "_seeds", "_options"),
    VecNormalize: ("old_obs", "old_reward", "returns", "obs_rms", "ret_rms"),
}


def shape_of(value: Any, seen: dict[int, int] | None = None) -> Any:
    """Return everything about a value that can be compared: what occurs again is named by its place."""
    seen = {} if seen is None else seen
    if isinstance(value, (np.ndarray, dict, list, tuple, Mutable, RunningMeanStd)):
        if id(value) in seen:
            return ("again", seen[id(value)])
        seen[id(value)] = len(seen)
    kind = type(value)
    if isinstance(value, np.ndarray):
        items = [shape_of(item, seen) for item in value.ravel()] if value.dtype.hasobject else value.tobytes(order="A")
        flags = value.flags.c_contiguous, value.flags.f_contiguous, value.flags.writeable
        return (kind, value.dtype.str, value.shape, flags, items)
    if isinstance(value, dict):
        # How long an episode took is told by the clock
        pairs = [(key, kind if key == "t" else item) for key, item in value.items()]
        return (kind, [(shape_of(key, seen), shape_of(item, seen)) for key, item in pairs])
    if isinstance(value, (list, tuple)):
        return (kind, [shape_of(item, seen) for item in value])
    if isinstance(value, (Mutable, RunningMeanStd)):
        return (kind, shape_of(vars(value), seen))
    return (kind, "generator" if isinstance(value, Iterator) else repr(value))


def state_of(env: VecEnv) -> dict[str, Any]:
    state = {name: getattr(env, name, None) for name in STATE[type(env)]}
    return state if isinstance(env, DummyVecEnv) else state | state_of(env.venv)


class Pair:
    """Two equal environments: one steps as SB3 does, the other one takes the lean step."""

    def __init__(self, make: Callable[[], VecEnv]) -> None:
        self.envs = [make() for _ in range(2)]
        sb3, ours = self.envs
        assert lean_step(ours) != ours.step, "nothing would be compared"
        self.steps = [sb3.step, lean_step(ours)]
        self.kept: list[list[Any]] = [[], []]
        for env, kept in zip(self.envs, self.kept, strict=True):
            env.seed(0)
            kept.append(env.reset())

    def step(self, actions: np.ndarray) -> None:
        outcomes = []
        for step, kept in zip(self.steps, self.kept, strict=True):
            try:
                kept.append(step(actions.copy()))
                outcomes.append("returned")
            except Exception as error:
                outcomes.append(repr(error))
        assert outcomes[0] == outcomes[1]
        self.compare(last=2)

    def compare(self, last: int | None = None) -> None:
        sb3, ours = (
            shape_of([kept[-last:] if last else kept, state_of(env)])
            for kept, env in zip(self.kept, self.envs, strict=True)
        )
        assert ours == sb3

    def run(self, n_steps: int, seed: int = 0) -> "Pair":
        space = self.envs[0].action_space
        space.seed(seed)
        for _ in range(n_steps):
            self.step(np.array([space.sample() for _ in range(self.envs[0].num_envs)]))
        # What was kept is what it was
        self.compare()
        return self


def normalized(make: Callable[[], VecEnv], **kwargs: Any) -> Callable[[], VecEnv]:
    return lambda: VecNormalize(make(), **kwargs)


ENVIRONMENTS = {"CartPole-v1": 150, "Pendulum-v1": 210, "HalfCheetah-v5": 30, "LunarLander-v3": 120}


@pytest.mark.parametrize(("n_envs", "with_statistics"), mostly_slow([(2, False), (1, True), (2, True)], [(2, True)]))
@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_known_environments_step_as_with_sb3(env_id: str, n_envs: int, with_statistics: bool) -> None:
    def make() -> VecEnv:
        return make_vec_env(env_id, n_envs, seed=3)

    Pair(normalized(make, gamma=0.9) if with_statistics else make).run(ENVIRONMENTS[env_id])


def test_seeds_and_options_of_a_reset_are_used_once() -> None:
    pair = Pair(lambda: DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2)).run(60)
    for env, kept in zip(pair.envs, pair.kept, strict=True):
        env.seed(7)
        env.set_options({"low": -0.01, "high": 0.01})
        kept.append(env.reset())
    pair.run(60)


class Mutable:
    """Something that only deepcopy knows how to copy."""

    def __init__(self, content: Any) -> None:
        self.content = content


class Key(enum.Enum):
    """A key that is neither a string nor a number."""

    ONE = 1


class FrozenKey(tuple):
    """A tuple that deepcopy makes anew."""


SHARED = {"by": [1, "environments"]}
_OBSERVATIONS: list[Callable[[Any], Any]] = [
    lambda x: x.astype(np.float32),
    lambda x: x,
    lambda x: x.tolist(),
    lambda x: tuple(x.tolist()),
    lambda x: [int(item) for item in x],
    lambda x: x.astype(np.int8),
    np.asfortranarray,
    lambda x: x[::-1],
    lambda x: np.broadcast_to(np.float32(x[0]), x.shape),
    lambda x: float(x[0]),
    lambda x: x.reshape(1, -1),
    lambda x: x.astype(object),
    lambda x: [np.array(item) for item in x],
    lambda x: np.full_like(x, np.nan),
    lambda x: np.full_like(x, 1e300),
]
_REWARDS: list[Callable[[float], Any]] = [
    float,
    int,
    np.float32,
    np.float64,
    np.array,
    bool,
    str,
    lambda x: np.array([x]),
    lambda x: x * 1e300,
    lambda x: float("nan"),
    lambda x: float("-inf"),
]
_FLAGS: list[Callable[[bool], Any]] = [bool, np.bool_, int, float, np.array, lambda x: np.array([x]), lambda x: [0] * x]
_INFOS: list[Callable[[Any, Any], dict[Any, Any]]] = [
    lambda env, obs: {},
    lambda env, obs: env.own_info,
    lambda env, obs: {"array": env.buffer, "again": env.buffer, "observation": obs},
    lambda env, obs: {"number": np.float64(1.5), "int": np.int8(1), "text": "x", "bytes": b"x", "none": None, "c": 1j},
    lambda env, obs: {"nested": {"array": env.buffer, "deeper": {"list": [env.buffer, {}], "set": {1, 2}}}},
    lambda env, obs: {"objects": np.array([[1], {}], dtype=object), "fields": np.zeros(2, [("a", "i4"), ("b", "O")])},
    lambda env, obs: {"transposed": np.ones((2, 3)).T, "scalar": np.array(1.0), "read only": np.broadcast_to(1, 3)},
    lambda env, obs: {"shared": SHARED, "mutable": Mutable(SHARED), "class": Mutable, "function": shape_of},
    lambda env, obs: {Key.ONE: 1, (1, "a"): 2, FrozenKey((1, 2)): [3], 4: 5, None: 6},
    lambda env, obs: OrderedDict(a=env.buffer, b=OrderedDict()),
    lambda env, obs: _cyclic(),
    lambda env, obs: {"episode": {"r": 1.0, "l": 2}, "is_success": True},
    lambda env, obs: {"terminal_observation": [1, 2], "TimeLimit.truncated": "mine"},
    lambda env, obs: {"matrix": np.ma.masked_array([1.0, 2.0], mask=[0, 1])},
]


def _cyclic() -> dict[str, Any]:
    info: dict[str, Any] = {"list": []}
    info["self"] = info
    info["list"].append(info)
    return info


class Hostile(gym.Env):
    """Returns whatever its forms say, and goes on using what it has returned."""

    action_space = DISCRETE

    def __init__(self, index: int, dtype: Any = np.float32, forms: Iterator[tuple[int, ...]] | None = None) -> None:
        self.observation_space = spaces.Box(0, 100, (3,), dtype)
        self.own_info: dict[str, Any] = {"list": [index]}
        self.buffer = np.zeros(2)
        self.rng = np.random.default_rng(index)
        self.forms = forms

    def _observation(self, form: int) -> Any:
        return _pick(_OBSERVATIONS, form)(np.abs(self.rng.normal(size=3)) * 4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self._observation(int(self.rng.integers(3))), {"options": options, "list": self.own_info["list"]}

    def step(self, action: Any) -> Any:
        forms = self.rng.integers(99, size=5) if self.forms is None else next(self.forms)
        # What an earlier step returned changes
        self.buffer += 1
        self.own_info["list"].append(len(self.own_info["list"]))
        self.own_info.pop("terminal_observation", None)
        ends = self.rng.random() < 0.3
        observation = self._observation(int(forms[0]))
        reward = _pick(_REWARDS, forms[1])(float(self.rng.integers(-2, 3)))
        terminated, truncated = (
            _pick(_FLAGS, forms[2])(ends and action == 0),
            _pick(_FLAGS, forms[3])(ends and action != 0),
        )
        return observation, reward, terminated, truncated, _pick(_INFOS, forms[4])(self, observation)


def _pick(menu: list[Any], index: int) -> Any:
    return menu[int(index) % len(menu)]


DTYPES = [np.float32, np.float64, np.float16, np.uint8, np.int64]


def hostile(n_envs: int, dtype: Any = np.float32, **kwargs: Any) -> VecEnv:
    return DummyVecEnv([lambda index=index: Hostile(index, dtype, **kwargs) for index in range(n_envs)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n_envs", "with_statistics"), mostly_slow([(3, False), (1, True), (3, True)], [(3, True)]))
def test_hostile_environments_step_as_with_sb3(dtype: Any, n_envs: int, with_statistics: bool) -> None:
    """All forms of observations, rewards, flags and infos in random company: errors, and what they leave, included."""

    def make() -> VecEnv:
        return hostile(n_envs, dtype)

    pair = Pair(normalized(make) if with_statistics else make).run(80)
    assert 15 < len(pair.kept[0]) < 78, "hardly any step came to its end, or none raised"


@pytest.mark.parametrize("n_envs", [1, 3])
def test_numpys_complaints_about_infinite_figures_are_the_same(n_envs: int) -> None:
    class Infinite(Hostile):
        def step(self, action: Any) -> Any:
            observation, *_ = super().step(action)
            return observation, float("inf") if action else 1.0, False, False, {}

    forms = [(0, 0, 0, 0, 0)] * 40
    with np.errstate(invalid="raise", over="raise"):
        pair = Pair(lambda: VecNormalize(DummyVecEnv([lambda: Infinite(0, forms=iter(forms))] * n_envs))).run(20)
    assert len(pair.kept[0]) < 20, "nothing was raised"


@given(forms=st.lists(st.tuples(*[st.integers(0, 13)] * 5), min_size=1, max_size=6), n_envs=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_any_sequence_of_forms_steps_as_with_sb3(forms: list[tuple[int, ...]], n_envs: int) -> None:
    def make() -> VecEnv:
        return DummyVecEnv([lambda i=i: Hostile(i, forms=iter(forms * 2)) for i in range(n_envs)])

    Pair(make).run(len(forms))


def test_infos_that_environments_share_are_shared_among_their_copies() -> None:
    common: dict[str, Any] = {"list": []}

    class Sharing(Hostile):
        def step(self, action: Any) -> Any:
            observation, *_ = super().step(action)
            return observation, 0.0, False, False, common

    pair = Pair(lambda: DummyVecEnv([lambda i=i: Sharing(i, forms=iter([(0, 0, 0, 0, 0)] * 9)) for i in range(3)]))
    pair.run(2)
    infos = pair.kept[1][-1][3]
    assert infos[0] is infos[1] is infos[2]
    assert infos[0] is not common


def test_an_info_that_holds_all_infos_is_copied_with_them() -> None:
    pair = Pair(lambda: DummyVecEnv([lambda i=i: Hostile(i, forms=iter([(0, 0, 0, 0, 1)] * 9)) for i in range(2)]))
    for env in pair.envs:
        env.envs[0].own_info["all"] = env.buf_infos
    pair.run(2)
    infos = pair.kept[1][-1][3]
    assert infos[0]["all"] is infos


class Breaking(Hostile):
    """Breaks in one way at its third step."""

    def __init__(self, index: int, how: str) -> None:
        super().__init__(index, forms=iter([(0, 0, 0, 0, 2)] * 99))
        self.how, self.index, self.steps, self.is_broken = how, index, 0, False

    def reset(self, **kwargs: Any) -> Any:
        if self.is_broken:
            raise RuntimeError("broken in reset")
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        self.steps += 1
        if self.index != 1 or self.steps != 3:
            return observation, reward, terminated, truncated, info
        self.is_broken = self.how == "reset"
        if self.how == "step":
            raise RuntimeError("broken in step")
        return {
            "too few": (observation, reward, terminated, info),
            "reset": (observation, reward, True, False, info),
            "reward": (observation, [1.0, 2.0], True, False, info),
            "flag": (observation, reward, np.array([True, False]), False, info),
            "no info": (observation, reward, False, True, None),
            "observation": (np.zeros(4), reward, False, False, info),
            "no copy": (observation, reward, False, True, {"generator": (item for item in ())}),
        }[self.how]


@pytest.mark.parametrize("how", ["step", "too few", "reset", "reward", "flag", "no info", "observation", "no copy"])
@pytest.mark.parametrize("with_statistics", [False, True])
def test_an_environment_that_breaks_leaves_what_it_leaves_with_sb3(how: str, with_statistics: bool) -> None:
    def make() -> VecEnv:
        return DummyVecEnv([lambda index=index: Breaking(index, how) for index in range(3)])

    pair = Pair(normalized(make) if with_statistics else make).run(6)
    assert len(pair.kept[0]) < 7, "nothing broke"


@pytest.mark.parametrize("n_envs", [1, 2, 9])
@pytest.mark.parametrize(
    "change",
    [
        {"training": False},
        {"norm_obs": False},
        {"norm_reward": False},
        {"norm_obs": False, "norm_reward": False, "training": False},
        {"clip_obs": 0.5, "clip_reward": 0.25, "gamma": 0.5, "epsilon": 1e-2},
        {"clip_obs": np.float32(0.7), "clip_reward": 1},
    ],
)
def test_changed_settings_of_normalization_act_from_the_next_step(change: dict[str, Any], n_envs: int) -> None:
    pair = Pair(lambda: VecNormalize(make_vec_env("Pendulum-v1", n_envs, seed=0))).run(5)
    for env in pair.envs:
        for name, value in change.items():
            setattr(env, name, value)
    pair.run(10)


@pytest.mark.parametrize(
    ("dtype", "size"), [(np.float32, (3,)), (np.float16, (3,)), (np.int64, (3,)), (np.float64, (1,))]
)
def test_statistics_put_in_by_hand_are_updated_as_with_sb3(dtype: Any, size: tuple[int, ...]) -> None:
    pair = Pair(lambda: VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0))).run(3)
    for env in pair.envs:
        for statistics, shape in ((env.obs_rms, size), (env.ret_rms, ())):
            statistics.mean, statistics.var = np.ones(shape, dtype), np.ones(shape, dtype)
    pair.run(3)


class Doubling(RunningMeanStd):
    """Statistics of its own."""

    def update(self, arr: np.ndarray) -> None:
        super().update(2 * arr)


def test_statistics_of_another_class_are_asked() -> None:
    pair = Pair(lambda: VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0))).run(3)
    for env in pair.envs:
        env.obs_rms, env.ret_rms = Doubling(shape=(3,)), Doubling(shape=())
    pair.run(3)


def rewards_of_seven(env: VecEnv) -> VecEnv:
    """Replace a method of one environment."""
    step_wait = env.step_wait
    env.step_wait = lambda: (*step_wait()[:1], np.full(2, 7.0), *step_wait()[2:])
    return env


class OwnDummy(DummyVecEnv):
    """Steps in a way of its own."""

    def step_wait(self) -> Any:
        obs, _, dones, infos = super().step_wait()
        return obs, np.full(2, 7.0), dones, infos


class OwnNormalize(VecNormalize):
    """Normalizes in a way of its own."""

    def normalize_reward(self, reward: np.ndarray) -> np.ndarray:
        return np.full(2, 7.0)


def plain(observations: Any = VECTOR) -> VecEnv:
    return DummyVecEnv([lambda: SpaceEnv(observations, BOX)] * 2)


class Watched(DummyVecEnv):
    """Has something of its own between the steps."""

    @property
    def envs(self) -> list[gym.Env]:
        return self.watched[::-1]

    @envs.setter
    def envs(self, envs: list[gym.Env]) -> None:
        self.watched = envs


class Aside(DummyVecEnv):
    """Changes what is returned in a helper."""

    def _obs_from_buf(self) -> Any:
        return super()._obs_from_buf() + 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: rewards_of_seven(plain()),
        lambda: VecNormalize(rewards_of_seven(plain()), norm_reward=False),
        lambda: OwnDummy([lambda: SpaceEnv(VECTOR, BOX)] * 2),
        lambda: VecNormalize(OwnDummy([lambda: SpaceEnv(VECTOR, BOX)] * 2), norm_reward=False),
        lambda: OwnNormalize(plain()),
        lambda: rewards_of_seven(VecNormalize(plain())),
    ],
)
def test_steps_that_are_not_sb3s_stay_what_they_are(make: Callable[[], VecEnv]) -> None:
    env = make()
    env.reset()
    _, rewards, _, _ = lean_step(env)(np.zeros((2, 2), np.float32))
    assert rewards.tolist() == [7.0, 7.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: plain(DICT),
        lambda: VecNormalize(plain(DICT), norm_obs_keys=["position"]),
        lambda: VecMonitor(plain()),
        lambda: VecNormalize(VecMonitor(plain())),
        lambda: VecNormalize(VecNormalize(plain())),
        lambda: Watched([lambda: SpaceEnv(VECTOR, BOX)] * 2),
        lambda: Aside([lambda: SpaceEnv(VECTOR, BOX)] * 2),
    ],
)
def test_what_is_not_known_steps_itself(make: Callable[[], VecEnv]) -> None:
    env = make()
    assert lean_step(env) == env.step


def test_a_method_replaced_on_sb3s_class_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    env = plain()
    env.reset()
    monkeypatch.setattr(DummyVecEnv, "_obs_from_buf", lambda self: "replaced")
    assert lean_step(env)(np.zeros((2, 2), np.float32))[0] == "replaced"
