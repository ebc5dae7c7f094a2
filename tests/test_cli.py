"""The command line."""

import sys

import pytest
from typer.testing import CliRunner

from sb3_ppo_variants import __version__, cli
from sb3_ppo_variants.experiment import registered_envs
from sb3_ppo_variants.registry import ALGORITHMS


def test_list_shows_ids_limits_own_parameters_and_environments() -> None:
    result = CliRunner().invoke(cli.app, ["list"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    words = result.stdout.split()
    for algorithm in ALGORITHMS.values():
        assert algorithm.id in words
        assert set(algorithm.limits_step_by.split()) <= set(words)
        for name, default in algorithm.own_parameters.items():
            assert f"{name}={default}" in words
        for env_id in registered_envs(algorithm.id):
            assert env_id in result.stdout


def test_list_names_an_environment_that_only_one_algorithm_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def envs(algorithm_id: str) -> list[str]:
        return ["CartPole-v1", "Extra-v0"] if algorithm_id == "trpo" else ["CartPole-v1"]

    monkeypatch.setattr("sb3_ppo_variants.experiment.registered_envs", envs)
    result = CliRunner().invoke(cli.app, ["list"], env={"COLUMNS": "120"})
    assert result.stdout.count("Extra-v0") == 1
    assert "The 1 environments: CartPole-v1." in result.stdout


def test_list_says_which_environments_an_algorithm_lacks() -> None:
    text = " ".join(CliRunner().invoke(cli.app, ["list"], env={"COLUMNS": "80"}).stdout.split())
    discrete = "CartPole-v1, Acrobot-v1, LunarLander-v3, MiniGrid-Empty-Random-5x5-v0, MiniGrid-DoorKey-5x5-v0"
    assert f"rpo has none for {discrete}." in text


def test_version() -> None:
    result = CliRunner().invoke(cli.app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.strip() == f"sb3-ppo-variants {__version__}"


def test_an_unknown_command_exits_with_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["ppo-variants", "lits"])
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    assert exit_info.value.code == 2
    assert "lits" in capsys.readouterr().err


def test_a_value_error_is_one_line_on_stderr_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise ValueError("no such thing:\n  'x'")

    monkeypatch.setattr(cli, "app", command)
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    assert exit_info.value.code == 2
    captured = capsys.readouterr()
    assert captured.err == "ppo-variants: no such thing: 'x'\n"
    assert captured.out == ""


def test_any_other_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "app", command)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()
