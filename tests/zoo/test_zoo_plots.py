"""The plots: where no window can open, in files."""

import sys
import types
from pathlib import Path

import imageio.v3 as imageio
import matplotlib as mpl
import pytest
from zoo_helpers import command, refusal

CARTPOLE = ["-a", "adaptive_clip_ppo", "-e", "CartPole"]


@pytest.fixture(autouse=True)
def no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("agg")


def show_two_runs(cartpole_logs: Path) -> None:
    """Make ``logs`` with two runs, since plot-from-file makes nothing of one."""
    logs = Path("logs/adaptive_clip_ppo")
    logs.mkdir(parents=True)
    for number in (1, 2):
        (logs / f"CartPole-v1_{number}").symlink_to(cartpole_logs / "adaptive_clip_ppo/CartPole-v1_1")


def test_training_curves_are_saved_where_no_window_can_open(
    cartpole_logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command("plot-train", *CARTPOLE, "-f", cartpole_logs, "-w", 5)
    assert "Saved training-episodic-reward.png" in capsys.readouterr().out
    assert imageio.imread("training-episodic-reward.png").std() > 10


def test_evaluations_are_tabulated_saved_and_plotted_again(
    cartpole_logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_two_runs(cartpole_logs)
    command("all-plots", *CARTPOLE, "-f", "logs", "-o", "results")
    assert "ADAPTIVE_CLIP_PPO" in capsys.readouterr().out
    assert imageio.imread("results-cartpole.png").std() > 10
    command("plot-from-file", "-i", "results", "-o", "scores.svg")
    assert "<svg" in Path("scores.svg").read_text()


def test_one_run_is_too_few_for_plot_from_file(cartpole_logs: Path) -> None:
    command("all-plots", *CARTPOLE, "-f", cartpole_logs, "-o", "results", "--no-display")
    assert "two runs or more" in refusal("plot-from-file", "-i", "results")


def test_a_broken_rliable_does_not_stop_the_other_plots(
    cartpole_logs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # What rliable 1.2 does on import under pandas 3, through arch
    (tmp_path / "rliable").mkdir()
    (tmp_path / "rliable/__init__.py").write_text("")
    (tmp_path / "rliable/library.py").write_text("raise TypeError('deprecate_kwarg() missing an argument')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith(("rliable", "rl_zoo3.plots"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "arch", types.ModuleType("arch"))
    command("plot-train", *CARTPOLE, "-f", cartpole_logs, "-w", 5)
    assert Path("training-episodic-reward.png").is_file()


def test_plots_that_need_rliable_say_what_to_do(cartpole_logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("rliable", "rl_zoo3.plots"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rliable", None)
    show_two_runs(cartpole_logs)
    command("all-plots", *CARTPOLE, "-f", "logs", "-o", "results", "--no-display")
    assert "ppo-variants doctor" in refusal("plot-from-file", "-i", "results", "--rliable", "--skip-timesteps")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plot-train", *CARTPOLE, "-f", "nothing"], "nothing/adaptive_clip_ppo"),
        (["all-plots", *CARTPOLE], "all-plots needs -f or --exp-folders"),
        (["plot-from-file"], "plot-from-file needs -i or --input"),
        (["plot-from-file", "-i", "nothing"], "nothing.pkl"),
        (["all-plots", *CARTPOLE, "-f", "nothing"], "nothing to plot"),
    ],
)
def test_what_is_missing_is_said_in_one_line(arguments: list[str], message: str) -> None:
    assert message in refusal(*arguments)


def test_a_window_larger_than_the_run(cartpole_logs: Path) -> None:
    assert "-w" in refusal("plot-train", *CARTPOLE, "-f", cartpole_logs, "-w", 100_000)
