"""Finished cells on disk, one file each, and the lock that keeps a second coordinator away."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from .cell import Cell, CellResult, canonical_json
from .files import write_atomically

STORE_SCHEMA = 1


class CellStore:
    """Folder of ``<key>.json`` files; a cell that has a valid one is never run again.

    :param folder: made when it is not there
    :param report: called with one line whenever a file is not what it should be
    """

    def __init__(self, folder: Path, report: Callable[[str], None]):
        self.folder = folder
        self.report = report
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, cell: Cell) -> Path:
        """Where the result of ``cell`` is, or would be."""
        return self.folder / f"{cell.key}.json"

    def read(self, cell: Cell) -> CellResult | None:
        """The recorded result of ``cell``, or None when it has to be run.

        A file that cannot be trusted (truncated, edited, another schema) is reported and counts as missing.

        :param cell: looked up by its key
        :raises OSError: the file is there but cannot be read
        """
        path = self.path(cell)
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        try:
            return _decode(text, cell.key)
        except ValueError as error:
            self.report(f"{path} is not a valid result ({_first_line(error)}): its cell is run again")
            return None

    def write(self, cell: Cell, result: CellResult) -> None:
        """Record ``result`` for good: once this returns, a crash does not lose it.

        :param cell: what was run
        :param result: what it gave
        :raises OSError: the file system refused
        """
        content = {"cell": cell.model_dump(mode="json"), "result": result.model_dump(mode="json")}
        record = {"schema": STORE_SCHEMA, "key": cell.key, "digest": _digest(content), **content}
        write_atomically(self.path(cell), json.dumps(record, indent=1, allow_nan=False) + "\n")


def _decode(text: str, key: str) -> CellResult:
    record: Any = json.loads(text)
    if not isinstance(record, dict) or record.get("schema") != STORE_SCHEMA:
        raise ValueError(f"not a record of schema {STORE_SCHEMA}")
    content = {name: record.get(name) for name in ("cell", "result")}
    if record.get("key") != key or Cell.model_validate(content["cell"]).key != key:
        raise ValueError("it belongs to another cell")
    if record.get("digest") != _digest(content):
        raise ValueError("its content was changed after it was written")
    return CellResult.model_validate(content["result"])


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


class FolderLock:
    """Exclusive use of a folder by one coordinator, given back by the system when its process ends.

    :param folder: made when it is not there
    """

    def __init__(self, folder: Path):
        self.path = folder / ".lock"
        self._file: IO[str] | None = None

    def __enter__(self) -> "FolderLock":
        """Take the lock.

        :raises ValueError: another process holds it; the message has its pid
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise ValueError(
                f"{self.path.parent} is in use by process {owner}: wait for it, stop it, or give another --out"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back; the file stays, since removing it would let two processes lock two files."""
        if self._file is not None:
            self._file.close()
            self._file = None
