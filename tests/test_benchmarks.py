"""The benchmark scripts run and report what they measured; how fast anything is, is not tested."""

import argparse
import csv
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def throughput(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("throughput")


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("study")


@pytest.fixture
def without_sbx(tmp_path: Path) -> dict[str, str]:
    """Environment variables under which SBX cannot be imported, whether it is installed or not."""
    (tmp_path / "sbx.py").write_text("raise ModuleNotFoundError(\"No module named 'sbx'\")\n", encoding="utf-8")
    return os.environ | {"PYTHONPATH": str(tmp_path)}


def run(script: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=env)


def table(text: str, number: int = 0) -> dict[str, dict[str, str]]:
    """The Markdown table of that number: first cell of a row -> column -> cell."""
    lines = [block for block in text.split("\n\n") if block.startswith("|")][number].splitlines()
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines)
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


@pytest.mark.slow
def test_throughput_measures_each_side_in_a_process_and_keeps_every_reading(
    throughput: ModuleType, tmp_path: Path, without_sbx: dict[str, str]
) -> None:
    file = tmp_path / "results" / "throughput.json"
    sides = ["environment", "sbx", "numpy"]
    budget = ["--rounds", "1", "--updates", "2", "--n-steps", "64", "--settings", "cartpole-8"]
    budget += ["--at-once", str(min(2, len(throughput._cores())))]
    process = run("throughput.py", *budget, "--sides", *sides, "--json", str(file), env=without_sbx)
    assert process.returncode == 0, process.stderr

    content = json.loads(file.read_text(encoding="utf-8"))
    measured = [(reading["setting"], reading["side"]) for reading in content["readings"]]
    assert measured == [("cartpole-8", "environment"), ("cartpole-8", "numpy")]
    for reading in content["readings"]:
        assert reading["steps"] == 128 * 8
        assert reading["steps_per_second"] == pytest.approx(reading["steps"] / reading["seconds"])
        assert 20 < reading["peak_rss_mib"] < 5000
    assert content["machine"].keys() >= {"cpu", "cores", "threads", "date", "command"}
    assert content["versions"]["numpy"].keys() >= {"python", "torch", "numpy", "stable-baselines3"}
    speeds, memory = (table(process.stdout, number)["CartPole-v1, 8 envs"] for number in (0, 1))
    assert (speeds["SBX PPO"], memory["SBX PPO"]) == ("not installed", "-")
    assert float(memory["ClipPPO, NumPy"]) == pytest.approx(content["readings"][1]["peak_rss_mib"], abs=1)


def test_throughput_refuses_a_python_without_sbx(tmp_path: Path, without_sbx: dict[str, str]) -> None:
    arguments = ["--sbx-python", sys.executable, "--json", str(tmp_path / "throughput.json")]
    process = run("throughput.py", *arguments, env=without_sbx)
    assert process.returncode != 0
    assert "No module named 'sbx'" in process.stderr
    assert not (tmp_path / "throughput.json").exists()


def test_throughput_summary_takes_ratios_within_rounds(throughput: ModuleType) -> None:
    speeds = {
        ("cartpole-1", "sb3"): (100.0, 200.0, 400.0),
        ("cartpole-1", "numpy"): (400.0, 400.0, 1200.0),  # ratios 4, 2, 3
        ("cartpole-8", "sb3"): (10.0, 10.0, 10.0),
        ("cartpole-8", "numpy"): (120.0, 110.0, 130.0),  # 12, 11, 13
        ("large", "sb3"): (10.0, 10.0, 10.0),
        ("large", "numpy"): (1.0, 1.0, 1.0),  # not one of the default settings
    }
    readings = [
        throughput.Reading(setting, side, number, 1, 1.0, speed, 100.0 + number)
        for (setting, side), rounds in speeds.items()
        for number, speed in enumerate(rounds)
    ]
    summary = throughput.summarise(readings)
    ours = summary["settings"]["cartpole-1"]["numpy"]
    assert ours == {
        "steps_per_second": 400.0,
        "peak_rss_mib": 101.0,
        "ratio_to": {"sb3": {"median": 3.0, "min": 2.0, "max": 4.0}},
    }
    assert summary["geometric_mean"]["numpy"] == {"sb3": pytest.approx(6.0)}  # of 3 and 12


