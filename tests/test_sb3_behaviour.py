"""What an SB3 user expects works: loading PPO's files, run names, callbacks, log keys, printed lines."""

import csv
import io
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from helpers import differing, tensors_of
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize
from torch import nn

from sb3_ppo_variants import AdaptiveClipPPO, ClipPPO, KLStopPPO, TrustRegionPPO
from sb3_ppo_variants.testing import DISCRETE, IMAGE, SpaceEnv, make_env

FOUR = [ClipPPO, AdaptiveClipPPO, KLStopPPO, TrustRegionPPO]
SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}


@pytest.mark.parametrize("cls", FOUR)
def test_a_file_written_by_sb3s_ppo_loads_and_trains_on(cls: type[PPO], tmp_path: Path) -> None:
    theirs = PPO("MlpPolicy", make_env(), **SMALL)
    theirs.learn(64)
    theirs.save(tmp_path / "ppo")
    ours = cls.load(tmp_path / "ppo", env=make_env(), device="cpu")
    assert type(ours) is cls
    assert differing(tensors_of(theirs), tensors_of(ours)) == []
    assert ours.num_timesteps == 64
    observation = make_env().reset()
    assert np.array_equal(*(model.predict(observation, deterministic=True)[0] for model in (theirs, ours)))
    ours.learn(32, reset_num_timesteps=False)
    assert ours.num_timesteps == 96


def test_a_loaded_ppo_continues_as_ppo_would(tmp_path: Path) -> None:
    PPO("MlpPolicy", make_env(), **SMALL).learn(64).save(tmp_path / "ppo")
    runs = []
    for cls, chosen in ((PPO, {}), (ClipPPO, {"engine": "torch"})):
        model = cls.load(tmp_path / "ppo", env=make_env(), device="cpu", **chosen)
        model.set_random_seed(3)
        runs.append(tensors_of(model.learn(64, reset_num_timesteps=False)))
    assert differing(*runs) == []


def test_sb3s_ppo_loads_what_clip_ppo_wrote(tmp_path: Path) -> None:
    ours = ClipPPO("MlpPolicy", make_env(), **SMALL).learn(32)
    ours.save(tmp_path / "clip")
    theirs = PPO.load(tmp_path / "clip", device="cpu")
    assert differing(tensors_of(ours), tensors_of(theirs)) == []


def test_saving_to_a_file_object_and_loading_with_other_arguments() -> None:
    model = KLStopPPO("MlpPolicy", make_env(), max_kl=0.5, **SMALL).learn(32)
    file = io.BytesIO()
    model.save(file)
    loaded = KLStopPPO.load(io.BytesIO(file.getvalue()), device="cpu")
    assert loaded.max_kl == 0.5
    changed = KLStopPPO.load(io.BytesIO(file.getvalue()), env=make_env(), device="cpu", max_kl=0.25, n_steps=64)
    assert (changed.max_kl, changed.n_steps, changed.rollout_buffer.buffer_size) == (0.25, 64, 64)


