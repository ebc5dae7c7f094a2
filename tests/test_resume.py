"""ResumableCheckpoint and resume: where environments are reset, what is refused, which classes have it."""

import json
import random
import time
from collections import OrderedDict, deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from helpers import mostly_slow
from resume_helpers import Run, StopAt, Stopped, small_env
from sb3_contrib import TRPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants import AdaptiveClipPPO, ClipPPO
from sb3_ppo_variants.families import MaskableRecurrentClipPPO, RecurrentClipPPO
from sb3_ppo_variants.resume import ResumableCheckpoint, archive, resumable, seed_at
from sb3_ppo_variants.resume.values import NotPlainError, PartOfTheRunError, decode, encode, encode_or_pickle

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "seed": 3, "device": "cpu"}


class Quiet(BaseCallback):
    def _on_step(self) -> bool:
        return True


class ResetRecorder(CartPoleEnv):
    """Note the seeds of resets."""

    seeds: list[int | None] = []  # noqa: RUF012 -- shared by all on purpose

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            ResetRecorder.seeds.append(seed)
        return super().reset(seed=seed, options=options)


def stopped_run(folder: Path, cls: Any = ClipPPO, *, steps: int = 40, every: int = 16, **arguments: Any) -> Any:
    """Let a run of 64 steps of CartPole be stopped."""
    model = cls("MlpPolicy", cartpole(), **(SMALL | arguments))
    with pytest.raises(Stopped):
        model.learn(64, callback=[ResumableCheckpoint(folder, every), StopAt(steps), Quiet()])
    return model


def cartpole(n_envs: int = 1) -> VecEnv:
    return make_vec_env("CartPole-v1", n_envs=n_envs, seed=1)


def rest(model: Any, folder: Path, *, every: int = 16, steps: int = 64) -> Any:
    return model.learn(steps, callback=[ResumableCheckpoint(folder, every), StopAt(1000), Quiet()])


# Where environments are reset -----------------------------------------------------------------------------------------


def test_seeds_of_resets_are_what_the_documentation_says() -> None:
    assert seed_at(7, 128) == int(np.random.SeedSequence([7, 128, 0]).generate_state(1, np.uint32)[0]) // 2
    assert [seed_at(0, 0), seed_at(7, 128), seed_at(7, 128, 1), seed_at(8, 128)] == [
        1484405855,
        606893023,
        1973498926,
        1142151590,
    ]
    assert all(seed_at(seed, 10) < 2**31 for seed in range(100))


def test_all_environments_are_reset_with_their_seeds_at_the_first_rollout_after_each_multiple(tmp_path: Path) -> None:
    ResetRecorder.seeds = []
    training, evaluation = (make_vec_env(ResetRecorder, n_envs=2) for _ in range(2))
    model = ClipPPO("MlpPolicy", training, **SMALL)
    model.learn(160, callback=[ResumableCheckpoint(tmp_path, 50), EvalCallback(evaluation, eval_freq=1000)])
    # Rollouts of 32 steps: 64 is the first beginning after 50, 128 after 100; at 160 training is over
    expected = [seed_at(3, steps, index) + env for steps in (64, 128) for index in (0, 1) for env in (0, 1)]
    assert ResetRecorder.seeds[-8:] == expected
    assert [archive.steps_of(path) for path in archive.checkpoints(tmp_path)] == [128, 64]


def test_without_a_seed_a_run_is_resumed_with_the_one_it_drew(tmp_path: Path) -> None:
    ResetRecorder.seeds = []
    model = ClipPPO("MlpPolicy", make_vec_env(ResetRecorder), **(SMALL | {"seed": None}))
    with pytest.raises(Stopped):
        model.learn(64, callback=[ResumableCheckpoint(tmp_path, 16), StopAt(20)])
    first = ResetRecorder.seeds[-1]
    resumed = ClipPPO.resume(tmp_path, make_vec_env(ResetRecorder), device="cpu")
    resumed.learn(64, callback=[ResumableCheckpoint(tmp_path, 16), StopAt(1000)])
    seed = archive.read_newest(tmp_path).state["seed"]
    assert ResetRecorder.seeds[-3:] == [seed_at(seed, steps) for steps in (16, 32, 48)]
    assert first == seed_at(seed, 16)