@pytest.mark.slow  # one of three commands, which are started alike
def test_profile_splits_all_of_the_time() -> None:
    process = run("profile_engine.py", "--updates", "1", "--n-steps", "64")
    assert process.returncode == 0, process.stderr
    parts = table(process.stdout)
    assert len(next(iter(parts.values()))) == 4
    for setting, total in parts.pop("all").items():
        microseconds = {part: float(cells[setting].split()[0]) for part, cells in parts.items()}
        assert sum(microseconds.values()) == pytest.approx(float(total), abs=1)
        assert all(spent > 0 for part, spent in microseconds.items() if part.startswith(("environment", "update: ")))


@pytest.mark.slow  # one of three commands, which are started alike
def test_hooks_are_compared_with_slopes_on_both_kernels() -> None:
    process = run("hooks.py", "--rounds", "2", "--n-steps", "64")
    assert process.returncode == 0, process.stderr
    rows = table(process.stdout)
    assert list(rows) == [
        f"{env}, {engine}" for env in ("CartPole-v1", "HalfCheetah-v5") for engine in ("numpy", "compiled")
    ]
    for row in rows.values():
        smallest, largest = re.findall(r"[\d.]+", row["ratio"])[1:]
        assert float(smallest) <= float(row["ratio"].split()[0]) <= float(largest)


@pytest.mark.slow  # four trainings
def test_baselines_are_held_against_their_classes_and_what_is_finished_is_kept(tmp_path: Path) -> None:
    budget = ["--study", "quick", "--steps", "2048", "--configurations", "2", "--out", str(tmp_path / "rows.csv")]
    process = run("baselines.py", *budget)
    assert process.returncode == 0, process.stderr
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text("utf-8").splitlines()))
    assert [(row["algorithm"], row["configuration"]) for row in rows] == [
        (algorithm, name) for algorithm in ("ppo", "trpo") for name in ("registered", "1")
    ]
    for row in rows:
        assert row["engine"] != "torch"
        assert float(row["difference"]) < 1e-3
        assert row["parted"] or row["score_class"] == row["score_arrays"]
    again = run("baselines.py", *budget)
    assert table(again.stdout) == table((tmp_path / "rows.md").read_text("utf-8"))
    assert list(csv.DictReader((tmp_path / "rows.csv").read_text("utf-8").splitlines())) == rows


@pytest.mark.slow  # the commands that it times have tests of their own
def test_study_times_what_is_installed(
    study: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(study.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(study, "RANKED", ("clip_ppo",))
    tiny = ["--trials", "2", "--steps", "512", "--workers", "1", "--episodes", "1"]
    monkeypatch.setattr(sys, "argv", ["study.py", *tiny])
    study.main()
    rows = table(capsys.readouterr().out)
    ours = rows.pop("ppo-variants rank, clip_ppo")
    assert float(ours["trials per hour"].replace(",", "")) > 0
    assert float(ours["CPU seconds per trial"]) > 0
    assert [row["seconds"] for row in rows.values()] == ["not installed", "not installed"]


@pytest.mark.parametrize(("trials", "workers", "shares"), [(5, 2, ["3", "2"]), (4, 2, ["2", "2"]), (1, 2, ["1"])])
def test_study_spreads_the_trials_over_processes(
    study: ModuleType, trials: int, workers: int, shares: list[str]
) -> None:
    options = argparse.Namespace(trials=trials, workers=workers, steps=512, episodes=1)
    commands = study._studies(options)["rl_zoo3 -optimize ppo, processes"]
    assert [command[command.index("--n-trials") + 1] for command in commands] == shares


@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_a_count_must_be_positive(number: str) -> None:
    process = run("throughput.py", "--updates", number)
    assert process.returncode == 2
    assert number in process.stderr
