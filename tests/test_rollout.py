"""The array engine's rollout does with any environment, callback and buffer what SB3's loop does, which torch runs.

Equal are what the buffer holds, up to float rounding; what callbacks see, types and dtypes included; the figures of
episodes; and where SB3 raises, the error.
"""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from helpers import ARRAY_ENGINES, mostly_slow
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants import ClipPPO

BUFFER = ("observations", "actions", "rewards", "episode_starts", "values", "log_probs", "advantages", "returns")
N_STEPS = 12
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim", "ignore:invalid value encountered")

Results = tuple[Any, Any, Any, Any]


class Batched(VecEnv):
    """Three environments that end now and then, by a time limit or not; ``distort`` makes of a step what it likes."""

    def __init__(
        self,
        distort: Callable[..., Results] = lambda *results: results,
        observations: spaces.Box | None = None,
        actions: spaces.Space[Any] | None = None,
    ) -> None:
        observations = spaces.Box(-4, 4, (3,), np.float32) if observations is None else observations
        self.rng = np.random.default_rng(0)
        self.distort = distort
        super().__init__(3, observations, spaces.Discrete(3) if actions is None else actions)

    def _observe(self) -> np.ndarray:
        space = self.observation_space
        return (self.rng.normal(size=(3, *space.shape)) * 3 + (0 if space.dtype.kind in "fi" else 20)).astype(
            space.dtype
        )

    def reset(self) -> np.ndarray:
        return self._observe()

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> Any:
        rewards = (self.actions.reshape(3, -1).sum(axis=1) + self.rng.normal(size=3)).astype(np.float32)
        dones = self.rng.random(3) < 0.3
        infos = [self._info(done) for done in dones]
        return self.distort(self._observe(), rewards, dones, infos)

    def _info(self, done: bool) -> dict[str, Any]:
        if not done:
            return {}
        ending = {"terminal_observation": self._observe()[0], "TimeLimit.truncated": bool(self.rng.random() < 0.7)}
        return ending | {"episode": {"r": self.rng.random(), "l": 3}, "is_success": True}

    def close(self) -> None:
        pass

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [wrapper_class is Monitor] * 3

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        raise NotImplementedError

    def get_attr(self, attr_name: str, indices: Any = None) -> list[None]:
        return [None] * 3

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError


class Watching(BaseCallback):
    """Keeps what its locals are, and interferes."""

    def __init__(self, interfere: Callable[[Any, dict[str, Any]], Any] = lambda model, seen: True) -> None:
        super().__init__()
        self.interfere, self.seen = interfere, []

    def _on_step(self) -> bool:
        self._keep()
        return self.interfere(self.model, self.locals) is not False

    def _on_rollout_end(self) -> None:
        self._keep()

    def _keep(self) -> None:
        ours = ("self", "env", "callback", "rollout_buffer")
        self.seen.append({name: _described(value) for name, value in self.locals.items() if name not in ours})


def _described(value: Any) -> Any:
    if isinstance(value, (np.ndarray, th.Tensor, np.generic)):
        numbers = value.numpy() if isinstance(value, th.Tensor) else value
        return (type(value), value.dtype, tuple(value.shape), np.array(numbers))
    return (type(value), len(value)) if isinstance(value, (list, tuple, dict)) else (type(value),)


