"""``ppo-variants rank`` from end to end: real command, real processes, real training."""

import csv
import io
import os
import re
import signal
import subprocess
import sys
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from processes import alive, finished_cells, ranking_of, running, wait_until, workers_of
from rich.console import Console
from sb3_ppo_variants.tuning import rank as rank_module
from sb3_ppo_variants.tuning.rank import rank
from sb3_ppo_variants.tuning.runs import workers
from sb3_ppo_variants.tuning.runs.workers import default_workers
from tuning_helpers import without_times
from typer.testing import CliRunner

from sb3_ppo_variants import cli
from sb3_ppo_variants.experiment import Experiment

RUNS = 2 * (2 * 2 + 2 * 1 + 2)


def test_a_study_ends_with_all_its_files_and_a_table(ranked_once: tuple[Path, str]) -> None:
    folder, output = ranked_once
    visible = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    assert visible == [
        "best.yml", "cells", "protocol.json", "ranking.csv", "ranking.json", "ranking.md", "report.html", "study.db",
        "workers.log",
    ]  # fmt: skip
    content = ranking_of(folder)
    assert {line["algorithm"] for line in content["ranking"]} == {"ppo", "trpo"}
    assert [line["rank"] for line in content["ranking"]] == [1, 2]
    for line in content["ranking"]:
        assert line["trials"] == {"run": 2, "pruned": 0, "failed": 0}
        assert [run["status"] for run in line["scores"]["CartPole-v1"]] == ["ok", "ok"]
        assert line["steps_per_second"] > 0
    assert len(finished_cells(folder)) == RUNS
    for algorithm, environments in yaml.safe_load((folder / "best.yml").read_text()).items():
        Experiment(algorithm, "CartPole-v1", environments["CartPole-v1"])
    assert len(list(csv.DictReader((folder / "ranking.csv").open()))) == 2
    assert "IQM" in output
    assert f"[4/4 trials, {RUNS}/{RUNS} runs" in output
    assert "Only 2 test seeds" in output
    assert "\x1b" not in output, "plain lines where there is no terminal"
    assert max(map(len, output[output.index("Ranking:") :].splitlines())) <= 80


@pytest.mark.end_to_end
def test_a_study_that_is_killed_and_interrupted_gives_the_same_ranking(
    study: Path, ranked_once: tuple[Path, str], tmp_path: Path
) -> None:
    """Kill -9 on the coordinator (ten times in a slow test), Ctrl-C, a killed worker, a file cut in half."""
    before: dict[str, tuple[int, int]] = {}
    for cells, number in ((2, signal.SIGKILL), (6, signal.SIGINT)):
        with running(study, tmp_path) as process:
            enough = max(cells, len(before) + 2)  # so that this one has begun to work
            wait_until(lambda n=enough: len(finished_cells(tmp_path)) >= n, f"{enough} cells")
            workers = workers_of(process.pid)
            if not before:
                process.send_signal(signal.SIGSTOP)  # the refusal may take as long as all runs
                refuses_a_second_coordinator(study, tmp_path, process.pid)
            os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
            code = process.wait(timeout=60)
            assert code == (130 if number == signal.SIGINT else -signal.SIGKILL)
            wait_until(lambda gone=workers: not any(map(alive, gone)), "orphaned workers end")
        assert before.items() <= finished_cells(tmp_path).items(), "a finished cell was run again"
        assert not (tmp_path / "ranking.json").exists()
        before = finished_cells(tmp_path)
    cut = next((tmp_path / "cells").glob("*.json"))
    cut.write_text(cut.read_text()[:100])
    del before[cut.name]
    with running(study, tmp_path) as process:
        # One more than the whole ones and the cut one: a worker that dies has then begun to work
        wait_until(lambda: len(finished_cells(tmp_path)) > len(before) + 1, "a cell of this run")
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        assert process.wait(timeout=120) == 0
    output = (tmp_path / "output").read_text()
    assert re.sub(r"\s", "", f"{cut} is not a valid result") in re.sub(r"\s", "", output)
    assert before.items() <= finished_cells(tmp_path).items(), "a finished cell was run again"
    assert without_times(ranking_of(tmp_path)) == without_times(ranking_of(ranked_once[0]))


