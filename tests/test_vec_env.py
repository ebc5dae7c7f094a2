"""GymVectorEnv: what SB3 sees of a vector environment is what DummyVecEnv shows of the same environments."""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import (
    AsyncVectorEnv,
    AutoresetMode,
    SyncVectorEnv,
    VectorEnv,
    VectorObservationWrapper,
    VectorWrapper,
)
from gymnasium.wrappers import ClipReward, TimeLimit
from helpers import differing, mostly_slow, tensors_of
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecEnv, VecFrameStack, VecMonitor, VecNormalize
from vector_envs import OBSERVATIONS, Clocks, Gates, SayingGates, Walk, assert_same, assert_same_steps

from sb3_ppo_variants import ClipPPO, MaskableClipPPO, MaskableRecurrentClipPPO
from sb3_ppo_variants.evaluation import MaskedEvalCallback, evaluate_policy
from sb3_ppo_variants.experiment import Experiment
from sb3_ppo_variants.vec_env import GymVectorEnv

MODES = [mode.value for mode in AutoresetMode]
SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "seed": 5, "device": "cpu"}


def dummy(make: Callable[[], gym.Env[Any, Any]], n_envs: int = 3) -> VecEnv:
    env = make_vec_env(make, n_envs=n_envs)
    env.seed(11)
    return env


def sync(make: Callable[[], gym.Env[Any, Any]], n_envs: int = 3, **keywords: Any) -> GymVectorEnv:
    env = GymVectorEnv(SyncVectorEnv([make] * n_envs, **keywords))
    env.seed(11)
    return env


def parallel(make: Callable[[], gym.Env[Any, Any]], n_envs: int = 2, **keywords: Any) -> GymVectorEnv:
    env = GymVectorEnv(AsyncVectorEnv([make] * n_envs, **keywords))
    env.seed(11)
    return env


# Equal to DummyVecEnv ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "LunarLander-v3", "Hopper-v5"])
def test_steps_of_known_environments_are_those_of_dummy_vec_env(env_id: str) -> None:
    make = partial(gym.make, env_id, max_episode_steps=60)
    ends = assert_same_steps(sync(make), dummy(make), 130)
    assert ends
    assert any(end["TimeLimit.truncated"] for end in ends) or env_id in ("CartPole-v1", "Hopper-v5")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OBSERVATIONS)
def test_steps_with_any_observation_are_those_of_dummy_vec_env(name: str, mode: str) -> None:
    make = partial(Walk, OBSERVATIONS[name])
    ends = assert_same_steps(sync(make, autoreset_mode=mode), dummy(make), 30)
    assert {end["TimeLimit.truncated"] for end in ends} == {True, False}


@pytest.mark.parametrize(
    "keywords",
    mostly_slow(
        [{"autoreset_mode": mode} for mode in MODES]
        + [{"autoreset_mode": mode, "shared_memory": False} for mode in ("SameStep", "Disabled")],
        [{"autoreset_mode": "NextStep"}, {"autoreset_mode": "Disabled", "shared_memory": False}],
    ),
)
def test_steps_of_other_processes_are_those_of_dummy_vec_env(keywords: dict[str, Any]) -> None:
    assert assert_same_steps(parallel(Walk, **keywords), dummy(Walk, 2), 25)


@pytest.mark.parametrize("n_envs", [1, 2])
def test_wrappers_of_sb3_on_top_see_the_same(n_envs: int) -> None:
    def wrapped(env: VecEnv) -> VecEnv:
        return VecNormalize(VecFrameStack(VecMonitor(VecCheckNan(env, raise_exception=True)), 3), gamma=0.9)

    make = partial(gym.make, "CartPole-v1", max_episode_steps=20)
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
        ours, theirs = wrapped(sync(make, n_envs)), wrapped(dummy(make, n_envs))
    assert assert_same_steps(ours, theirs, 60)


