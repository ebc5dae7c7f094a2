"""Tasks for worker processes, which import this file: it brings nothing that costs them time or memory."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def die_unless_enough(folder: Path, deaths: int) -> int:
    """Leave a mark and kill the own process, until there are enough marks."""
    attempt = len(list(folder.iterdir()))
    (folder / str(attempt)).touch()
    if attempt < deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return attempt


def report_and_sleep(path: Path, seconds: float) -> None:
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(str(os.getpid()))
    unfinished.rename(path)  # whoever sees it can read it
    time.sleep(seconds)


KEPT: list[bytearray] = []


def leak(folder: Path, mebibytes: int) -> int:
    """Leave a mark, then fill memory in small steps and keep it."""
    (folder / str(len(list(folder.iterdir())))).touch()
    for _ in range(mebibytes // 8):
        KEPT.append(bytearray(b"x" * 2**23))
        time.sleep(0.01)
    return os.getpid()


def unpack_slowly(folder: Path) -> Path:
    """What a worker does to understand its task: the first one stays at it for ever."""
    if not (folder / "pid").exists():
        report_and_sleep(folder / "pid", 600.0)
    return folder


class SlowToUnpack:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[Path], Path], tuple[Path]]:
        return unpack_slowly, (self.folder,)


def threads_and_sigint() -> tuple[str | None, bool]:
    import torch

    blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    return os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads() == 1 and blocked


def who_asked_for_this_process() -> int:
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    return parent.pid


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)