def test_memory_begins_afresh_with_the_episodes(tmp_path: Path) -> None:
    class Watch(Quiet):
        def _on_rollout_start(self) -> None:
            states = [state for pair in self.model._last_lstm_states for state in pair]  # type: ignore[attr-defined]
            seen.append((self.num_timesteps, all(bool((state == 0).all()) for state in states)))

    seen: list[tuple[int, bool]] = []
    model = RecurrentClipPPO("MlpLstmPolicy", cartpole(), **SMALL, policy_kwargs={"lstm_hidden_size": 4})
    model.learn(64, callback=[ResumableCheckpoint(tmp_path, 32), Watch()])
    assert seen == [(0, True), (16, False), (32, True), (48, False)]


# What resume and learn refuse -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [0, -5, 1.5, True, "10"])
def test_steps_between_checkpoints_must_be_a_positive_whole_number(every: Any) -> None:
    with pytest.raises(ValueError, match=r"every=.* whole number"):
        ResumableCheckpoint("run", every)


def test_a_checkpoint_of_another_class_is_refused(tmp_path: Path) -> None:
    stopped_run(tmp_path)
    with pytest.raises(ValueError, match=r"call ClipPPO\.resume, not AdaptiveClipPPO's"):
        AdaptiveClipPPO.resume(tmp_path, cartpole())


def test_another_number_of_environments_is_refused(tmp_path: Path) -> None:
    stopped_run(tmp_path)
    with pytest.raises(ValueError, match="has 1 environments, and env has 2"):
        ClipPPO.resume(tmp_path, cartpole(2))


def test_other_wrappers_are_refused(tmp_path: Path) -> None:
    stopped_run(tmp_path)
    bare = make_vec_env("CartPole-v1", wrapper_class=gym.wrappers.RecordEpisodeStatistics)
    with pytest.raises(ValueError, match=r"wrappers RecordEpisodeStatistics, .*those of the run were Monitor"):
        rest(ClipPPO.resume(tmp_path, bare, device="cpu"), tmp_path)


@pytest.mark.parametrize(("changed", "message"), [({"every": 8}, "every=16"), ({"steps": 128}, "was given 64")])
def test_arguments_that_would_make_it_another_run_are_refused(tmp_path: Path, changed: Any, message: str) -> None:
    stopped_run(tmp_path)
    model = ClipPPO.resume(tmp_path, cartpole(), device="cpu")
    with pytest.raises(ValueError, match=message):
        rest(model, tmp_path, **changed)
    assert rest(model, tmp_path).num_timesteps == 64  # nothing was lost by trying


def test_a_resumed_run_without_its_checkpoint_callback_is_refused(tmp_path: Path) -> None:
    stopped_run(tmp_path)
    with pytest.raises(ValueError, match="had a ResumableCheckpoint among its callbacks"):
        ClipPPO.resume(tmp_path, cartpole(), device="cpu").learn(64)


def test_two_checkpoint_callbacks_are_refused(tmp_path: Path) -> None:
    callbacks: list[BaseCallback] = [ResumableCheckpoint(tmp_path / name, 10) for name in "ab"]
    with pytest.raises(ValueError, match="several ResumableCheckpoint"):
        ClipPPO("MlpPolicy", cartpole(), **SMALL).learn(16, callback=callbacks)


def test_the_folder_of_a_run_that_went_further_is_refused(tmp_path: Path) -> None:
    stopped_run(tmp_path)
    with pytest.raises(ValueError, match="after 32 steps, and this one is at 0: resume that run"):
        ClipPPO("MlpPolicy", cartpole(), **SMALL).learn(64, callback=ResumableCheckpoint(tmp_path, 16))
    assert len(archive.checkpoints(tmp_path)) == 2