def test_statistics_of_vec_normalize_are_saved_and_loaded(tmp_path: Path) -> None:
    env = VecNormalize(sync(partial(Walk, OBSERVATIONS["dict"]), 2), norm_obs_keys=["b"])
    env.reset()
    for _ in range(20):
        env.step(np.array([0, 1]))
    env.save(str(tmp_path / "statistics.pkl"))
    again = VecNormalize.load(str(tmp_path / "statistics.pkl"), sync(partial(Walk, OBSERVATIONS["dict"]), 2))
    observations = again.venv.reset()
    assert_same(again.normalize_obs(observations), env.normalize_obs(observations))
    assert again.obs_rms["b"].count > 40


@pytest.mark.parametrize("seeds", [(3,), (3, 3), (3, None), (np.int64(3),)])
def test_seeds_count_up_and_are_used_once(seeds: tuple[Any, ...]) -> None:
    make = partial(gym.make, "CartPole-v1")
    ours, theirs = sync(make), dummy(make)
    for seed in seeds:
        if seed is not None:
            assert ours.seed(seed) == theirs.seed(int(seed)) == [3, 4, 5]
        assert_same(ours.reset(), theirs.reset())


@pytest.mark.parametrize(
    "options",
    [{"start": 5.0}, [{"start": 1.0}, {}, {"start": 3.0}], [{}, {}, {}], None],
    ids=["one", "each", "empty", "none"],
)
@pytest.mark.parametrize("mode", mostly_slow(MODES, ["SameStep"]))
def test_options_are_used_once(options: Any, mode: str) -> None:
    ours, theirs = sync(Walk, autoreset_mode=mode), dummy(Walk)
    for env in (ours, theirs):
        env.set_options(options)
    assert assert_same_steps(ours, theirs, 30)


def test_options_for_each_follow_earlier_resets() -> None:
    ours, theirs = sync(Walk), dummy(Walk)
    for _ in range(2):
        assert_same(ours.reset(), theirs.reset())
    for env in (ours, theirs):
        env.set_options([{"start": 1.0}, {}, {}])
    assert_same(ours.reset(), theirs.reset())
    assert_same(ours.reset_infos, theirs.reset_infos)


def test_what_was_returned_does_not_change_later() -> None:
    env = sync(partial(gym.make, "CartPole-v1"), copy=False)
    first = env.reset()
    kept = first.copy()
    _, rewards, dones, _ = env.step(np.array([0, 1, 0]))
    kept_step = rewards.copy(), dones.copy()
    for _ in range(30):
        env.step(np.array([0, 1, 0]))
    assert_same([first, rewards, dones], [kept, *kept_step])


def test_infos_that_were_returned_do_not_change_later() -> None:
    trail: list[int] = []

    class Trailing(Walk):
        def step(self, action: Any) -> Any:
            *step, info = super().step(action)
            trail.append(self.steps)
            return *step, info | {"trail": trail}

    env = sync(Trailing, 1)
    env.reset()
    *_, (info,) = env.step(np.array([0]))
    env.step(np.array([0]))
    assert info["trail"] == [1]
    assert len(trail) == 2


def test_a_monitor_below_another_wrapper_is_the_one_that_counts() -> None:
    make = partial(lambda: ClipReward(Monitor(Walk()), 0.0, 0.1))
    theirs = DummyVecEnv([make] * 2)
    theirs.seed(11)
    assert assert_same_steps(sync(make, 2), theirs, 30)


def test_images_are_tiled_as_by_dummy_vec_env() -> None:
    make = partial(Walk, render_mode="rgb_array")
    ours, theirs = sync(make), dummy(make)
    for env in (ours, theirs):
        env.reset()
        env.step(np.array([0, 0, 0]))
    assert ours.render_mode == "rgb_array"
    assert_same(ours.render(), theirs.render())


def test_without_a_render_mode_there_are_no_images() -> None:
    env = sync(Walk)
    with pytest.warns(UserWarning, match="no `render_mode`"):
        assert env.render() is None
    with pytest.warns(UserWarning, match="only 'rgb_array'"):
        assert env.get_images() == [None, None, None]