def test_a_checkpoint_that_was_cut_short_is_called_that(tmp_path: Path) -> None:
    ClipPPO("MlpPolicy", make_env(), **SMALL).learn(32).save(tmp_path / "model")
    whole = (tmp_path / "model.zip").read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "part.zip").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"part.zip (holds no whole model|wasn't a zip-file)"):
            ClipPPO.load(tmp_path / "part.zip", device="cpu")
    with pytest.raises(ValueError, match="holds no whole model"):
        ClipPPO.load(io.BytesIO(whole[: len(whole) // 2]), device="cpu")
    with pytest.raises(FileNotFoundError):
        ClipPPO.load(tmp_path / "no_such_file", device="cpu")


@pytest.mark.parametrize("cls", FOUR)
def test_the_environment_can_be_named_and_exchanged(cls: type[PPO]) -> None:
    model = cls("MlpPolicy", "CartPole-v1", **SMALL)
    model.learn(32)
    model.set_env(Monitor(gym.make("CartPole-v1")))
    model.learn(32)
    mean, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=2)
    assert mean > 0


@pytest.mark.parametrize("cls", FOUR)
def test_a_tensorboard_run_is_named_after_the_class_unless_told(cls: type[PPO], tmp_path: Path) -> None:
    model = cls("MlpPolicy", make_env(), tensorboard_log=str(tmp_path), **SMALL)
    model.learn(32)
    model.learn(32, tb_log_name="mine")
    model.logger.close()
    assert {run.name for run in tmp_path.iterdir()} == {f"{cls.__name__}_1", "mine_1"}


def test_learn_takes_sb3s_arguments_by_position() -> None:
    counter = Counter()
    model = ClipPPO("MlpPolicy", make_env(), **SMALL)
    assert model.learn(64, counter, 1, "name", True, False) is model
    assert counter.steps == 64


def test_the_progress_bar_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm calls its rich bar experimental
        ClipPPO("MlpPolicy", make_env(), **SMALL).learn(64, progress_bar=True)
    assert "64" in capsys.readouterr().out


class Counter(BaseCallback):
    def __init__(self, stop_after: float = np.inf) -> None:
        super().__init__()
        self.steps, self.rollout_starts, self.rollout_ends, self.stop_after = 0, 0, 0, stop_after
        self.local_names: set[str] = set()
        self.training_names: set[str] = set()

    def _on_training_start(self) -> None:
        self.training_names = set(self.locals)

    def _on_rollout_start(self) -> None:
        self.rollout_starts += 1

    def _on_rollout_end(self) -> None:
        self.rollout_ends += 1

    def _on_step(self) -> bool:
        self.steps += 1
        self.local_names |= set(self.locals)
        return self.steps < self.stop_after


@pytest.mark.parametrize("cls", FOUR)
def test_callbacks_see_what_they_see_under_sb3(cls: type[PPO]) -> None:
    ours, theirs = Counter(), Counter()
    cls("MlpPolicy", make_env(), **SMALL).learn(96, callback=ours)
    PPO("MlpPolicy", make_env(), **SMALL).learn(96, callback=theirs)
    assert (ours.steps, ours.rollout_starts, ours.rollout_ends) == (96, 3, 3)
    assert theirs.local_names <= ours.local_names
    assert theirs.training_names <= ours.training_names


def test_a_callback_that_stops_prevents_the_update() -> None:
    model = ClipPPO("MlpPolicy", make_env(), **SMALL)
    before = tensors_of(model)
    model.learn(96, callback=Counter(stop_after=10))
    assert model.num_timesteps == 10
    assert differing(before, tensors_of(model)) == []


def test_sb3s_callbacks_work(tmp_path: Path) -> None:
    model = TrustRegionPPO("MlpPolicy", make_env(), **SMALL)
    evaluate = EvalCallback(make_env(), eval_freq=20, n_eval_episodes=1, best_model_save_path=str(tmp_path), verbose=0)
    checkpoint = CheckpointCallback(save_freq=20, save_path=str(tmp_path), name_prefix="step")
    model.learn(96, callback=[evaluate, checkpoint, StopTrainingOnMaxEpisodes(max_episodes=100)])
    assert (tmp_path / "best_model.zip").exists()
    assert TrustRegionPPO.load(tmp_path / "step_60_steps", device="cpu").num_timesteps == 60


@pytest.mark.parametrize("cls", FOUR)
def test_the_log_keys_are_sb3s_and_the_packages_own_beside(cls: type[PPO]) -> None:
    ours = cls("MlpPolicy", make_env(), clip_range_vf=0.2, **SMALL).learn(32).logger.name_to_value
    theirs = PPO("MlpPolicy", make_env(), clip_range_vf=0.2, **SMALL).learn(32).logger.name_to_value
    assert theirs.keys() <= ours.keys()
    passes = {"epochs", "actor_epochs", "critic_epochs"}
    added = {"kl", "effective_sample_size", "ratio_q05", "ratio_q95", "zero_gradient_fraction", *passes}
    added |= {"step_fraction", "backtracks"} if cls is TrustRegionPPO else set()
    added |= {"stop_epoch", "stop_reason"} & {key.removeprefix("train/") for key in ours}
    assert ours.keys() - theirs.keys() == {f"train/{name}" for name in added}


def test_an_early_stop_is_printed_when_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    ClipPPO("MlpPolicy", make_env(), target_kl=1e-8, learning_rate=0.01, verbose=1, **SMALL).learn(32)
    assert "Early stopping" in capsys.readouterr().out
    ClipPPO("MlpPolicy", make_env(), target_kl=1e-8, learning_rate=0.01, verbose=0, **SMALL).learn(32)
    assert "Early stopping" not in capsys.readouterr().out


def test_every_output_format_takes_the_logs(tmp_path: Path) -> None:
    from stable_baselines3.common.logger import configure

    model = KLStopPPO("MlpPolicy", make_env(), max_kl=1e-7, learning_rate=0.01, **SMALL)
    model.set_logger(configure(str(tmp_path), ["log", "csv", "json", "tensorboard"]))
    model.learn(96)
    model.logger.close()
    with (tmp_path / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["train/stop_reason"] for row in rows[1:]} == {"2"}
    assert all(row["train/kl"] for row in rows[1:])
    assert {type(value) for value in model.logger.name_to_value.values()} <= {int, float, np.float32, np.float64}


@pytest.mark.parametrize("name", ["tanh", "relu", "leaky_relu", "elu", "silu"])
def test_an_activation_may_be_given_by_name(name: str, tmp_path: Path) -> None:
    model = ClipPPO("MlpPolicy", make_env(), policy_kwargs={"activation_fn": name}, **SMALL)
    expected = {"tanh": nn.Tanh, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "silu": nn.SiLU}[name]
    assert sum(type(module) is expected for module in model.policy.modules()) > 0
    model.save(tmp_path / "model")
    loaded = ClipPPO.load(tmp_path / "model", device="cpu")
    assert differing(tensors_of(model), tensors_of(loaded)) == []


def test_an_unknown_activation_is_refused_and_the_users_dictionary_left_alone() -> None:
    with pytest.raises(ValueError, match="'swish'"):
        ClipPPO("MlpPolicy", make_env(), policy_kwargs={"activation_fn": "swish"}, **SMALL)
    mine = {"activation_fn": "relu"}
    ClipPPO("MlpPolicy", make_env(), policy_kwargs=mine, **SMALL)
    assert mine == {"activation_fn": "relu"}


def test_vec_wrappers_work(tmp_path: Path) -> None:
    env = VecNormalize(make_env(n_envs=2), gamma=0.95)
    model = AdaptiveClipPPO("MlpPolicy", env, gamma=0.95, **SMALL).learn(128)
    model.save(tmp_path / "model")
    env.save(str(tmp_path / "statistics"))
    loaded_env = VecNormalize.load(str(tmp_path / "statistics"), make_env(n_envs=2))
    loaded = AdaptiveClipPPO.load(tmp_path / "model", env=loaded_env, device="cpu")
    loaded.learn(64)
    assert loaded.get_vec_normalize_env() is loaded_env
    stacked = VecFrameStack(make_env(IMAGE, n_envs=2), n_stack=2)
    ClipPPO("CnnPolicy", stacked, **(SMALL | {"n_steps": 16})).learn(32)


def test_a_float64_environment_and_an_own_buffer_size_of_one_minibatch_work() -> None:
    space = gym.spaces.Box(-1.0, 1.0, (3,), dtype=np.float64)
    model = ClipPPO("MlpPolicy", make_env(space), **(SMALL | {"batch_size": 32})).learn(64)
    assert all(parameter.dtype == th.float32 for parameter in model.policy.parameters())


def test_sb3s_own_refusals_come_through_or_say_more() -> None:
    with pytest.raises(AssertionError, match="batch_size"):
        ClipPPO("MlpPolicy", make_env(), batch_size=1)
    with pytest.raises(ValueError, match="ClipPPO has no policy 'NoPolicy': use one of MlpPolicy"):
        ClipPPO("NoPolicy", make_env())
    with pytest.raises(TypeError):
        ClipPPO("MlpPolicy", make_env(), no_such_argument=1)


def test_a_model_without_set_up_can_be_made() -> None:
    model = TrustRegionPPO("MlpPolicy", SpaceEnv(IMAGE, DISCRETE), _init_setup_model=False)
    assert model.max_kl == 0.01
