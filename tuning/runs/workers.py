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
    :raises ValueError: both workers and a cluster, no scheduler at the address, or Dask is not installed
    """
    executor: CellExecutor
    limit = int(memory_limit * 2**30)
    if dask is None:
        number = default_workers() if workers is None else workers
        executor = LocalExecutor(number, time_limit=time_limit, memory_limit=limit, log=log.resolve())
    else:
        if workers is not None:
            raise ValueError("workers are counted on this machine; those of a Dask cluster are started there")
        try:
            from .cluster import DaskExecutor
        except ModuleNotFoundError as error:
            raise ValueError(f'a Dask cluster needs {error.name}: pip install "sb3-ppo-variants[dask]"') from error
        executor = DaskExecutor(dask, time_limit=time_limit, memory_limit=limit)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)