# Models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["torch", "numpy"])
@pytest.mark.parametrize(("env_id", "mode"), [("CartPole-v1", "NextStep"), ("Pendulum-v1", "SameStep")])
def test_a_model_learns_the_same_bits_as_through_dummy_vec_env(env_id: str, mode: str, engine: str) -> None:
    kwargs: dict[str, Any] = {"max_episode_steps": 15}  # many time limits, whose values are bootstrapped
    theirs = ClipPPO("MlpPolicy", make_vec_env(env_id, 2, env_kwargs=kwargs), **SMALL, engine=engine).learn(192)
    env = gym.make_vec(env_id, 2, "sync", {"autoreset_mode": mode}, **kwargs)
    ours = ClipPPO("MlpPolicy", env, **SMALL, engine=engine).learn(192)
    assert differing(tensors_of(ours), tensors_of(theirs)) == []
    for info in (*ours.ep_info_buffer, *theirs.ep_info_buffer):
        del info["t"]
    assert ours.ep_info_buffer == theirs.ep_info_buffer
    assert len(ours.ep_info_buffer) > 4


def test_a_model_is_saved_loaded_and_given_other_vector_environments(tmp_path: Path) -> None:
    model = ClipPPO("MlpPolicy", gym.make_vec("CartPole-v1", 2), **SMALL).learn(64)
    model.save(tmp_path / "model")
    for set_env in (True, False):
        env = gym.make_vec("CartPole-v1", 2, "sync")
        again = ClipPPO.load(tmp_path / "model", env=None if set_env else env, device="cpu")
        if set_env:
            again.set_env(env)
        again.learn(64, reset_num_timesteps=False)
        assert again.num_timesteps == 128
        assert isinstance(again.get_env(), GymVectorEnv)
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        again.set_env(gym.make_vec("Pendulum-v1", 2))


def test_images_of_a_vector_environment_are_transposed() -> None:
    env = SyncVectorEnv([partial(Walk, spaces.Box(0, 255, (36, 36, 3), np.uint8))] * 2)
    model = ClipPPO("CnnPolicy", env, n_steps=4, batch_size=8, n_epochs=1, device="cpu").learn(8)
    assert model.observation_space.shape == (3, 36, 36)


def test_evaluation_takes_vector_environments() -> None:
    model = ClipPPO("MlpPolicy", gym.make_vec("CartPole-v1", 2), **SMALL)
    callback = MaskedEvalCallback(gym.make_vec("CartPole-v1", 2, "sync"), eval_freq=16, n_eval_episodes=2, verbose=0)
    model.learn(64, callback)
    assert callback.last_mean_reward > 1
    results = [
        evaluate_policy(model, env, n_eval_episodes=4, return_episode_rewards=True)
        for env in (sync(partial(gym.make, "CartPole-v1")).env, dummy(partial(gym.make, "CartPole-v1")))
    ]
    assert len(results[0][0]) == len(results[1][0]) == 4


# When sub-environments reset -----------------------------------------------------------------------------------------


