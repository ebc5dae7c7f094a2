"""Finished cells on disk: written whole, read with suspicion, guarded by a lock."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from sb3_ppo_variants.tuning.runs import files
from sb3_ppo_variants.tuning.runs.files import write_atomically
from sb3_ppo_variants.tuning.runs.store import CellStore, FolderLock
from tuning_helpers import make_cell, make_result


class Reported(CellStore):
    """A store that keeps its reports."""

    def __init__(self, folder: Path) -> None:
        self.lines: list[str] = []
        super().__init__(folder, self.lines.append)


@pytest.fixture
def store(tmp_path: Path) -> Reported:
    return Reported(tmp_path / "cells")


def test_what_is_written_is_read(store: Reported) -> None:
    assert store.read(make_cell()) is None
    store.write(make_cell(), make_result(0.1 + 0.2))
    assert store.read(make_cell()) == make_result(0.1 + 0.2)
    assert store.read(make_cell(seed=2048)) is None
    assert not store.lines


def test_a_file_truncated_at_any_length_is_reported_and_not_trusted(store: Reported) -> None:
    store.write(make_cell(), make_result())
    path = store.path(make_cell())
    whole = path.read_text()
    for length in range(len(whole.rstrip())):
        path.write_text(whole[:length])
        assert store.read(make_cell()) is None
        assert "run again" in store.lines.pop()
    path.write_text(whole)
    assert store.read(make_cell()) == make_result()


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("schema",), 99),
        (("key",), "0" * 64),
        (("result", "score"), 500.0),
        (("result", "status"), "failed"),
        (("result", "score"), float("nan")),
        (("cell", "seed"), 2048),
        (("cell",), None),
        (("result",), []),
    ],
)
def test_a_file_changed_by_hand_is_not_trusted(store: Reported, where: tuple[str, ...], value: object) -> None:
    store.write(make_cell(), make_result())
    path = store.path(make_cell())
    record = json.loads(path.read_text())
    inside = record
    for name in where[:-1]:
        inside = inside[name]
    inside[where[-1]] = value
    path.write_text(json.dumps(record))
    assert store.read(make_cell()) is None
    assert len(store.lines) == 1
    assert str(path) in store.lines[0]


def test_a_file_under_another_cells_name_is_not_trusted(store: Reported) -> None:
    store.write(make_cell(seed=2048), make_result())
    os.replace(store.path(make_cell(seed=2048)), store.path(make_cell()))
    assert store.read(make_cell()) is None
    assert "another cell" in store.lines[0]


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", b"[]", b"null", b""])
def test_rubbish_is_not_trusted(store: Reported, text: bytes) -> None:
    store.path(make_cell()).write_bytes(text)
    assert store.read(make_cell()) is None
    assert len(store.lines) == 1


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ranking.json"
    write_atomically(path, "old")

    def no_space(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["ranking.json"]


def test_content_is_on_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renaming first could leave an empty file after a power cut."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(files.os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write_atomically(tmp_path / "a", "text")
    assert calls == ["fsync", "replace", "fsync"]


def test_a_second_owner_of_a_folder_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    with (
        FolderLock(tmp_path),
        pytest.raises(ValueError, match=f"in use by process {os.getpid()}"),
        FolderLock(tmp_path),
    ):
        pass
    with FolderLock(tmp_path):
        pass


def lock_and_die(folder: Path) -> None:
    with FolderLock(folder):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_owner_leaves_no_lock(tmp_path: Path) -> None:
    owner = multiprocessing.get_context("fork").Process(target=lock_and_die, args=(tmp_path,))
    owner.start()
    owner.join()
    assert owner.exitcode == -signal.SIGKILL
    with FolderLock(tmp_path):
        assert (tmp_path / ".lock").read_text().strip() == str(os.getpid())


def test_half_a_file_of_a_killed_writer_is_ignored_and_replaced(store: Reported) -> None:
    path = store.path(make_cell())
    leftover = path.with_name(f".{path.name}.tmp")
    leftover.write_text('{"schema": 1, "ke')
    assert store.read(make_cell()) is None
    assert not store.lines
    store.write(make_cell(), make_result())
    assert store.read(make_cell()) == make_result()
    assert not leftover.exists()
