"""Who runs the cells of a study: processes of this machine, or a Dask cluster."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .executor import CellExecutor
from .local_pool import LocalExecutor


def default_workers() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_workers(workers: int | None, dask: str | None) -> None:
    """Refuse workers that nobody could start.

    :param workers: processes of this machine; None: the number of CPUs
    :param dask: address of a Dask scheduler, whose workers run everything
    :raises ValueError: not one worker, or both workers and a cluster
    """
    if workers is not None and dask is not None:
        raise ValueError("workers are counted on this machine; those of a Dask cluster are started there")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be >= 1, got {workers}")


@contextmanager
def open_executor(
    workers: int | None, dask: str | None, *, log: Path, time_limit: float, memory_limit: float
) -> Iterator[CellExecutor]:
    """Context in which cells can be run; what still runs at its end is stopped.

    :param workers: processes of this machine; the number of CPUs by default
    :param dask: address of a Dask scheduler, whose workers then run everything
    :param log: file that collects what local workers print
    :param time_limit: seconds that a run may take
    :param memory_limit: GiB of memory that a run's process may have
    :raises ValueError: as :func:`check_workers`, no scheduler at the address, or Dask is not installed
    """
    check_workers(workers, dask)
    executor: CellExecutor
    limit = int(memory_limit * 2**30)
    if dask is None:
        number = default_workers() if workers is None else workers
        executor = LocalExecutor(number, time_limit=time_limit, memory_limit=limit, log=log.resolve())
    else:
        try:
            from .cluster import DaskExecutor
        except ModuleNotFoundError as error:
            raise ValueError(f'a Dask cluster needs {error.name}: pip install "sb3-ppo-variants[dask]"') from error
        executor = DaskExecutor(dask, time_limit=time_limit, memory_limit=limit)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)
