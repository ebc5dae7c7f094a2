"""What goes wrong in practice: killed processes, bad environments, full and read-only disks, damaged databases.

After each: a clear message, nothing lost, no finished cell run again, and in the end the result of an undisturbed run.
"""

import io
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fault_environments import MARK
from helpers import mostly_slow
from processes import command, finished_cells, ranking_of, running
from rich.console import Console
from sb3_ppo_variants.tuning.decisions.decisions import Decisions
from sb3_ppo_variants.tuning.decisions.study_db import storage_errors
from sb3_ppo_variants.tuning.rank import rank
from test_tuning_coordinator import outcome
from tuning_helpers import SMALL_STUDY, Killed, Threads, coordinate, without_times
from typer.testing import CliRunner

from sb3_ppo_variants import cli


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return outcome(coordinate(tmp_path_factory.mktemp("undisturbed")))


def resume(folder: Path) -> Decisions:
    """A coordinator of today: what the disk or the database objects to is worded as the command words it."""
    with storage_errors(f"sqlite:///{folder / 'study.db'}"):
        return coordinate(folder, Threads(slots=3))


def test_a_coordinator_killed_five_times_at_random_moments_gives_the_same_result(
    undisturbed: list[Any], tmp_path: Path
) -> None:
    """Cells are answered by a formula, everything else is real: processes, kill -9, files, database."""
    moments = random.Random(0)  # noqa: S311
    kills = 0
    before: dict[str, tuple[int, int]] = {}
    while kills < 5:
        process = multiprocessing.get_context("fork").Process(target=resume, args=(tmp_path,))
        process.start()
        time.sleep(moments.uniform(0.0, 0.3))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if process.exitcode == 0:  # it was done: one cell less, for the next one to have work
            lost = moments.choice(sorted((tmp_path / "cells").glob("*.json")))
            lost.unlink()
            before.pop(lost.name, None)
        else:
            kills += 1
        assert before.items() <= finished_cells(tmp_path).items(), "a finished cell was run again"
        before = finished_cells(tmp_path)
    assert outcome(resume(tmp_path)) == undisturbed
    assert before.items() <= finished_cells(tmp_path).items(), "a finished cell was run again"
    assert not list((tmp_path / "cells").glob(".*")), "a temporary file was left"


@pytest.mark.slow
def test_the_command_killed_ten_times_at_random_moments_gives_the_same_ranking(tmp_path: Path) -> None:
    study = tmp_path / "small.yml"
    study.write_text(SMALL_STUDY)
    started = time.monotonic()
    subprocess.run(command(study, tmp_path / "undisturbed", "--workers", "1"), check=True, capture_output=True)
    seconds = time.monotonic() - started
    folder = tmp_path / "killed"
    folder.mkdir()
    moments = random.Random(0)  # noqa: S311
    before: dict[str, tuple[int, int]] = {}
    for _ in range(10):
        with running(study, folder) as process:
            time.sleep(moments.uniform(0.05, 0.5) * seconds)
            process.kill()
            process.wait()
        assert before.items() <= finished_cells(folder).items(), "a finished cell was run again"
        before = finished_cells(folder) if (folder / "cells").exists() else {}
    subprocess.run(command(study, folder, "--workers", "1"), check=True, capture_output=True)
    assert without_times(ranking_of(folder)) == without_times(ranking_of(tmp_path / "undisturbed"))


FAULTS = """\
algorithms: [ppo]
environments:
  fault_environments:Raises-v0: {steps: 2048, random: 20, reference: 500}
  fault_environments:Nan-v0: {steps: 2048, random: 20, reference: 500}
  fault_environments:Leaks-v0: {steps: 2048, random: 20, reference: 500}
  fault_environments:DiesOnce-v0: {steps: 2048, random: 20, reference: 500}
budget: {trials: 0, tuning_seeds: 1, test_seeds: 1, time_limit: 200, memory_limit: 0.6}
evaluation: {episodes: 2, checkpoints: 1}
"""
REASONS = {
    "Raises": "RuntimeError: the simulator lost its licence",
    "Nan": "Error: .*(nan|NaN|non-finite|finite)",
    "Leaks": r"over the memory limit of a run \(budget\.memory_limit in the study\): it took more than 0\.6 GiB",
}


