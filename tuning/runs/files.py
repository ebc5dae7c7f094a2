"""Files that are either the old one or the new one, whatever happens while they are written."""

import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path`` so that a reader, or a crash, never meets half a file.

    One process at a time may write a given path (:class:`~.store.FolderLock` sees to that).

    :param path: file to write; its folder must exist
    :param content: all of it; text is written as UTF-8
    :raises OSError: the file system refused (no space, read-only); ``path`` is then as it was
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system lets one open a folder."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
