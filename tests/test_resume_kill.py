"""Runs killed by SIGKILL, in forks of this process: they end as runs that were left alone."""

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resume_helpers import Run, die_at, in_a_child, was_killed

from sb3_ppo_variants.resume import archive

# fork() with TensorBoard's threads about: nothing of theirs is used in the child
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

_RUN: dict[str, Any] = {"steps": 448, "every": 128, "formats": ("csv",)}


def test_a_run_killed_three_times_ends_as_one_that_never_was(tmp_path: Path) -> None:
    result = tmp_path / "result"
    assert in_a_child(Run(tmp_path / "undisturbed", **_RUN).train, result) == 0
    undisturbed = _read(result)
    run = Run(tmp_path / "killed", **_RUN)
    deaths: list[tuple[Any, str, int]] = [
        (np.random, "permutation", 7),  # in an epoch of an update, with a checkpoint behind it
        (os, "fsync", 3),  # while a checkpoint is written
        (Run, "_remains", 1),  # after the last rollout
    ]
    for death in deaths:

        def train(death: Any = death) -> Any:
            die_at(*death)
            return run.train()

        assert was_killed(in_a_child(train, result))
        assert archive.checkpoints(run.folder)
    assert in_a_child(run.train, result) == 0
    np.testing.assert_equal(_read(result), undisturbed)


@pytest.mark.parametrize(
    ("owner", "name", "calls"),
    [(zipfile.ZipFile, "writestr", 3), (os, "fsync", 2), (os, "replace", 1), (Path, "unlink", 1)],
    ids=["content", "fsync", "replace", "unlink"],
)
def test_whatever_moment_of_its_writing_a_process_dies_in_two_checkpoints_are_whole(
    tmp_path: Path, owner: Any, name: str, calls: int
) -> None:
    def write(steps: int) -> None:
        archive.write(tmp_path, steps, b"model %d" % steps, {"steps": steps})

    for call in range(1, calls + 1):
        for steps in (1, 2):
            write(steps)

        def die(call: int = call) -> None:
            die_at(owner, name, call)
            write(3)

        assert was_killed(in_a_child(die, tmp_path / "result"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing is torn
            found = archive.read_newest(tmp_path)
        assert found.steps in (2, 3)
        assert (found.model, found.state["steps"]) == (b"model %d" % found.steps, found.steps)
        write(3)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "checkpoint-000000000002.zip",
            "checkpoint-000000000003.zip",
        ]
        for path in tmp_path.iterdir():
            path.unlink()


def _read(result: Path) -> Any:
    return pickle.loads(result.read_bytes())  # noqa: S301 -- written a moment ago


def _cut(length: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, length if length >= 0 else path.stat().st_size + length)


def _flip(position: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[position] ^= 0xFF
        path.write_bytes(content)

    return damage


def _other_content(path: Path) -> None:
    """Let a part of the checkpoint be of another moment: each is whole, together they are not."""
    with zipfile.ZipFile(path) as archived:
        parts = {name: archived.read(name) for name in archived.namelist()}
    with zipfile.ZipFile(path, "w") as archived:
        for name, content in {**parts, "model.zip": b"another model"}.items():
            archived.writestr(name, content)


DAMAGES = {
    "empty": _cut(0),
    "cut after some bytes": _cut(50),
    "cut at the end": _cut(-1),
    "a byte of the model": _flip(60),
    "a byte at the end": _flip(-30),
    "other content": _other_content,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_of_two_checkpoints_the_newer_being_torn_the_one_before_is_taken_and_it_is_said(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    first, second = (archive.write(tmp_path, steps, b"m" * 100, {"steps": steps}) for steps in (1, 2))
    damage(second)
    with pytest.warns(UserWarning, match=f"(?s)one before is taken: .*{second.name}: .+"):
        assert archive.read_newest(tmp_path).path == first
    damage(first)
    with pytest.raises(ValueError, match=f"(?s)begin the run anew: .*{second.name}: .+{first.name}: .+"):
        archive.read_newest(tmp_path)


def test_of_two_checkpoints_the_newer_missing_the_one_before_is_taken(tmp_path: Path) -> None:
    first, second = (archive.write(tmp_path, steps, b"model", {}) for steps in (1, 2))
    second.unlink()
    assert archive.read_newest(tmp_path).path == first
    first.unlink()
    with pytest.raises(ValueError, match="holds no checkpoint"):
        archive.read_newest(tmp_path)
    with pytest.raises(ValueError, match="holds no checkpoint"):
        archive.read_newest(tmp_path / "nothing")


def test_a_checkpoint_of_another_version_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_VERSION", 99)
    archive.write(tmp_path, 1, b"model", {})
    monkeypatch.undo()
    with pytest.raises(ValueError, match="version 99"):
        archive.read_newest(tmp_path)