def collect(
    engine: str,
    make: Callable[[], VecEnv],
    callback: MaybeCallback,
    *,
    prepare: Callable[[ClipPPO], Any] = lambda model: None,
    cls: type[ClipPPO] = ClipPPO,
    make_buffer: Callable[[], RolloutBuffer] | None = None,
    n_rollout_steps: int = N_STEPS,
) -> dict[str, Any]:
    """Collect two rollouts; return all that they leave."""
    model = cls("MlpPolicy", make(), n_steps=N_STEPS, batch_size=N_STEPS, seed=3, device="cpu", engine=engine)
    _, callbacks = model._setup_learn(10_000, callback)
    prepare(model)
    buffer = model.rollout_buffer if make_buffer is None else make_buffer()
    results: list[Any] = []
    for _ in range(2):
        try:
            results.append(model.collect_rollouts(model.env, callbacks, buffer, n_rollout_steps))
        except Exception as error:
            results.append((type(error), str(error)))
    return {
        "results": results,
        "buffer": {name: getattr(buffer, name) for name in BUFFER},
        "positions": (buffer.pos, buffer.full, model.num_timesteps),
        "last": (_described(model._last_obs), _described(model._last_episode_starts)),
        "episodes": ([episode | {"t": 0} for episode in model.ep_info_buffer], list(model.ep_success_buffer)),
        "training mode": model.policy.training,
        "next draw": th.rand(1).item(),
    }


def assert_equal_rollouts(
    make: Callable[[], VecEnv], watching: Callable[[], Watching] = Watching, **arguments: Any
) -> dict[str, Any]:
    """Collect with SB3's loop and with every array engine; return what SB3's leaves."""
    callback = watching()
    expected = collect("torch", make, callback, **arguments)
    for engine in ARRAY_ENGINES:
        other = watching()
        assert_alike(collect(engine, make, other, **arguments), expected)
        assert len(other.seen) == len(callback.seen)
        for ours, theirs in zip(other.seen, callback.seen, strict=True):
            assert_alike({name: ours[name] for name in theirs}, theirs)
        if watching is Watching:  # without a callback, whose locals are left out then
            assert_alike(collect(engine, make, None, **arguments), expected)
    return expected


def assert_alike(ours: Any, theirs: Any) -> None:
    """Assert equality of everything but the last digits of floats."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert_alike(ours[name], value)
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_alike(one, other)
    elif isinstance(theirs, np.ndarray) and theirs.dtype.kind in "fiub":
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    else:
        assert np.array_equal(ours, theirs), (ours, theirs)


def distorted(**changes: Callable[[Any], Any]) -> Callable[..., Results]:
    """Return what changes some of a step's results."""

    def distort(obs: Any, rewards: Any, dones: Any, infos: Any) -> Any:
        results = {"obs": obs, "rewards": rewards, "dones": dones, "infos": infos}
        return tuple(changes[name](value) if name in changes else value for name, value in results.items())

    return distort