def test_carts_begin_anew_at_once_and_the_others_roll_on() -> None:
    env = GymVectorEnv(gym.make_vec("CartPole-v1", 4, "vector_entry_point", max_episode_steps=25))
    env.seed(1)
    before = env.reset()
    lengths = np.zeros(4, dtype=int)
    truncated = 0
    for step in range(200):
        after, rewards, dones, infos = env.step(np.array([0, 1, step % 2, step // 2 % 2]))
        lengths += 1
        np.testing.assert_array_equal(rewards, 1)  # a step spent on a reset has the reward 0
        ends = np.array([info.get("terminal_observation", after[i]) for i, info in enumerate(infos)])
        # The cart moves on by its speed: no cart was lost or swapped
        np.testing.assert_allclose(ends[:, 0], before[:, 0] + 0.02 * before[:, 1], atol=1e-6)
        assert (np.abs(after[dones]) <= 0.05).all()
        for index in np.flatnonzero(dones):
            assert infos[index]["episode"]["l"] == infos[index]["episode"]["r"] == lengths[index]
            truncated += infos[index]["TimeLimit.truncated"]
        lengths[dones] = 0
        before = after
    assert truncated > 2
    assert before.flags.c_contiguous


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
@pytest.mark.parametrize("resets", ["masked", "masked rows only"])
def test_an_unknown_environment_that_resets_single_ones_loses_no_step(resets: str, mode: AutoresetMode) -> None:
    env = GymVectorEnv(Clocks(resets, mode))
    number, age = env.reset().T
    for _ in range(20):
        observations, rewards, dones, infos = env.step(np.zeros(3, dtype=int))
        age += 1
        np.testing.assert_array_equal(rewards, 1)
        np.testing.assert_array_equal(dones, age == [2, 3, 4])
        for index in np.flatnonzero(dones):
            np.testing.assert_array_equal(infos[index]["terminal_observation"], [number[index], age[index]])
            np.testing.assert_array_equal(infos[index]["clock"], [number[index], age[index]])
            assert infos[index]["TimeLimit.truncated"]
            assert env.reset_infos[index] == {"episode_number": number[index] + 1, "makers": list("ABCD")}
        number[dones] += 1
        age[dones] = 0
        np.testing.assert_array_equal(observations, np.stack([number, age], axis=1))


def test_a_single_environment_needs_no_masks() -> None:
    env = GymVectorEnv(Clocks("refuses", num_envs=1))
    env.reset()
    ages = [env.step(np.zeros(1, dtype=int))[0][0, 1] for _ in range(5)]
    assert ages == [1, 0, 1, 0, 1]


@pytest.mark.parametrize("resets", ["all", "refuses"])
def test_an_environment_whose_steps_are_lost_on_resets_is_refused(resets: str) -> None:
    with pytest.raises(ValueError, match=r"reset_mask.*SameStep.*'sync'"):
        ClipPPO("MlpPolicy", Clocks(resets))


def test_a_cart_pole_with_more_state_than_is_known_is_refused() -> None:
    class Windy(CartPoleVectorEnv):
        pass

    with pytest.raises(ValueError, match="reset_mask"):
        GymVectorEnv(Windy(2))


def test_an_environment_that_does_not_say_when_it_resets_is_refused() -> None:
    with pytest.raises(ValueError, match="autoreset_mode"):
        GymVectorEnv(Clocks("masked", None))


def test_processes_that_would_reset_twice_are_refused() -> None:
    env = AsyncVectorEnv([Walk], shared_memory=False)
    with pytest.raises(ValueError, match="shared_memory=True"):
        GymVectorEnv(env)
    env.close()


def test_a_last_observation_that_is_not_told_is_missed() -> None:
    env = GymVectorEnv(Clocks("masked", AutoresetMode.SAME_STEP))
    env.reset()
    env.step(np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match="final_obs"):
        env.step(np.zeros(3, dtype=int))


def test_envpool_loses_no_step() -> None:
    envpool = pytest.importorskip("envpool")
    env = GymVectorEnv(envpool.make("CartPole-v1", env_type="gymnasium", num_envs=3, seed=1))
    env.reset()
    lengths = np.zeros(3, dtype=int)
    ends = 0
    for step in range(200):
        observations, rewards, dones, infos = env.step(np.array([0, 1, step % 2]))
        lengths += 1
        np.testing.assert_array_equal(rewards, 1)
        assert [info["elapsed_step"] for info in infos] == lengths.tolist()
        assert (np.abs(observations[dones]) <= 0.05).all()
        lengths[dones] = 0
        ends += dones.sum()
    assert ends > 10


def test_steps_of_atari_games_do_not_depend_on_when_they_reset() -> None:
    ale_py = pytest.importorskip("ale_py")
    gym.register_envs(ale_py)
    keywords = {"max_num_frames_per_episode": 40, "frameskip": 8}
    # Both before either is adapted: what ale-py writes into the metadata of one, it writes into that of all
    vectors = [gym.make_vec("ALE/Pong-v5", 2, autoreset_mode=mode, **keywords) for mode in ("NextStep", "SameStep")]
    both = [GymVectorEnv(vector) for vector in vectors]
    for env in both:
        env.seed(3)
    late, same = both
    assert_same(late.reset(), same.reset())
    for step in range(12):
        (*ours, infos), (*theirs, their_infos) = (env.step(np.array([2, step % 6])) for env in both)
        assert_same(ours, theirs)
        for index in np.flatnonzero(ours[2]):
            for key in ("terminal_observation", "TimeLimit.truncated"):
                assert_same(infos[index][key], their_infos[index][key])
    for env in both:
        env.close()


# Masks, methods, attributes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "mode", "build"),
    mostly_slow(
        itertools.product([Gates, SayingGates], ["NextStep", "SameStep"], [sync, parallel]),
        [(Gates, "SameStep", sync), (SayingGates, "NextStep", sync), (Gates, "NextStep", parallel)],
    ),
)
def test_masks_are_those_of_the_moment(make: type[Walk], mode: str, build: Callable[..., GymVectorEnv]) -> None:
    env = build(make, autoreset_mode=mode)
    assert env.has_attr("action_masks")
    model = MaskableClipPPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, device="cpu")
    model.learn(32)  # an invalid action raises
    assert evaluate_policy(model, env.env, n_eval_episodes=2)
    env.close()


def test_masks_are_known_before_the_first_reset() -> None:
    model = MaskableRecurrentClipPPO("MlpLstmPolicy", sync(SayingGates).env, n_steps=16, batch_size=16, device="cpu")
    assert evaluate_policy(model, sync(SayingGates, 2), n_eval_episodes=2)


def test_masks_of_the_vector_environment_itself() -> None:
    class Open(Clocks):
        def action_masks(self) -> Any:
            return np.arange(2) != self.clocks[:, 1:] % 2

    env = GymVectorEnv(VectorWrapper(Open("masked")))
    env.reset()
    np.testing.assert_array_equal(env.env_method("action_masks", indices=[2, 0]), [[False, True], [False, True]])
    MaskableClipPPO("MlpPolicy", env, n_steps=8, batch_size=8, device="cpu").learn(24)


def test_an_environment_without_masks_has_none() -> None:
    for env in (sync(Walk), GymVectorEnv(Clocks("masked"))):
        assert not env.has_attr("action_masks")
        with pytest.raises(AttributeError, match="action_masks"):
            env.env_method("action_masks")


@pytest.mark.parametrize("build", [sync, parallel])
def test_methods_and_attributes_of_sub_environments(build: Callable[..., GymVectorEnv]) -> None:
    env = build(partial(lambda: TimeLimit(Walk(), 50)), 2)
    assert env.env_method("climb", 2, times=3) == [6, 6]
    assert env.get_attr("level") == [6, 6]
    assert env.get_attr("level", 1) == [6]
    assert callable(env.get_attr("climb")[0])
    env.set_attr("level", [1, 2])
    assert env.get_attr("level") == [[1, 2], [1, 2]]
    assert env.env_is_wrapped(TimeLimit) == [True, True]
    assert env.env_is_wrapped(ClipReward, indices=0) == [False]
    assert env.env_is_wrapped(Monitor) == [True, True]
    env.close()


@pytest.mark.parametrize("build", [sync, parallel])
def test_asking_for_what_is_missing_harms_nothing(build: Callable[..., GymVectorEnv]) -> None:
    env = build(partial(lambda: TimeLimit(Walk(), 50)), 2)
    assert env.has_attr("climb")
    assert not env.has_attr("descend")
    with pytest.raises(AttributeError, match="descend"):
        env.env_method("descend")
    with pytest.raises(AttributeError, match="depth"):
        env.get_attr("depth")
    env.reset()
    assert env.step(np.array([0, 0]))[1].shape == (2,)
    env.close()


def test_everything_is_closed() -> None:
    closed = []

    class Door(Walk):
        def close(self) -> None:
            closed.append(self)

    env = parallel(Door)
    closed.clear()
    env.env_is_wrapped(TimeLimit)  # makes them once more, in this process
    assert len(closed) == 2
    env.close()
    assert not any(process.is_alive() for process in env.env.processes)
    sync(Door).close()
    assert len(closed) == 5


def test_one_of_several_is_reached_where_it_can_be() -> None:
    env = sync(Walk)
    assert env.env_method("climb", 5, indices=[1]) == [5]
    env.set_attr("level", 7, indices=2)
    assert env.get_attr("level") == [0, 5, 7]
    other = parallel(Walk)
    for call in (partial(other.env_method, "climb", 5), partial(other.set_attr, "level", 5)):
        with pytest.raises(ValueError, match="only all together"):
            call(indices=[1])
    other.close()


def test_attributes_of_an_environment_without_sub_environments() -> None:
    env = GymVectorEnv(Clocks("masked"))
    env.reset()
    assert env.get_attr("resets") == ["masked"] * 3
    assert_same(env.get_attr("clocks", [1])[0], np.array([2, 0], dtype=np.float32))  # the first reset tried it out
    assert env.env_is_wrapped(TimeLimit) == [False] * 3
    with pytest.raises(ValueError, match="cannot be reached"):
        env.set_attr("resets", "all")


def test_wrappers_of_vector_environments_are_kept() -> None:
    class Doubled(VectorObservationWrapper[Any, Any, Any, Any]):
        def observations(self, observations: Any) -> Any:
            return observations * 2

    make = partial(Walk, OBSERVATIONS["box, float64"])
    theirs, plain = GymVectorEnv(Doubled(SyncVectorEnv([make] * 3))), sync(make)
    theirs.seed(11)
    assert_same(theirs.reset(), plain.reset() * 2)
    for _ in range(20):
        (observations, _, dones, infos), (expected, _, _, plain_infos) = (
            env.step(np.array([0, 1, 0])) for env in (theirs, plain)
        )
        assert_same(observations, expected * 2)
        for index in np.flatnonzero(dones):
            assert_same(infos[index]["terminal_observation"], plain_infos[index]["terminal_observation"] * 2)
    assert theirs.env_method("climb", 1) == [1, 1, 1]


# Hostile ------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*ERROR")  # gymnasium's report of a process that it ends
@pytest.mark.parametrize("build", [sync, parallel])
def test_an_error_of_a_sub_environment_comes_through(build: Callable[..., GymVectorEnv]) -> None:
    env = build(Walk, 2)
    env.set_attr("level", 13)
    env.reset()
    with pytest.raises(RuntimeError, match="haunted"):
        env.step(np.array([0, 2]))
    env.close()


@pytest.mark.parametrize("actions", [np.zeros(2), np.zeros((3, 1)), np.zeros(4), 0])
def test_actions_of_another_shape_are_refused(actions: Any) -> None:
    env = sync(Walk)
    env.reset()
    with pytest.raises(ValueError, match=r"shape .* takes \(3,\)"):
        env.step(actions)


def test_observations_of_another_shape_are_refused() -> None:
    clocks = Clocks("masked")
    clocks.single_observation_space = OBSERVATIONS["box, float64"]
    with pytest.raises(ValueError, match=r"3 environments with .* shape \(3, 2\)"):
        GymVectorEnv(clocks).reset()


@pytest.mark.parametrize(
    "space",
    [spaces.Dict({"a": spaces.Dict({"b": spaces.Discrete(2)})}), spaces.Text(3), spaces.Tuple((spaces.Text(3),))],
)
def test_observations_that_are_no_arrays_are_refused(space: spaces.Space[Any]) -> None:
    env: VectorEnv[Any, Any, Any] = SyncVectorEnv([partial(Walk, space)])
    with pytest.raises(ValueError, match="cannot be learnt from"):
        GymVectorEnv(env)


def test_options_for_each_need_sub_environments() -> None:
    env = GymVectorEnv(Clocks("masked"))
    env.set_options([{"start": 1.0}, {}, {}])
    with pytest.raises(ValueError, match="one dict"):
        env.reset()


# In zoo entries -----------------------------------------------------------------------------------------------------


def entry(vec_env: Any, env_id: str = "CartPole-v1", **more: Any) -> Experiment:
    return Experiment("clip_ppo", env_id, {"policy": "MlpPolicy", "n_envs": 2, "vec_env": vec_env, **more})


@pytest.mark.parametrize(
    "arguments", [{}, {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": "Disabled"}}]
)
def test_an_entry_with_vec_env_has_the_same_environments(arguments: dict[str, Any]) -> None:
    more = {
        "env_wrapper": {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 10}},
        "env_kwargs": {"g": 5.0},
        "normalize": True,
        "frame_stack": 2,
    }
    ours = entry({"gymnasium": arguments}, "Pendulum-v1", **more).make_env(seed=3)
    theirs = entry(None, "Pendulum-v1", **more).make_env(seed=3)
    assert isinstance(ours.unwrapped, GymVectorEnv)
    mode = AutoresetMode.DISABLED if arguments else AutoresetMode.NEXT_STEP
    assert ours.unwrapped.env.metadata["autoreset_mode"] is mode
    assert assert_same_steps(ours, theirs, 30)


@pytest.mark.parametrize(
    ("vec_env", "env_id", "kind"),
    [
        ("gymnasium", "CartPole-v1", CartPoleVectorEnv),
        ("gymnasium", "Pendulum-v1", SyncVectorEnv),
        ({"gymnasium": {"vectorization_mode": "sync"}}, "CartPole-v1", SyncVectorEnv),
        ({"gymnasium": {"vectorization_mode": "async"}}, "CartPole-v1", AsyncVectorEnv),
    ],
)
def test_the_kind_of_vector_environment_is_gymnasiums_unless_given(vec_env: Any, env_id: str, kind: type) -> None:
    env = entry(vec_env, env_id).make_env(n_envs=3)
    assert isinstance(env, GymVectorEnv)
    assert type(env.env.unwrapped) is kind
    assert env.num_envs == 3
    env.close()


def test_wrappers_of_an_entry_are_kept_where_the_environment_has_its_own_vectors() -> None:
    env = entry("gymnasium", env_wrapper="gymnasium.wrappers.TimeAwareObservation").make_env()
    assert env.observation_space.shape == (5,)


def test_env_kwargs_reach_the_environments_own_vectors() -> None:
    env: Any = entry("gymnasium", env_kwargs={"sutton_barto_reward": True}).make_env()
    env.reset()
    assert env.step(np.array([0, 1]))[1].tolist() == [0, 0]


def test_a_model_of_an_entry_with_vec_env_learns() -> None:
    model = ClipPPO.from_zoo("CartPole-v1", vec_env="gymnasium", n_envs=2, n_steps=16, batch_size=32, seed=1)
    model.learn(32)
    env = model.get_env()
    assert env is not None
    assert isinstance(env.unwrapped, GymVectorEnv)


@pytest.mark.parametrize(
    ("vec_env", "message"),
    [
        ("gym", "vec_env in .* must be gymnasium"),
        ({"gym": {}}, "vec_env in .* must be gymnasium"),
        ({"gymnasium": {"vectorization_mode": "async"}, "vector_kwargs": {}}, "vec_env in .* must be gymnasium"),
        ({}, "vec_env in .* must be gymnasium"),
        ({"gymnasium": "sync"}, "vec_env in .* must be gymnasium"),
        ({"gymnasium": {"mode": "sync"}}, "Unknown key 'mode' in vec_env in"),
        ({"gymnasium": {"vectorization_mode": "parallel"}}, "it is sync, async or vector_entry_point"),
        (
            {"gymnasium": {"vector_kwargs": {"copies": 1}, "vectorization_mode": "sync"}},
            "Unknown key 'copies' in vec_env in",
        ),
        ({"gymnasium": {"vector_kwargs": [1], "vectorization_mode": "sync"}}, "must be a mapping"),
        ({"gymnasium": {"vector_kwargs": {"autoreset_mode": "never"}, "vectorization_mode": "sync"}}, "NextStep"),
        ({"gymnasium": {"vector_kwargs": {"copy": False}}}, "takes neither env_wrapper nor"),
    ],
)
def test_a_vec_env_that_makes_no_sense_is_refused(vec_env: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        entry(vec_env)


@pytest.mark.parametrize(
    "more", [{"env_wrapper": "gymnasium.wrappers.TimeAwareObservation"}, {"env_id": "Pendulum-v1"}]
)
def test_a_vector_entry_point_that_there_is_not_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="it needs one"):
        entry({"gymnasium": {"vectorization_mode": "vector_entry_point"}}, **more)