def test_environments_that_raise_leak_or_give_nan_are_failed_runs_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a worker killed in mid-cell costs a retry: nobody can see it in the result."""
    monkeypatch.setenv(MARK, str(tmp_path / "killed"))
    study = tmp_path / "faults.yml"
    study.write_text(FAULTS)
    screen = io.StringIO()
    rank(str(study), out=tmp_path / "out", workers=2, console=Console(file=screen, width=300))
    (line,) = ranking_of(tmp_path / "out")["ranking"]
    runs = {name.partition(":")[2].removesuffix("-v0"): runs[0] for name, runs in line["scores"].items()}
    for name, reason in REASONS.items():
        assert runs[name]["status"] == "failed"
        assert re.search(reason, runs[name]["reason"]), runs[name]["reason"]
        assert re.search(reason, screen.getvalue())
    log = tmp_path / "out" / "workers.log"
    assert re.search(
        rf"lost its licence \(fault_environments\.py:\d+\); see {log}", screen.getvalue().replace("\n", "")
    )
    assert re.search(r"ppo on fault_environments:Raises-v0, seed \d+, cell .*\nTraceback", log.read_text())
    assert line["failed_test_runs"] == len(REASONS)

    assert (tmp_path / "killed").exists()
    assert runs["DiesOnce"]["status"] == "ok"
    begun_again_it_runs_nothing(study, tmp_path / "out", workers=2)

    only = ["fault_environments:DiesOnce-v0"]
    rank(str(study), out=tmp_path / "alone", workers=1, environments=only, console=Console(file=io.StringIO()))
    (alone,) = ranking_of(tmp_path / "alone")["ranking"]
    assert alone["scores"][only[0]][0] == runs["DiesOnce"]


def begun_again_it_runs_nothing(study: Path, folder: Path, **options: Any) -> None:
    """A run that failed is finished: its reason is on record."""
    before, ranking = finished_cells(folder), ranking_of(folder)
    rank(str(study), out=folder, console=Console(file=io.StringIO()), **options)
    assert finished_cells(folder) == before
    assert ranking_of(folder) == ranking


def test_an_environment_that_hangs_is_a_failed_run_with_a_reason(tmp_path: Path) -> None:
    study = tmp_path / "hangs.yml"
    study.write_text(FAULTS.replace("Raises", "Hangs").replace("time_limit: 200", "time_limit: 3"))
    only = ["fault_environments:Hangs-v0"]
    rank(str(study), out=tmp_path / "out", workers=1, environments=only, console=Console(file=io.StringIO()))
    (tested,) = ranking_of(tmp_path / "out")["unranked"]
    assert tested["failed_test_runs"] == 1
    assert tested["scores"][only[0]][0]["reason"] == "over the time limit of a run (budget.time_limit in the study)"
    begun_again_it_runs_nothing(study, tmp_path / "out", workers=1, environments=only)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB that nobody else uses."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount the small file system that this test fills")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this system does not let its root mount a file system (a container, probably)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """A file that leaves so many bytes of the disk."""
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * (shutil.disk_usage(disk).free - leave))
    return ballast


# As the database is made, and in the midst of the study; the others with the slow tests
@pytest.mark.parametrize("kibibytes", mostly_slow([0, 40, 180, 220], [40, 180]))
def test_a_full_disk_stops_the_study_and_loses_nothing(undisturbed: list[Any], disk: Path, kibibytes: int) -> None:
    ballast = fill(disk, kibibytes * 1024)
    with pytest.raises(OSError, match=r"No space left|disk is full|disk I/O"):
        resume(disk)
    before = finished_cells(disk)
    ballast.unlink()
    assert outcome(resume(disk)) == undisturbed
    assert before.items() <= finished_cells(disk).items(), "a finished cell was run again"


def test_a_read_only_folder_is_one_line_and_nothing_is_run(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    result = CliRunner().invoke(cli.app, ["rank", "quick", "--out", str(disk / "out"), "--workers", "1"])
    assert result.exit_code == 1
    assert "Read-only file system" in result.stderr
    assert str(disk / "out") in result.stderr
    assert len(result.stderr.splitlines()) == 1


def garbage(content: bytes) -> bytes:
    return random.Random(0).randbytes(len(content))  # noqa: S311


def first_page_spoiled(content: bytes) -> bytes:
    return content[:100] + bytes(3996) + content[4096:]


def rows_spoiled(content: bytes) -> bytes:
    return b"".join(
        content[start : start + 4096] if start < 4096 else garbage(content[start : start + 4096])
        for start in range(0, len(content), 4096)
    )


def truncated(content: bytes, eighths: int = 4) -> bytes:
    return content[: len(content) * eighths // 8]


@pytest.mark.parametrize(
    "damage",
    mostly_slow(
        [garbage, first_page_spoiled, rows_spoiled, truncated, *(partial(truncated, eighths=n) for n in (1, 7))],
        [garbage, rows_spoiled, truncated],
    ),
)
def test_a_damaged_database_is_named_with_the_remedy_which_works(
    finished_folder: Path, undisturbed: list[Any], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished_folder, folder)
    path = folder / "study.db"
    path.write_bytes(damage(path.read_bytes()))
    before = finished_cells(folder)
    with pytest.raises(OSError, match=r"study\.db cannot be used: .*may be removed: it is written again"):
        resume(folder)
    path.unlink()
    assert outcome(resume(folder)) == undisturbed
    assert finished_cells(folder) == before


@pytest.fixture(scope="module")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    coordinate(folder)
    return folder


def test_an_empty_database_is_filled_again(finished_folder: Path, undisturbed: list[Any], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished_folder, folder)
    (folder / "study.db").write_bytes(b"")
    before = finished_cells(folder)
    assert outcome(resume(folder)) == undisturbed
    assert finished_cells(folder) == before


def test_a_database_of_yesterday_is_brought_up_to_date(
    finished_folder: Path, undisturbed: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        coordinate(tmp_path, Threads(survives=9))
    shutil.copytree(finished_folder / "cells", tmp_path / "cells", dirs_exist_ok=True)
    before = finished_cells(tmp_path)
    assert outcome(resume(tmp_path)) == undisturbed
    assert finished_cells(tmp_path) == before