def _infos_where_done(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    last = max((index for index, info in enumerate(infos) if info), default=0)
    return infos[: last + 1]


def _terminal(make: Callable[[Any], Any]) -> Callable[..., Results]:
    def change(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = make(info["terminal_observation"])
        return infos

    return distorted(infos=change)


class Own(np.ndarray):
    """An array of another class."""


HARMLESS: dict[str, Callable[..., Results]] = {
    "nothing": distorted(),
    "fewer infos": distorted(infos=_infos_where_done),
    "infos as a tuple": distorted(infos=tuple),
    "episode without an end": distorted(infos=lambda infos: [{"episode": {"r": 1.0}, "is_success": 1} for _ in infos]),
    "no terminal observation": _terminal(lambda obs: None),
    "terminal observation as a list": _terminal(lambda obs: obs.tolist()),
    "terminal observation as a tuple": _terminal(tuple),
    "terminal observation in float64": _terminal(lambda obs: obs.astype(np.float64)),
    "terminal observation of integers": _terminal(lambda obs: [1, 2, 3]),
    "several terminal observations": _terminal(lambda obs: np.stack([obs, obs + 1])),
    "integer rewards": distorted(rewards=lambda rewards: rewards.astype(np.int64)),
    "float64 rewards": distorted(rewards=lambda rewards: rewards.astype(np.float64)),
    "float16 rewards": distorted(rewards=lambda rewards: rewards.astype(np.float16)),
    "dones of integers": distorted(dones=lambda dones: dones.astype(np.int64)),
    "dones of floats": distorted(dones=lambda dones: dones.astype(np.float64)),
    "observations in float64": distorted(obs=lambda obs: obs.astype(np.float64)),
    "observations of integers": distorted(obs=lambda obs: obs.astype(np.int32)),
    "observations in float16": distorted(obs=lambda obs: obs.astype(np.float16)),
    "observations in Fortran's order": distorted(obs=np.asfortranarray),
    "every second row of a larger array": distorted(obs=lambda obs: np.repeat(obs, 2, axis=0)[::2]),
    "observations of a subclass": distorted(obs=lambda obs: obs.view(Own)),
}


@pytest.mark.parametrize("distort", HARMLESS.values(), ids=HARMLESS)
def test_what_sb3_takes_from_an_environment_is_taken(distort: Callable[..., Results]) -> None:
    outcome = assert_equal_rollouts(lambda: Batched(distort))
    assert outcome["results"] == [True, True]


BROKEN: dict[str, Callable[..., Results]] = {
    "no info of an ended episode": distorted(infos=lambda infos: infos[:1]),
    "too many infos": distorted(infos=lambda infos: [{"is_success": True}] * 4),
    "info that is None": distorted(infos=lambda infos: [None] * 3),
    "terminal observation too long": _terminal(lambda obs: [1.0] * 4),
    "terminal observation that is a dictionary": _terminal(lambda obs: {"position": obs}),
    "terminal observation of text": _terminal(lambda obs: ["a", "b", "c"]),
    "rewards of two dimensions": distorted(rewards=lambda rewards: rewards[:, None]),
    "rewards as a list": distorted(rewards=lambda rewards: rewards.tolist()),
    "too few rewards": distorted(rewards=lambda rewards: rewards[:2]),
    "dones as a list": distorted(dones=lambda dones: dones.tolist()),
    "dones of two dimensions": distorted(dones=lambda dones: dones[:, None]),
    "observations too long": distorted(obs=lambda obs: np.concatenate([obs, obs], axis=1)),
    "too few observations": distorted(obs=lambda obs: obs[:1]),
    "too many observations": distorted(obs=lambda obs: np.concatenate([obs, obs])),
    "observations of one dimension more": distorted(obs=lambda obs: obs[:, :, None]),
    "one observation without its batch": distorted(obs=lambda obs: obs[0]),
    "observations as a list": distorted(obs=lambda obs: obs.tolist()),
    "observations as a tuple": distorted(obs=tuple),
    "observations as a dictionary": distorted(obs=lambda obs: {"position": obs}),
    "observations of objects": distorted(obs=lambda obs: obs.astype(object)),
    "backward observations": distorted(obs=lambda obs: obs[::-1]),
    "observations in the other byte order": distorted(obs=lambda obs: obs.astype(">f4")),
    "no observations": distorted(obs=lambda obs: None),
}


@pytest.mark.parametrize("distort", BROKEN.values(), ids=BROKEN)
def test_what_sb3_refuses_is_refused_with_its_error(distort: Callable[..., Results]) -> None:
    outcome = assert_equal_rollouts(lambda: Batched(distort))
    assert isinstance(outcome["results"][0], tuple), "nothing was refused"


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [(dtype, (2, 3)) for dtype in (np.float32, np.float64, np.float16, np.uint8, np.int16, np.int64)]
    + [(np.float64, (1,)), (np.float32, (4, 1, 2))],
)
def test_observations_of_every_type_are_stored_as_with_sb3(dtype: Any, shape: tuple[int, ...]) -> None:
    assert_equal_rollouts(lambda: Batched(observations=spaces.Box(0, 40, shape, dtype)))


@pytest.mark.parametrize(
    "actions",
    [
        spaces.Discrete(3),
        spaces.Discrete(3, start=5),
        spaces.MultiDiscrete([3, 2]),
        spaces.MultiBinary(4),
        spaces.Box(-0.1, 0.1, (2,), np.float32),
        spaces.Box(-0.1, 0.2, (2,), np.float64),
        spaces.Box(-1, 2, (2,), np.int32),
        spaces.Box(np.array([0, -3], np.float32), np.array([3, 0.5], np.float32)),
        spaces.Box(-1, 1, (2, 3), np.float32),
    ],
    ids=str,
)
def test_actions_of_every_space_reach_environment_and_buffer_as_with_sb3(actions: spaces.Space[Any]) -> None:
    """And an environment that writes into its actions changes in the buffer what it changes with SB3."""

    class Spoiling(Batched):
        def step_wait(self) -> Any:
            results = super().step_wait()
            self.actions[0] = 0
            return results

    assert_equal_rollouts(lambda: Spoiling(actions=actions))


def _replace_last_obs(model: Any, seen: dict[str, Any]) -> None:
    model._last_obs = np.full((3, 3), 0.5, np.float32)


def _change_in_place(model: Any, seen: dict[str, Any]) -> None:
    for name in ("obs_tensor", "values", "log_probs", "new_obs", "rewards", "actions"):
        seen[name][0] = 1


def _replace_episode_starts(model: Any, seen: dict[str, Any]) -> None:
    model._last_episode_starts = [True, False, True]


def _change_parameters(model: Any, seen: dict[str, Any]) -> None:
    with th.no_grad():
        model.policy.value_net.bias += 1
        model.policy.action_net.bias[0] += 0.5


def _change_gamma(model: Any, seen: dict[str, Any]) -> None:
    model.gamma *= 0.9


def _end_training(model: Any, seen: dict[str, Any]) -> bool:
    return model.num_timesteps < 40


def _raise_later(model: Any, seen: dict[str, Any]) -> None:
    if model.num_timesteps == 30:
        raise RuntimeError("a callback's own")


def _move_in_the_buffer(model: Any, seen: dict[str, Any]) -> None:
    if model.rollout_buffer.pos == 5:
        model.rollout_buffer.pos = 3


@pytest.mark.parametrize(
    "interfere",
    [
        _replace_last_obs,
        _change_in_place,
        _replace_episode_starts,
        _change_parameters,
        _change_gamma,
        _end_training,
        _raise_later,
        _move_in_the_buffer,
    ],
)
def test_a_callback_that_interferes_changes_what_it_changes_with_sb3(interfere: Callable[..., Any]) -> None:
    assert_equal_rollouts(Batched, lambda: Watching(interfere))


def test_a_function_as_callback_is_told_of_every_step() -> None:
    """SB3 wraps it as it wraps no callback at all."""
    seen: list[list[Any]] = []
    for engine in ("torch", *ARRAY_ENGINES):
        steps: list[Any] = []

        def remember(locals_: dict[str, Any], globals_: dict[str, Any], steps: list[Any] = steps) -> bool:
            steps.append([_described(locals_[name]) for name in ("obs_tensor", "values", "log_probs", "new_obs")])
            return True

        collect(engine, lambda: Batched(distorted()), remember)
        seen.append(steps)
    assert len(seen[0]) == 2 * N_STEPS
    for ours in seen[1:]:
        assert_alike(ours, seen[0])


def test_a_callback_without_a_function_counts_its_calls() -> None:
    counts = set()
    for engine in ("torch", *ARRAY_ENGINES):
        callback = ConvertCallback(None)
        collect(engine, lambda: Batched(distorted()), callback)
        counts.add((callback.n_calls, callback.num_timesteps))
    assert counts == {(2 * N_STEPS, 2 * N_STEPS * 3)}


class AtTheStart(Watching):
    """Interferes before the first step."""

    def _on_rollout_start(self) -> None:
        _replace_last_obs(self.model, {})
        parameter = self.model.policy.action_net.bias
        parameter.data = th.arange(float(len(parameter)))


def test_a_callback_at_the_start_acts_on_the_first_step() -> None:
    outcome = assert_equal_rollouts(Batched, AtTheStart)
    assert (outcome["buffer"]["observations"][0] == 0.5).all()


def other_buffer(cls: type[RolloutBuffer] = RolloutBuffer, n_envs: int = 3, size: int = N_STEPS) -> RolloutBuffer:
    space = spaces.Box(-4, 4, (3,), np.float32)
    return cls(size, space, spaces.Discrete(3), "cpu", gae_lambda=0.9, gamma=0.8, n_envs=n_envs)


class Doubling(RolloutBuffer):
    """Stores in a way of its own."""

    def add(self, obs: Any, action: Any, reward: Any, *rest: Any) -> None:
        super().add(obs, action, 2 * reward, *rest)


@pytest.mark.parametrize("n_rollout_steps", [N_STEPS - 5, N_STEPS, N_STEPS + 1, 0])
@pytest.mark.parametrize("n_envs", [1, 2, 3])
def test_a_buffer_of_another_size_is_filled_or_refused_as_with_sb3(n_rollout_steps: int, n_envs: int) -> None:
    def buffer() -> RolloutBuffer:
        return other_buffer(n_envs=n_envs)

    assert_equal_rollouts(Batched, make_buffer=buffer, n_rollout_steps=n_rollout_steps)


def test_a_buffer_of_another_class_stores_in_its_own_way() -> None:
    outcome = assert_equal_rollouts(Batched, make_buffer=lambda: other_buffer(Doubling))
    plain = collect("torch", Batched, Watching(), make_buffer=other_buffer)
    np.testing.assert_array_equal(outcome["buffer"]["rewards"], 2 * plain["buffer"]["rewards"])


def test_without_a_first_observation_the_error_is_sb3s() -> None:
    outcome = assert_equal_rollouts(Batched, prepare=lambda model: setattr(model, "_last_obs", None))
    assert "No previous observation" in str(outcome["results"][0])


def test_a_model_that_counts_episodes_itself_is_told_of_every_step() -> None:
    class Counting(ClipPPO):
        calls = 0

        def _update_info_buffer(self, infos: Any, dones: Any = None) -> None:
            self.calls += 1
            super()._update_info_buffer(infos, dones)
            self.num_timesteps += 1

    assert_equal_rollouts(Batched, cls=Counting)


class Forms(gym.Env[Any, Any]):
    """Returns its observations in some form."""

    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, form: Callable[[list[float]], Any]) -> None:
        self.form = form

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.form([0.0, 0.0, 0.0]), {}

    def step(self, action: Any) -> Any:
        return self.form([0.1, 0.2, 0.1 * float(action)]), 1, False, False, {"is_success": True}


@pytest.mark.parametrize("form", [list, tuple, np.array, np.float32, lambda values: np.array(values, np.float16)])
@pytest.mark.parametrize("n_envs", mostly_slow([1, 3], [3]))
def test_environments_that_speak_in_lists_and_end_by_a_time_limit_are_bootstrapped(form: Any, n_envs: int) -> None:
    outcome = assert_equal_rollouts(lambda: make_vec_env(lambda: TimeLimit(Forms(form), 5), n_envs))
    assert len(outcome["episodes"][0]) >= 2
    assert (outcome["buffer"]["rewards"] != 1).any(), "nothing was bootstrapped"


def test_a_buffer_that_is_not_full_is_not_learned_from() -> None:
    """SB3 asserts it where it reads the buffer."""
    for engine in ("torch", *ARRAY_ENGINES):
        model = ClipPPO(
            "MlpPolicy", Batched(), n_steps=N_STEPS, batch_size=N_STEPS, seed=3, device="cpu", engine=engine
        )
        _, callbacks = model._setup_learn(10_000)
        model.collect_rollouts(model.env, callbacks, model.rollout_buffer, N_STEPS - 1)
        with pytest.raises(AssertionError):
            model.train()
