"""What one coordinator can feed, and whether its time and memory per cell stay flat, with cells that do nothing.

Everything else is real: search space, proposals, SQLite, one synced file for each cell, and for the throughput the
worker processes and a Dask scheduler with its workers on this machine. Proposals are random: what a learning sampler
takes for a proposal grows with the trials of its (algorithm, environment), and is the sampler's.
"""

import argparse
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reporting import footer, machine, markdown, one_thread, positive, versions
from rich.console import Console
from sb3_ppo_variants.tuning.decisions.coordinator import Coordinator
from sb3_ppo_variants.tuning.decisions.decisions import Decisions
from sb3_ppo_variants.tuning.report.progress import Progress
from sb3_ppo_variants.tuning.runs.cell import Cell, CellResult, CurvePoint, package_versions
from sb3_ppo_variants.tuning.runs.executor import CellExecutor
from sb3_ppo_variants.tuning.runs.local_pool import LocalExecutor, resident_memory
from sb3_ppo_variants.tuning.runs.store import CellStore
from sb3_ppo_variants.tuning.study.study_file import Study

SEEDS = 10
ALGORITHMS = ("ppo", "trpo")


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=positive, nargs="*", default=[100, 1000, 10_000, 100_000], help="for the scale")
    parser.add_argument("--throughput", type=positive, default=1000, help="cells for the throughput (1000)")
    parser.add_argument("--workers", type=positive, default=2, help="local workers, and Dask workers (2)")
    options = parser.parse_args()
    os.environ.update(one_thread())
    sys.modules["coordinator"] = sys.modules[__name__]
    answer.__module__ = "coordinator"  # what the workers can import
    columns = ["cells", "ms a cell", "CPU ms a cell", "resume: ms a cell", "CPU ms a cell", "MiB more"]
    print(markdown(columns, map(_scale, options.cells)))
    rows = [_throughput("local pool", options, _local), _throughput("Dask on loopback", options, _dask)]
    print("\n" + markdown([f"{options.workers} workers", "cells per second"], rows), end="\n\n")
    print(footer(machine(), versions()))


def answer(cell: Cell) -> CellResult:
    """Return a score that costs nothing."""
    score = float(int(cell.key[:4], 16) % 500)
    curve = (CurvePoint(steps=cell.steps, seconds=1.0, score=score),)
    known = package_versions()
    return CellResult(status="ok", score=score, returns=(score,), curve=curve, steps=cell.steps, versions=known)


class Instant:
    """An executor whose tasks are done when they are submitted."""

    where = "this process"
    slots = 64

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "futures.Future[Any]":
        """Run at once."""
        future: futures.Future[Any] = futures.Future()
        future.set_result(fn(*args, **kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing is open."""


def coordinate(folder: Path, cells: int, executor: CellExecutor) -> int:
    """Run a study of about so many cells, and return how many they were."""
    content = {
        "algorithms": list(ALGORITHMS),
        "environments": {"CartPole-v1": {"steps": 20_000}},
        "budget": {
            "trials": max(1, cells // SEEDS // len(ALGORITHMS)),
            "tuning_seeds": SEEDS,
            "validation_seeds": 1,
            "test_seeds": 1,
        },
        "sampler": "random",
        "pruner": "none",
    }
    decisions = Decisions.of(Study.model_validate(content), "benchmark", f"sqlite:///{folder / 'study.db'}")
    progress = Progress(decisions, Console(file=io.StringIO(), force_terminal=True), "no log")
    Coordinator(decisions, CellStore(folder / "cells", print), executor, progress, run=answer).run()
    return progress.runs_done


def _scale(cells: int) -> list[str]:
    """Measure in a process of its own, whose memory nothing else has touched."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (cells,))


def _measure(cells: int) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        warm = Path(name) / "warm"
        warm.mkdir()
        coordinate(warm, 100, Instant())
        before = resident_memory()
        number, first = _timed(Path(name), cells)
        memory = resident_memory() - before
        _, again = _timed(Path(name), cells)
    per_cell = [f"{1000 * spent / number:.2f}" for spent in (*first, *again)]
    return [f"{number:,}", *per_cell, f"{memory / 2**20:.1f}"]


def _timed(folder: Path, cells: int) -> tuple[int, tuple[float, float]]:
    """Number of cells, and seconds by the clock and of this process, which a busy machine changes less."""
    clock, own = time.perf_counter(), time.process_time()
    number = coordinate(folder, cells, Instant())
    return number, (time.perf_counter() - clock, time.process_time() - own)


def _throughput(title: str, options: argparse.Namespace, start: Any) -> list[str]:
    with tempfile.TemporaryDirectory() as name, start(options.workers, Path(name)) as executor:
        for future in [executor.submit(time.sleep, 0.2) for _ in range(4 * options.workers)]:
            future.result()  # the workers are up
        started = time.perf_counter()
        number = coordinate(Path(name), options.throughput, executor)
        return [title, f"{number / (time.perf_counter() - started):.0f}"]


@contextmanager
def _local(workers: int, folder: Path) -> Iterator[CellExecutor]:
    executor = LocalExecutor(workers, log=folder / "workers.log")
    yield executor
    executor.shutdown(cancel_futures=True)


@contextmanager
def _dask(workers: int, folder: Path) -> Iterator[CellExecutor]:
    from sb3_ppo_variants.tuning.runs.cluster import DaskExecutor

    file = folder / "scheduler.json"
    place = ["--scheduler-file", str(file), "--no-dashboard"]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    commands = [["scheduler", "--host", "127.0.0.1", "--port", "0"]]
    commands += [["worker", "--nthreads", "1", "--local-directory", str(folder)]] * workers
    started = []
    try:
        for command in commands:
            arguments = [sys.executable, "-m", "dask", *command, *place]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            started.append(subprocess.Popen(arguments, env=os.environ | {"PYTHONPATH": paths}, **quiet))
            while not file.exists() or not file.read_text(encoding="utf-8"):
                time.sleep(0.1)
        executor = DaskExecutor(json.loads(file.read_text(encoding="utf-8"))["address"])
        yield executor
        executor.shutdown(cancel_futures=True)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
