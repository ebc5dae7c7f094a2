"""Checkpoints on disk: whole or not there."""

import hashlib
import json
import os
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_KEPT = 2
_VERSION = 1
_NAME = re.compile(r"checkpoint-(\d+)\.zip")
_HASHES = "sha256.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been read.

    :param path: its file
    :param steps: environment steps at which it was written
    :param model: the model's file
    :param state: everything else, as JSON
    """

    path: Path
    steps: int
    model: bytes
    state: dict[str, Any]


def checkpoints(folder: Path) -> list[Path]:
    """Return the files of the checkpoints in a folder, the newest first, whole or not."""
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in files if _NAME.fullmatch(path.name)), key=steps_of, reverse=True)


def has_checkpoint(folder: str | Path) -> bool:
    """Tell whether there is something to resume: a run that was killed early may have left nothing.

    :param folder: of the checkpoints
    """
    return bool(checkpoints(Path(folder)))


def steps_of(path: Path) -> int:
    """Return the number of environment steps that a checkpoint's name states."""
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def write(folder: Path, steps: int, model: bytes, state: dict[str, Any]) -> Path:
    """Write a checkpoint, then remove all but it and the one before.

    At any moment of it, whatever checkpoint has its name is whole, also after a loss of power.

    :param folder: is made if it is missing
    :param steps: environment steps so far
    :param model: the model's file
    :param state: everything else, as JSON
    :return: the checkpoint's file
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"checkpoint-{steps:012d}.zip"
    parts = {"model.zip": model, "state.json": json.dumps({"version": _VERSION, **state}).encode()}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
    temporary = folder / "checkpoint.unfinished"
    with temporary.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in {**parts, _HASHES: json.dumps(hashes).encode()}.items():
                archive.writestr(name, content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(folder)
    kept = [other for other in checkpoints(folder) if steps_of(other) <= steps][:_KEPT]
    for other in checkpoints(folder):
        if other not in kept:
            other.unlink()
    return path


def read_newest(folder: Path) -> Checkpoint:
    """Return the newest checkpoint that is whole; say which newer ones are not, and why.

    :param folder: of the checkpoints
    :raises ValueError: if there is none
    """
    reasons: list[str] = []
    for path in checkpoints(folder):
        try:
            checkpoint = _read(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
            reasons.append(f"{path}: {error}")
            continue
        for reason in reasons:
            warnings.warn(f"Not a whole checkpoint, the one before is taken: {reason}", stacklevel=3)
        return checkpoint
    if reasons:
        raise ValueError(f"No checkpoint in {folder} is whole, begin the run anew: {'; '.join(reasons)}")
    raise ValueError(f"{folder} holds no checkpoint: the run was stopped before the first, or it is another folder.")


def _read(path: Path) -> Checkpoint:
    with zipfile.ZipFile(path) as archive:
        hashes = json.loads(archive.read(_HASHES))
        parts = {name: archive.read(name) for name in ("model.zip", "state.json")}
    for name, content in parts.items():
        if hashlib.sha256(content).hexdigest() != hashes[name]:
            raise ValueError(f"the content of {name} does not match its hash")
    state = json.loads(parts["state.json"])
    if state["version"] != _VERSION:
        raise ValueError(f"it has version {state['version']}, and this release reads version {_VERSION}")
    return Checkpoint(path, steps_of(path), parts["model.zip"], state)


def _sync_folder(folder: Path) -> None:
    """Let the file system write down the names in a folder, where it can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