def refuses_a_second_coordinator(study: Path, folder: Path, pid: int) -> None:
    with pytest.raises(ValueError, match=f"in use by process {pid}: wait for it"):
        rank(str(study), out=folder, workers=1)


def test_resuming_a_finished_study_runs_nothing_and_writes_the_same(
    study: Path, ranked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, content = finished_cells(ranked), ranking_of(ranked)
    monkeypatch.setattr(workers, "LocalExecutor", NoExecutor)
    rank(str(study), out=ranked, workers=3, console=Console(file=io.StringIO()))
    assert finished_cells(ranked) == cells
    assert ranking_of(ranked) == content


class NoExecutor:
    """Nothing may be submitted."""

    where = "nobody"

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def shutdown(self, **kwargs: object) -> None:
        pass


def test_a_terminal_gets_a_live_display(study: Path, ranked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LocalExecutor", NoExecutor)
    screen = io.StringIO()
    rank(str(study), out=ranked, console=Console(file=screen, force_terminal=True, width=100))
    shown = screen.getvalue()
    assert "best so far" in shown
    assert "4/4 trials" in shown
    assert "[1/4 trials" not in shown, "plain lines are for where there is no terminal"


def test_another_protocol_in_the_same_folder_is_refused(study: Path, ranked: Path) -> None:
    with pytest.raises(ValueError, match=r"begun with another protocol \(seed: 0 then, 1 now\)"):
        rank(str(study), out=ranked, seed=1)
    with pytest.raises(ValueError, match="begun with another protocol"):
        rank(str(study), out=ranked, algorithms=["ppo"])
    assert ranking_of(ranked)["protocol"]["seed"] == 0


def test_nothing_is_written_when_the_arguments_are_wrong(study: Path, tmp_path: Path) -> None:
    for wrong in ({"workers": 0}, {"algorithms": ["tropo"]}, {"environments": ["Pong-v1"]}, {"seed": -1}):
        with pytest.raises(ValueError, match=r"workers|tropo|Pong|seed"):
            rank(str(study), out=tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_results_go_to_a_folder_named_after_the_study(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rank_module, "_run", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        rank(str(study))
    assert (tmp_path / "runs" / "small" / "protocol.json").exists()


def test_another_storage_can_be_given(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_module, "_run", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        rank(str(study), out=tmp_path / "out", storage=f"sqlite:///{tmp_path / 'elsewhere.db'}")
    assert (tmp_path / "elsewhere.db").exists()
    assert not (tmp_path / "out" / "study.db").exists()


def test_a_storage_that_cannot_be_used_is_named_with_the_remedy(study: Path, tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("this is no database, and has never been one" * 100)
    with pytest.raises(OSError, match=r"study.db cannot be used: .*may be removed: it is written again from the cells"):
        rank(str(study), out=tmp_path)
    with pytest.raises(OSError, match="storage nosuch:// cannot be used"):
        rank(str(study), out=tmp_path, storage="nosuch://")
    with pytest.raises(ValueError, match=r"storage mysql://nowhere/at.all cannot be opened: .*(MySQLdb|install)"):
        rank(str(study), out=tmp_path, storage="mysql://nowhere/at.all")


def test_workers_are_the_cpus_by_default() -> None:
    assert default_workers() == len(os.sched_getaffinity(0))


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command line hands to the harness."""
    arguments: dict[str, Any] = {}

    def record(study: str, **options: Any) -> SimpleNamespace:
        arguments.update(study=study, **options)
        return SimpleNamespace(lines=["somebody"])

    monkeypatch.setattr(rank_module, "rank", record)
    return arguments


def test_options_reach_the_harness(called: dict[str, Any]) -> None:
    options = ["--out", "here", "--workers", "3", "--algos", "ppo, trpo", "--envs", "CartPole-v1", "--seed", "4"]
    more = ["--storage", "sqlite://", "--dask", "tcp://there", "--sampler", "gp", "--pruner", "none", "--no-tune"]
    assert CliRunner().invoke(cli.app, ["rank", "quick", *options, *more]).exit_code == 0
    assert called == {
        "study": "quick", "out": Path("here"), "workers": 3, "dask": "tcp://there", "algorithms": ["ppo", "trpo"],
        "environments": ["CartPole-v1"], "seed": 4, "storage": "sqlite://", "sampler": "gp", "pruner": "none",
        "tune": False,
    }  # fmt: skip


def test_a_study_in_which_nothing_finished_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_module, "rank", lambda study, **options: SimpleNamespace(lines=[]))
    assert CliRunner().invoke(cli.app, ["rank", "quick"]).exit_code == 3


def test_without_options_everything_is_the_studys(called: dict[str, Any]) -> None:
    CliRunner().invoke(cli.app, ["rank", "quick"])
    assert called.pop("tune") is True
    assert {value for name, value in called.items() if name != "study"} == {None}


def test_a_dry_run_says_what_would_be_run_and_what_it_costs(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(cli.app, ["rank", str(study), "--out", str(tmp_path / "out"), "--dry-run"])
    assert result.exit_code == 0
    assert not (tmp_path / "out").exists()
    row = next(line for line in result.stdout.splitlines() if "CartPole-v1" in line)
    assert row.split()[:6] == ["CartPole-v1", "1,024", "8", "4", "0", "4"]
    assert "at most 16 runs, 16,384 steps; about 1 minute of one core" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_registered_configurations_are_ranked_without_a_trial(study: Path, tmp_path: Path) -> None:
    ranking = rank(str(study), out=tmp_path, workers=1, tune=False, console=Console(file=io.StringIO()))
    assert {line.best["CartPole-v1"]["trial"] for line in ranking.lines} == {0}
    assert [line.trials["run"] for line in ranking.lines] == [0, 0]
    assert ranking.one_for_all is None
    assert len(finished_cells(tmp_path)) == 2 * 2
    assert "the registered configuration" in (tmp_path / "best.yml").read_text()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "the same command goes on from there"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (futures.BrokenExecutor("worker processes die as soon as they start"), 1, "die as soon as they start"),
    ],
)
def test_whatever_stops_a_study_says_that_it_can_be_resumed(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def stop(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(rank_module, "rank", stop)
    result = CliRunner().invoke(cli.app, ["rank", "quick"])
    assert result.exit_code == code
    assert message in result.stderr
    assert "Every finished run is saved" in result.stderr


@pytest.mark.end_to_end
def test_without_the_extra_the_command_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['optuna'] = None; sys.argv = ['ppo-variants', 'rank', 'quick', '--dry-run'];"
        "from sb3_ppo_variants.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == 'ppo-variants: rank needs optuna: pip install "sb3-ppo-variants[tuning]"\n'


@pytest.mark.end_to_end
@pytest.mark.parametrize(("options", "starts"), [([], True), (["--dry-run"], False), (["--dask", "tcp://x:1"], False)])
def test_workers_begin_their_imports_before_the_command_does(options: list[str], starts: bool) -> None:
    code = (
        "import atexit, sys; from multiprocessing import forkserver; sys.modules['optuna'] = None;"
        "atexit.register(lambda: print(forkserver._forkserver._forkserver_pid));"
        f"sys.argv = ['ppo-variants', 'rank', 'quick', *{options}]; from sb3_ppo_variants.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    assert (done.stdout != "None\n") == starts
    if starts:
        server = int(done.stdout)
        wait_until(lambda: not alive(server), "the process that imported for nothing ends")