def test_other_callbacks_are_told(tmp_path: Path) -> None:
    stopped_run(tmp_path)
    model = ClipPPO.resume(tmp_path, cartpole(), device="cpu")
    with pytest.warns(UserWarning, match=r"StopAt, .*Quiet are not passed again; .*EvalCallback were not there before"):
        model.learn(64, callback=[ResumableCheckpoint(tmp_path, 16), EvalCallback(cartpole(), eval_freq=1000)])


def test_what_cannot_be_kept_of_a_callback_is_told(tmp_path: Path) -> None:
    class Holding(Quiet):
        def __init__(self) -> None:
            super().__init__()
            self.generator = (number for number in range(3))

    model = ClipPPO("MlpPolicy", cartpole(), **SMALL)
    with pytest.warns(UserWarning, match=r"Holding\.generator is not kept"):
        model.learn(32, callback=[ResumableCheckpoint(tmp_path, 16), Holding()])


# Which classes have it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", mostly_slow([PPO, TRPO], [TRPO]))
def test_classes_of_sb3_can_be_given_resume(tmp_path: Path, cls: Any) -> None:
    with pytest.raises(ValueError, match=rf"{cls.__name__} cannot be resumed: .*resumable\({cls.__name__}\)"):
        cls("MlpPolicy", cartpole(), seed=1, n_steps=16, batch_size=16).learn(
            16, callback=ResumableCheckpoint(tmp_path / "none", 16)
        )
    run = Run(tmp_path / "run", resumable(cls), arguments={}, steps=256, formats=("csv", "json", "log"))
    if cls is TRPO:
        run.arguments = {"n_critic_updates": 2, "n_epochs": None}
        run.arguments.pop("n_epochs")
    undisturbed = replace(run, folder=tmp_path / "undisturbed").train()
    with pytest.raises(Stopped):
        run.train(StopAt(200))
    np.testing.assert_equal(run.train(), undisturbed)


def test_a_class_that_has_resume_stays_as_it_is() -> None:
    assert resumable(ClipPPO) is ClipPPO
    assert resumable(PPO).__name__ == "PPO"
    assert issubclass(resumable(PPO), PPO)


# Logs -----------------------------------------------------------------------------------------------------------------


def test_tensorboard_goes_on_in_the_folder_of_the_run(tmp_path: Path) -> None:
    tensorboard = tmp_path / "tensorboard"
    stopped_run(tmp_path / "run", tensorboard_log=str(tensorboard))
    ClipPPO("MlpPolicy", cartpole(), **SMALL, tensorboard_log=str(tensorboard)).learn(16)  # another run, the last one
    model = rest(ClipPPO.resume(tmp_path / "run", cartpole(), device="cpu"), tmp_path / "run")
    assert model.logger.dir == str(tensorboard / "ClipPPO_1")
    assert sorted(path.name for path in tensorboard.iterdir()) == ["ClipPPO_1", "ClipPPO_2"]
    model.learn(16)  # and the next run has its own again
    assert model.logger.dir == str(tensorboard / "ClipPPO_3")


