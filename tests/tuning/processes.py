"""The command in processes of its own: start it, watch it, read what it left."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], object], what: str = "it", seconds: float = 120.0) -> None:
    """Return once ``condition`` holds; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} never happened"
        time.sleep(0.02)


def command(study: Path, out: Path, *options: str) -> list[str]:
    script = Path(sys.executable).with_name("ppo-variants")
    return [str(script), "rank", str(study), "--out", str(out), *options]


def ranking_of(folder: Path) -> Any:
    return json.loads((folder / "ranking.json").read_text())


def finished_cells(folder: Path) -> dict[str, tuple[int, int]]:
    """Name -> inode and time: written once is written for ever."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (folder / "cells").glob("*.json")}


def workers_of(pid: int) -> list[int]:
    """Worker processes of a coordinator: copies of the one that has imported everything, if it has come so far."""
    server = next((child for child in _children(pid) if _is_server(child)), None)
    return [] if server is None else _children(server)


def _children(pid: int) -> list[int]:
    # Listed by the thread that started them
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def _is_server(pid: int) -> bool:
    return b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()


class running:  # noqa: N801
    """The command in a process group of its own, as a terminal would start it; ended when the block is left."""

    def __init__(self, study: Path, folder: Path) -> None:
        self.arguments = command(study, folder, "--workers", "1")
        self.output = folder / "output"

    def __enter__(self) -> "subprocess.Popen[bytes]":
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                self.arguments,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A test run in the background ignores Ctrl-C, and its children would inherit that
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            )
        return self.process

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if error[0] is not None:
            print(self.output.read_text())
