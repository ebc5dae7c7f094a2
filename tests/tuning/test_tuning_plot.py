"""``ppo-variants plot``: curves with bands from what SB3, rl_zoo3 and rank leave."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from sb3_ppo_variants.tuning.report import plot as plot_module
from sb3_ppo_variants.tuning.report.plot import plot
from sb3_ppo_variants.tuning.report.training_logs import RunCurve, read_curves
from stable_baselines3.common.env_util import make_vec_env
from typer.testing import CliRunner

from sb3_ppo_variants import ClipPPO
from sb3_ppo_variants.cli import app


def write_monitor(folder: Path, env_id: str, episodes: list[tuple[float, int]]) -> None:
    folder.mkdir(parents=True)
    rows = [f"{r},{length},{index}.0" for index, (r, length) in enumerate(episodes)]
    header = f'#{{"t_start": 0.0, "env_id": "{env_id}"}}'
    (folder / "0.monitor.csv").write_text("\n".join([header, "r,l,t", *rows]) + "\n")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Two algorithms in two environments as rl_zoo3 leaves them; returns that rise by one a step of ten."""
    for algorithm, gain in (("clip_ppo", 1.0), ("spo", 2.0)):
        for number in (1, 2, 3):
            for env_id in ("CartPole-v1", "ALE/Pong-v5"):
                run = tmp_path / "logs" / algorithm / f"{env_id.replace('/', '-')}_{number}"
                write_monitor(run, env_id, [(gain * k + number, 10) for k in range(5 + number)])
    return tmp_path / "logs"


def test_runs_that_differ_by_their_number_are_one_curve(logs: Path) -> None:
    curves = read_curves([logs], window=1)
    assert {env_id: {label: len(runs) for label, runs in by_label.items()} for env_id, by_label in curves.items()} == {
        env_id: {"clip_ppo": 3, "spo": 3} for env_id in ("CartPole-v1", "ALE/Pong-v5")
    }
    first = curves["CartPole-v1"]["spo"][0]
    assert first.steps.tolist() == [10, 20, 30, 40, 50, 60]
    assert first.returns.tolist() == [1, 3, 5, 7, 9, 11]
    smoothed = read_curves([logs / "spo"], window=2)["CartPole-v1"]["spo"][0]
    assert smoothed.returns.tolist() == [1, 2, 4, 6, 8, 10]


def test_a_line_is_the_interquartile_mean_between_the_steps_that_all_runs_have(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    original = plot_module._write
    monkeypatch.setattr(plot_module, "_write", lambda figure, out: (drawn.append(figure), original(figure, out)))
    assert plot([logs], tmp_path / "curves.png", window=1) == {"clip_ppo": 6, "spo": 6}
    panels = [panel for panel in drawn[0].axes if panel.get_title()]
    assert [panel.get_title() for panel in panels] == ["ALE/Pong-v5", "CartPole-v1"]
    clip, spo = panels[1].lines
    assert (clip.get_label(), spo.get_label()) == ("clip_ppo (3 runs)", "spo (3 runs)")
    assert (clip.get_xdata()[0], clip.get_xdata()[-1]) == (10, 60)  # the shortest run has six episodes
    np.testing.assert_allclose(spo.get_ydata(), 2 * (clip.get_xdata() / 10 - 1) + 2)  # the middle of 1, 2, 3 above
    (band, _) = panels[1].collections
    assert band.get_paths()[0].get_extents().y0 == pytest.approx(1.0)
    picture = imread(tmp_path / "curves.png")
    assert picture.shape[0] > 300
    assert picture.std() > 0.05
    assert not list(tmp_path.glob(".*"))


def test_what_training_leaves_is_drawn_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        env = make_vec_env("CartPole-v1", n_envs=2, seed=seed, monitor_dir=f"runs/clip_{seed}")
        ClipPPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, seed=seed).learn(512)
    done = CliRunner().invoke(app, ["plot", "runs", "--out", "pages/curves.html", "--window", "5"])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == ["clip: 2 runs", "pages/curves.html"]
    page = Path("pages/curves.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert "<svg" in page
    assert "clip (2 runs)" in page


def test_tensorboard_files_are_read_where_there_are_no_others(tmp_path: Path) -> None:
    env = make_vec_env("CartPole-v1", seed=1)
    model = ClipPPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, tensorboard_log=str(tmp_path / "tb"))
    model.learn(256)
    model.learn(256)
    model.logger.close()
    ((label, runs),) = read_curves([tmp_path / "tb"], window=1)[""].items()
    assert label == "ClipPPO"
    assert [run.steps.tolist() for run in runs] == [[64, 128, 192, 256]] * 2
    assert plot([tmp_path / "tb"], tmp_path / "curves.svg") == {"ClipPPO": 2}
    assert (tmp_path / "curves.svg").read_text("utf-8").count("<svg") == 1


def test_a_study_shows_its_test_runs(finished_study: Path, tmp_path: Path) -> None:
    curves = read_curves([finished_study], window=1)
    assert curves.keys() == {"CartPole-v1", "Acrobot-v1"}
    assert {"clip_ppo", "ppo"} <= curves["CartPole-v1"].keys()
    drawn = plot([finished_study, finished_study], tmp_path / "curves.pdf")
    assert f"{finished_study.name}/clip_ppo" in drawn
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")


def test_runs_without_a_common_step_are_a_point(tmp_path: Path) -> None:
    steps, returns = plot_module._on_common_steps(
        [RunCurve(np.array([1.0, 2.0]), np.array([5.0, 6.0])), RunCurve(np.array([4.0]), np.array([7.0]))]
    )
    assert set(steps.tolist()) == {4.0}
    assert returns[:, 0].tolist() == [6.0, 7.0]


@pytest.mark.parametrize(
    ("folder", "out", "window", "message"),
    [
        ("nowhere", "curves.png", 1, "nowhere: no such folder"),
        ("empty", "curves.png", 1, r"empty has no run with a finished episode: looked for ranking\.json"),
        ("logs", "curves.jpg", 1, r"curves\.jpg: the picture is a \.png, \.svg, \.pdf, \.html file"),
        ("logs", "curves.png", 0, "window=0: .* at least 1"),
    ],
)
@pytest.mark.usefixtures("logs")
def test_what_cannot_be_drawn_is_said_and_nothing_is_written(
    tmp_path: Path, folder: str, out: str, window: int, message: str
) -> None:
    write_monitor(tmp_path / "empty" / "run_1", "CartPole-v1", [])
    with pytest.raises(ValueError, match=message):
        plot([tmp_path / folder], tmp_path / out, window=window)
    assert not (tmp_path / out).exists()


@pytest.mark.parametrize(
    "text",
    ["", "r,l,t\n1,2,3\n", "#{}\nr,l\n", "#[1]\nr,l,t\n1,2,3\n", '#{"t_start": 0}\nr,l,t\n1,two,3\n', "#{\nr,l,t\n"],
    ids=["empty", "no header", "no times", "no dictionary", "text", "half a header"],
)
def test_a_monitor_file_that_is_none_is_named_in_one_line(text: str, tmp_path: Path) -> None:
    """A run that was killed or a full disk leaves such files among good ones."""
    write_monitor(tmp_path / "good", "CartPole-v1", [(1.0, 10)])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.monitor.csv").write_text(text)
    with pytest.raises(ValueError, match=r"bad has a monitor.csv that is not"):
        read_curves([tmp_path], window=1)
