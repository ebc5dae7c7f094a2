"""Studies for all tests that read one, and a database that does not wait for the disk."""

import shutil
import sqlite3
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from finished_study import finished
from once import made_once
from processes import command
from sqlalchemy import event
from sqlalchemy.engine import Engine
from tuning_helpers import SMALL_STUDY


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection: object, record: object) -> None:
    """A killed process loses nothing by it, only a power cut would; waiting was most of what a study's tests did."""
    if isinstance(connection, sqlite3.Connection):
        with suppress(sqlite3.DatabaseError):  # of a damaged file: its first query says so
            connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished study that nobody may change."""
    folder = tmp_path_factory.mktemp("finished") / "made_up"
    finished(folder, trials=10, failing=("trpo", "Acrobot-v1"))
    return folder


@pytest.fixture
def finished_study(finished_once: Path, tmp_path: Path) -> Path:
    """Folder of a finished study, to do with as one likes."""
    return Path(shutil.copytree(finished_once, tmp_path / "made_up", ignore=shutil.ignore_patterns("cells")))


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of seconds, as a file."""
    path = tmp_path_factory.mktemp("study") / "small.yml"
    path.write_text(SMALL_STUDY)
    return path


@pytest.fixture(scope="session")
def ranked_once(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder and output of ``study``, ranked by the command with one worker and nothing in its way."""

    def rank(folder: Path) -> None:
        out = folder / "out"
        done = subprocess.run(command(study, out, "--workers", "1"), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "stdout").write_text(done.stdout, "utf-8")

    folder = made_once(tmp_path_factory, "ranked_once", rank)
    return folder / "out", (folder / "stdout").read_text("utf-8")


@pytest.fixture
def ranked(ranked_once: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of that folder, to do with as one likes."""
    return Path(shutil.copytree(ranked_once[0], tmp_path / "ranked"))
