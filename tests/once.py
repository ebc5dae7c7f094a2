"""What is made once for all test processes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that the first test process fills, and that nobody may change.

    :param factory: pytest's, of the session
    :param name: of the folder
    :param make: fills it; whoever comes meanwhile waits
    """
    base = factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base  # the folder of a whole run with pytest-xdist
    folder, done = shared / name, shared / f"{name}.done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
