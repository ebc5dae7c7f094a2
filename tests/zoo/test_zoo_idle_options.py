"""Options of rl_zoo3 that do nothing beside others: said, or refused where they contradict each other."""

import pytest
from zoo_helpers import command, refusal

from sb3_ppo_variants.zoo.idle_options import idle_options

IDLE = {
    "of tuning, in training": (
        "train",
        ["--n-trials", "5", "--pruner", "none"],
        "--n-trials, --pruner does nothing here",
    ),
    "of training, in tuning": ("optimize", ["--save-freq=9"], "--save-freq does nothing here: the trials of a study"),
    "of training, in train -optimize": ("train", ["-optimize", "-P"], "-P does nothing here"),
    "of evaluations that do not take place": (
        "train",
        ["--eval-freq", "-1", "--eval-episodes", "3"],
        "--eval-episodes does nothing here: --eval-freq -1",
    ),
    "of tracking, without it": (
        "train",
        ["--wandb-entity", "me"],
        "--wandb-entity does nothing here: it needs --track",
    ),
    "of replay buffers": ("train", ["--save-replay-buffer"], "this algorithm has no replay buffer"),
    "a study's name without a storage": ("optimize", ["--study-name", "a"], "without --storage no study is kept"),
    "trials beside their total": ("optimize", ["--n-trials", "3", "--max-total-trials", "2"], "counts instead"),
    "of comparisons, without them": ("plot-from-file", ["-iqm", "--ci-size", "0.9"], "--ci-size does nothing here: it"),
    "of a plot that is left out": ("plot-from-file", ["--skip-timesteps", "--no-million"], "--no-million does nothing"),
    "that a script declares and never reads": ("load-from-hub", ["--verbose", "2"], "--verbose does nothing here"),
}


@pytest.mark.parametrize("case", IDLE)
def test_an_option_that_does_nothing_is_named_with_the_reason(case: str) -> None:
    name, arguments, message = IDLE[case]
    (line,) = idle_options(name, arguments, off_policy=False)
    assert message in line


@pytest.mark.parametrize(
    ("name", "arguments", "off_policy"),
    [
        ("train", ["--eval-freq", "64", "--eval-episodes", "3", "--track", "--wandb-group", "g"], False),
        ("train", ["--save-replay-buffer", "--save-freq", "9", "--study-name", "a", "--storage", "s"], True),
        ("optimize", ["--n-trials", "3", "--study-name", "a", "--storage", "s", "--eval-episodes", "3"], False),
        ("enjoy", ["--n-envs", "2", "-P"], False),
        ("plot-from-file", ["-r", "-iqm", "-vs", "--ci-size", "0.9", "--no-million"], False),
    ],
)
def test_nothing_is_said_of_options_that_count(name: str, arguments: list[str], off_policy: bool) -> None:
    assert idle_options(name, arguments, off_policy=off_policy) == []


def test_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("train", "--algo", "clip_ppo", "--n-trials", "3", "--help")
    assert "ppo-variants train: --n-trials does nothing here: it is for tuning" in capsys.readouterr().err


def test_options_of_which_only_one_can_hold_are_refused() -> None:
    assert "cannot both hold" in refusal("enjoy", "--no-render", "--stochastic", "--deterministic")
    assert "--load-best and --load-checkpoint" in refusal("enjoy", "--no-render", "--load-best", "--load-checkpoint", 9)
    assert "-i goes on with one model" in refusal("optimize", "--algo", "clip_ppo", "-i", "model.zip")
