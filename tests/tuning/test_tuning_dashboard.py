"""``ppo-variants dashboard``: the real server on a loopback port, beside a study that is being written."""

import json
import multiprocessing
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from finished_study import finished
from processes import wait_until
from sb3_ppo_variants.tuning.report.dashboard import LOOPBACK, dashboard
from typer.testing import CliRunner

from sb3_ppo_variants.cli import app


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Address and process of the command."""
    script = Path(sys.executable).with_name("ppo-variants")
    process = subprocess.Popen(
        [str(script), "dashboard", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and so would their children
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 -- no lock is taken in it
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        found = re.match(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line + process.stderr.read()
        yield found.group(), process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def served_by_a_fork(folder: Path) -> Iterator[str]:
    """Address of the server in a process that has imported everything already."""
    told, tell = multiprocessing.Pipe(duplex=False)
    options = {"port": 0, "announce": tell.send}
    process = multiprocessing.get_context("fork").Process(target=dashboard, args=(folder,), kwargs=options)
    process.start()
    try:
        assert told.poll(60), "the server never answered"
        yield told.recv()
    finally:
        process.kill()
        process.join()


def get(url: str) -> tuple[str, str]:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310
        return answer.headers["Content-Type"], answer.read().decode()


def studies(url: str) -> list[dict[str, Any]]:
    summaries: list[dict[str, Any]] = json.loads(get(f"{url}api/studies")[1])["study_summaries"]
    return summaries


@pytest.mark.end_to_end
def test_the_page_and_the_trials_are_served_until_ctrl_c(finished_study: Path) -> None:
    before = (finished_study / "study.db").read_bytes()
    with served(finished_study) as (url, process):
        kind, page = get(f"{url}dashboard")
        assert kind.startswith("text/html")
        assert "<title>Optuna Dashboard</title>" in page
        names = {study["study_name"].partition("/")[2]: study["study_id"] for study in studies(url)}
        assert set(names) == {
            f"{algorithm}/{env_id}"
            for algorithm in ("clip_ppo", "ppo", "trpo")
            for env_id in ("CartPole-v1", "Acrobot-v1")
        }
        detail = json.loads(get(f"{url}api/studies/{names['trpo/CartPole-v1']}?after=0")[1])
        assert [trial["number"] for trial in detail["trials"]] == list(range(10))

        deletion = urllib.request.Request(f"{url}api/studies/{names['trpo/CartPole-v1']}", method="DELETE")  # noqa: S310
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(deletion, timeout=60)  # noqa: S310
        assert len(studies(url)) == 6

        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert (finished_study / "study.db").read_bytes() == before


def trial_counts(url: str) -> list[int]:
    details = [get(f"{url}api/studies/{study['study_id']}?after=0")[1] for study in studies(url)]
    return [len(json.loads(detail)["trials"]) for detail in details]


def test_a_study_goes_on_while_it_is_watched(tmp_path: Path) -> None:
    """Two readers ask again and again while trials are written; the writer must not notice, the readers must."""
    small: dict[str, Any] = {"algorithms": ("ppo",), "environments": {"CartPole-v1": 20_000}}
    alone = finished(tmp_path / "alone", trials=3, **small)
    finished(tmp_path / "watched", name="begun", **small)
    (tmp_path / "watched" / "protocol.json").unlink()  # as if the other study had not been there
    over = threading.Event()
    answers: list[list[int]] = []

    def watch(url: str) -> None:
        while not over.is_set():
            answers.append(trial_counts(url))

    with served_by_a_fork(tmp_path / "watched") as url:
        readers = [threading.Thread(target=watch, args=(url,)) for _ in range(2)]
        for reader in readers:
            reader.start()
        watched = finished(tmp_path / "watched", trials=3, **small)
        over.set()
        for reader in readers:
            reader.join()
        assert len(answers) > 2
        # The dashboard remembers an answer for two seconds
        wait_until(lambda: 3 in trial_counts(url), "the trials appear")
    assert watched["ranking"][0]["scores"] == alone["ranking"][0]["scores"]


@pytest.mark.parametrize(
    ("content", "words"), [(None, "has no study.db: the study has not begun"), (b"no database", "cannot be used")]
)
def test_without_a_usable_database_it_says_so_and_starts_nothing(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "study.db").write_bytes(content)
    done = CliRunner().invoke(app, ["dashboard", str(tmp_path)])
    assert done.exit_code == 1
    assert words in done.stderr


KILLED_WHILE_WRITING = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")  # so that half a transaction is in the file
database.execute("BEGIN IMMEDIATE")
database.execute("CREATE TABLE junk (content)")
database.executemany("INSERT INTO junk VALUES (?)", [("x" * 500,)] * 3000)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_database_whose_writer_was_killed_is_left_to_rank(finished_study: Path) -> None:
    path = finished_study / "study.db"
    subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], check=False)
    assert (finished_study / "study.db-journal").exists()
    before = path.read_bytes()
    done = CliRunner().invoke(app, ["dashboard", str(finished_study)])
    assert done.exit_code == 1
    assert "was being written when rank was killed: run the same rank command" in done.stderr
    assert path.read_bytes() == before


def test_a_port_that_is_taken_is_named(finished_study: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(app, ["dashboard", str(finished_study), "--port", str(port)])
    assert done.exit_code == 1
    assert f"port {port} cannot be used (Address already in use): give another --port" in done.stderr


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_cannot_be_is_refused(tmp_path: Path, port: int) -> None:
    with pytest.raises(ValueError, match=f"port must lie between 0 and 65535, got {port}"):
        dashboard(tmp_path, port=port, announce=print)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        dashboard(tmp_path / "nowhere", port=0, announce=print)