def test_event_files_of_a_killed_run_are_hidden_and_nobody_elses(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    model = ClipPPO("MlpPolicy", cartpole(), **SMALL)
    model.set_logger(configure(str(folders[0]), ["tensorboard"]))
    with pytest.raises(Stopped):
        model.learn(64, callback=[ResumableCheckpoint(tmp_path, 16), StopAt(40), Quiet()])
    for folder in folders:
        folder.mkdir(exist_ok=True)
        (folder / "events.out.tfevents.1.begun-after-the-checkpoint").touch()
    for folder, left in zip(folders[::-1], (1, 0), strict=True):
        resumed = ClipPPO.resume(tmp_path, cartpole(), device="cpu")
        resumed.set_logger(configure(str(folder), ["tensorboard"]))
        with pytest.raises(Stopped):
            resumed.learn(64, callback=[ResumableCheckpoint(tmp_path, 16), StopAt(34), Quiet()])
        assert len([path for path in folder.iterdir() if "tfevents.1.begun" in path.name]) == left
        assert len([path for path in folder.iterdir() if "interrupted.1.begun" in path.name]) == 1 - left


def test_time_goes_on_from_what_the_run_had_taken(tmp_path: Path) -> None:
    class Clock(Quiet):
        def _on_training_start(self) -> None:
            if self.model.num_timesteps == 0:
                self.model.start_time -= 100 * 10**9
            seconds.append(time.time() - self.model.start_time / 1e9)
            first_steps.append(self.model._num_timesteps_at_start)

    seconds: list[float] = []
    first_steps: list[int] = []
    model = ClipPPO("MlpPolicy", cartpole(), **SMALL)
    for _ in range(2):
        with pytest.raises(Stopped):
            model.learn(64, callback=[ResumableCheckpoint(tmp_path, 16), Clock(), StopAt(40)])
        model = ClipPPO.resume(tmp_path, cartpole(), device="cpu")
    assert all(100 <= value < 200 for value in seconds)
    assert first_steps == [0, 0]


# Values ---------------------------------------------------------------------------------------------------------------


class Own:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]


def through_json(content: Any) -> Any:
    return decode(json.loads(json.dumps(content)))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        2**70,
        "text",
        [1, [2.5, float("inf")]],
        (1, ("a", [None])),
        {1: "one", (2, 3): {"x": {4}}},
        {"type": "dict", "data": 3},
        frozenset({1}),
        OrderedDict(b=1, a=2),
        deque([1, (2,)], maxlen=5),
        np.float32(0.1),
        np.int64(3),
        np.array([[1, 2]], dtype=np.int8),
        np.array(1.5),
        np.zeros((0, 3)),
    ],
    ids=repr,
)
def test_plain_data_comes_back_with_its_type(value: Any) -> None:
    back = through_json(encode(value))
    assert type(back) is type(value)
    np.testing.assert_equal(back, value)
    assert getattr(back, "dtype", None) == getattr(value, "dtype", None)
    assert getattr(back, "maxlen", None) == getattr(value, "maxlen", None)


def test_not_a_number_comes_back() -> None:
    assert np.isnan(through_json(encode(float("nan"))))


def test_tensors_averages_and_generators_come_back() -> None:
    average = RunningMeanStd(shape=(2,))
    average.update(np.arange(6.0).reshape(3, 2))
    back = through_json(encode(average))
    np.testing.assert_equal(vars(back), vars(average))
    assert th.equal(through_json(encode(th.tensor([1.5, 2]))), th.tensor([1.5, 2]))
    for generator, draw in (
        (np.random.default_rng(1), lambda one: one.random()),
        (np.random.Generator(np.random.Philox(1)), lambda one: one.random()),
        (np.random.RandomState(1), lambda one: one.rand()),
        (random.Random(1), lambda one: one.random()),  # noqa: S311
    ):
        draw(generator)
        assert draw(through_json(encode(generator))) == draw(generator)


def test_other_objects_are_pickled_where_that_is_allowed() -> None:
    value = {"own": [Own(3)]}
    assert through_json(encode_or_pickle(value)) == value
    objects = np.array([Own(1)], dtype=object)
    assert through_json(encode_or_pickle(objects))[0] == Own(1)
    for one in (value, objects, th.ones(1, dtype=th.bfloat16)):
        with pytest.raises(NotPlainError):
            encode(one)


def test_nothing_is_followed_into_a_part_of_the_run() -> None:
    env = small_env()
    for part in (env, env.unwrapped.envs[0], env.action_space, Quiet(), th.nn.Linear(1, 1)):  # type: ignore[attr-defined]
        with pytest.raises(PartOfTheRunError):
            encode_or_pickle({"deep": [Own(part)]})
    assert isinstance(env.action_space, spaces.Discrete)
    assert MaskableRecurrentClipPPO.resume  # every form has it
