"""What a user of rl-zoo mistypes ends as one line that says what to do, and a bug keeps its traceback."""

import sys
from pathlib import Path
from typing import Any

import pytest
from zoo_helpers import command, refusal

from sb3_ppo_variants import ClipPPO, cli

TRAIN = ["train", "--algo", "clip_ppo", "--env", "CartPole-v1", "-n", "64"]

MISTAKES: dict[str, tuple[list[str], str]] = {
    "an algorithm": (["train", "--algo", "adaptve_clip_ppo"], "did you mean adaptive_clip_ppo"),
    "a class for an algorithm": (["train", "--algo", "ClipPPO"], "did you mean clip_ppo"),
    "an algorithm like no other": (["train", "--algo", "x"], "ppo-variants list"),
    "an environment": (["train", "--env", "CartPol-v1"], "did you mean CartPole-v1"),
    "a game": (["train", "--env", "ALE/Breakou-v5"], "ALE/Breakout-v5"),
    "an environment like no other": (["train", "--env", "Zzz-v0"], "is the package that registers it installed?"),
    "a package of environments": ([*TRAIN, "--gym-packages", "no_such_package"], "No module named 'no_such_package'"),
    "a package of this folder": ([*TRAIN, "--gym-packages", "mine"], "python -m sb3_ppo_variants train"),
    "a hyperparameter": ([*TRAIN, "-params", "lerning_rate:0.1"], "did you mean learning_rate"),
    "a text without quotes": ([*TRAIN, "-params", "engine:auto"], "text needs quotes"),
    "an equals sign": ([*TRAIN, "-params", "dual_clip=3.0"], "name:value"),
    "a text for a number": ([*TRAIN, "-params", "n_steps:'2'"], "must be a number, not the text '2'"),
    "a text for a count": ([*TRAIN, "-params", "n_envs:'2'"], "must be a whole number"),
    "a schedule": ([*TRAIN, "-params", "learning_rate:'linear_0.1'"], "'lin_x'"),
    "a schedule where none can be": ([*TRAIN, "-params", "gamma:'lin_0.9'"], "cannot be a schedule"),
    "a schedule for an own parameter that is no number": (
        [*TRAIN, "-params", "value_clip:'lin_0.9'"],
        "cannot be a schedule",
    ),
    "a policy": ([*TRAIN, "-params", "policy:'MlpPolcy'"], "MlpPolcy"),
    "an activation": ([*TRAIN, "-params", "policy_kwargs:{'activation_fn': 'relo'}"], "relu"),
    "a wrapper's module": ([*TRAIN, "-params", "env_wrapper:'no_such.Wrapper'"], "No module named 'no_such'"),
    "a wrapper": ([*TRAIN, "-params", "env_wrapper:'gymnasium.wrappers.Foo'"], "no attribute 'Foo'"),
    "an argument of the environment": ([*TRAIN, "--env-kwargs", "gravty:1"], "'gravty'"),
    "a file of hyperparameters": ([*TRAIN, "--conf-file", "no_such.yml"], "no_such.yml"),
    "a model to go on from": ([*TRAIN, "-i", "no_such.zip"], "valid path to a .zip file"),
    "a folder for logs": ([*TRAIN, "-f", "/dev/null/logs"], "/dev/null"),
    "a storage": ([*TRAIN, "--trial-id", "0", "--storage", "foo", "--study-name", "a"], "sqlite:///study.db"),
    "observations that SB3 does not know": (["train", "--algo", "spo", "--env", "Blackjack-v1"], "not supported"),
    "MiniGrid's own observations": (
        ["train", "--algo", "spo", "--env", "MiniGrid-FourRooms-v0"],
        "minigrid.wrappers.FlatObsWrapper",
    ),
    "masks of continuous actions": (
        ["train", "--algo", "maskable_spo", "--env", "Pendulum-v1"],
        "use a form of the variant without masks",
    ),
    "actions that a variant does not know": (["train", "--algo", "rpo", "--env", "CartPole-v1"], "else use ClipPPO"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_said_in_one_line(mistake: str) -> None:
    arguments, expected = MISTAKES[mistake]
    assert expected in refusal(*arguments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CartPole-v1: {a: [1", 'in "mine.yml", line 1'),
        ("- 1", "must map each environment to its hyperparameters"),
        ("CartPole-v1: 1", "must map each environment to its hyperparameters"),
        ("Pendulum-v1: {policy: MlpPolicy}", "Hyperparameters not found"),
        ("CartPole-v1: {policy: MlpPolicy}", "has no n_timesteps"),
        ("CartPole-v1: {n_timesteps: 64}", "has no policy"),
        ("CartPole-v1: {policy: MlpPolicy, n_timesteps: 64, gama: 0.9}", "did you mean gamma"),
    ],
)
def test_a_mistake_in_a_file_of_hyperparameters(text: str, expected: str) -> None:
    Path("mine.yml").write_text(text)
    assert expected in refusal("train", "--algo", "clip_ppo", "--env", "CartPole-v1", "--conf-file", "mine.yml")


def test_a_sampler_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optunahub", None)
    arguments = ["--algo", "clip_ppo", "--env", "CartPole-v1", "-n", "64", "--n-trials", "1", "--sampler", "auto"]
    assert "pip install optunahub" in refusal("optimize", *arguments)


def test_wandb_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert "pip install wandb" in refusal(*TRAIN, "--track")


def test_an_option_that_rl_zoo3_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        command(*TRAIN, "--no-such-option")
    assert error.value.code == 2
    assert "ppo-variants train: error: unrecognized arguments: --no-such-option" in capsys.readouterr().err


def test_options_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        command("train", "--help")
    assert error.value.code == 0
    assert "--optimization-log-path" in capsys.readouterr().out


def test_a_mistake_is_one_line_of_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ppo-variants", "train", "--algo", "clip_pp"])
    with pytest.raises(SystemExit) as error:
        cli.main()
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ppo-variants: Unknown algorithm 'clip_pp': did you mean clip_ppo")


@pytest.mark.parametrize("error", [TypeError("a bug"), ValueError("a bug"), AttributeError("a bug"), KeyError("a bug")])
def test_a_bug_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(*arguments: Any, **keywords: Any) -> None:
        raise error

    monkeypatch.setattr(ClipPPO, "learn", learn)
    with pytest.raises(type(error)) as caught:
        command(*TRAIN)
    assert caught.value is error
