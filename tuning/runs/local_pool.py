"""Where cells run: a local process pool with Python's own ``concurrent.futures`` interface.

:mod:`.cluster` offers the same on a cluster, where each worker keeps such a pool for its cells.
"""

import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import BaseContext
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from pebble import ProcessExpired, ProcessPool

from .executor import MemoryLimitError, WorkerDiedError

P = ParamSpec("P")
T = TypeVar("T")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# Torch's compiler is imported by the first optimizer
_IMPORTED_ONCE = ("sb3_ppo_variants.tuning.runs.cell", "sb3_ppo_variants.families", "torch._dynamo")
# Pauses before a worker is started after others that died with no task. Where they died because the process
# died that they are copies of, every start fails until the system has cleared that process away.
_PAUSES = (0.1, 0.4, 1.6)
_MEMORY_CHECK_SECONDS = 0.1
_LOOK_SECONDS = 0.1
# Exit codes of a worker over its memory limit: under its first task, or under a later one, when the
# memory may be what earlier tasks left behind.
_LEAKED, _FULL = 101, 102


class LocalExecutor(futures.Executor):
    """Process pool whose tasks outlive their workers and whose workers do not outlive the pool.

    Workers are processes of their own with one numerical thread each. A task whose worker dies is
    started again; a task over its time limit is killed and its future raises
    :class:`concurrent.futures.TimeoutError`; one over the memory limit is stopped and its future raises
    :class:`MemoryLimitError`. Workers end by themselves when this process ends, however it ends.

    Each worker is a Pebble pool of one process with a thread of its own that hands it one task at a time.
    Processes that share a Pebble pool share its pipe: one that dies while it takes a task, or while it
    returns a result, leaves the others a locked pipe and its task to nobody. So a process that did not
    return properly is also never used again, nor is its pipe.

    :param workers: number of processes, >= 1
    :param time_limit: seconds that a task may take; None for no limit
    :param memory_limit: bytes of resident memory that a worker may have, processes that its task
        starts not counted; None for no limit
    :param retries: how often a task is started again after its worker died, >= 0
    :param log: file that collects what workers print; None lets them print
    :raises ValueError: not one worker
    """

    def __init__(
        self,
        workers: int,
        *,
        time_limit: float | None = None,
        memory_limit: int | None = None,
        retries: int = 2,
        log: Path | None = None,
    ):
        if workers < 1:
            raise ValueError(f"workers must be >= 1, got {workers}")
        self.workers = workers
        self.time_limit = time_limit
        self.memory_limit = memory_limit
        self.retries = retries
        self.log = log
        self._closed = False
        self._open: set[futures.Future[Any]] = set()
        self._waiting: SimpleQueue[_Task | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(workers)]
        _prepare_environment()
        for thread in self._threads:
            thread.start()

    @property
    def where(self) -> str:
        """Who runs the tasks, in a few words."""
        return f"{self.workers} workers"

    @property
    def slots(self) -> int:
        """Tasks to submit at a time: one more than there are workers, so that none waits while a result is written."""
        return self.workers + 1

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> futures.Future[T]:
        """Run ``fn(*args, **kwargs)`` in a worker.

        The future raises what ``fn`` raised, :class:`concurrent.futures.TimeoutError`,
        :class:`MemoryLimitError`, :class:`WorkerDiedError`, or :class:`concurrent.futures.BrokenExecutor`
        when no worker can be kept alive. Cancelling it stops the task, also while it runs.

        :param fn: a function that can be pickled
        """
        if self._closed:
            raise RuntimeError("cannot submit to an executor after its shutdown")
        task = _Task(fn, args, kwargs)
        self._open.add(task.future)
        task.future.add_done_callback(self._open.discard)
        self._waiting.put(task)
        return task.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop the workers.

        :param wait: return only when the workers are gone
        :param cancel_futures: kill the tasks that run and drop those that wait; otherwise finish them first
        """
        if not cancel_futures:
            futures.wait(list(self._open))
        self._closed = True
        for future in list(self._open):
            future.cancel()
        for _ in self._threads:
            self._waiting.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _serve(self) -> None:
        """Be one worker: see each task to its end, in as many processes as it takes."""
        # The terminal sends Ctrl-C to the whole group, also to a process that is still importing: those
        # started from here inherit that it is blocked.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        pool = self._new_pool()
        while (task := self._waiting.get()) is not None:
            while not task.future.done():
                if not self._attempt(task, pool):
                    _discard(pool)
                    pool = self._new_pool()
        _discard(pool)

    def _new_pool(self) -> ProcessPool:
        context = _context()
        arguments = (dict(os.environ), self.log, self.memory_limit)
        return ProcessPool(1, context=context, initializer=_prepare_worker, initargs=arguments)

    def _attempt(self, task: "_Task", pool: ProcessPool) -> bool:
        """Run a task once; say whether the worker may be given another."""
        try:
            inner = pool.schedule(_call, args=(task.fn, task.args, task.kwargs), timeout=self.time_limit)
        except RuntimeError:  # the worker was killed while it had nothing to do
            self._count_breakage(task)
            return False
        while not futures.wait([inner], timeout=_LOOK_SECONDS).done:
            if task.future.cancelled():
                return False
            if not pool.active:  # the worker died just as the task was handed over
                self._count_breakage(task)
                return False
        with suppress(futures.InvalidStateError):  # it was cancelled meanwhile
            return self._settle(task, inner)
        return True

    def _settle(self, task: "_Task", inner: "futures.Future[Any]") -> bool:
        """Hand the outcome on, unless it was the worker that failed."""
        error = inner.exception()
        if error is None:
            task.future.set_result(inner.result())
        elif isinstance(error, ProcessExpired):
            self._count_death(task, error)
            return False
        elif isinstance(error, BrokenProcessPool):
            self._count_breakage(task)
            return False
        else:
            task.future.set_exception(error)
        return not isinstance(error, futures.TimeoutError)

    def _count_death(self, task: "_Task", error: ProcessExpired) -> None:
        task.deaths += 1
        if error.exitcode != _LEAKED and task.deaths <= self.retries:
            return
        if error.exitcode in (_LEAKED, _FULL) and self.memory_limit is not None:
            task.future.set_exception(MemoryLimitError(f"it took more than {self.memory_limit / 2**30:.3g} GiB"))
        else:
            task.future.set_exception(
                WorkerDiedError(f"its worker process died {task.deaths} times, last with exit code {error.exitcode}")
            )

    def _count_breakage(self, task: "_Task") -> None:
        """Note that a worker died before it had taken the task, and pause: not the task's fault, but it must end."""
        if task.breakages < len(_PAUSES):
            time.sleep(_PAUSES[task.breakages])
            task.breakages += 1
            return
        where = f"; see {self.log}" if self.log else ""
        with suppress(futures.InvalidStateError):
            task.future.set_exception(futures.BrokenExecutor(f"worker processes die as soon as they start{where}"))


@dataclass
class _Task:
    """A call, and how often a worker died under it or before it had taken it."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    deaths: int = 0
    breakages: int = 0
    # Never set to running: such a future could not be cancelled.
    future: "futures.Future[Any]" = field(default_factory=futures.Future)


def _discard(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


def import_ahead() -> None:
    """Let the process that workers are copied from begin its imports now, beside what this one does before its tasks.

    It ends with this process, whether there are tasks or not.
    """
    if sys.platform == "linux":
        _prepare_environment()
        _context()
        forkserver.ensure_running()


def _context() -> BaseContext:
    """How workers start: on Linux as copies of a process that has done nothing but import what every cell needs.

    That takes seconds of a core, which each worker, and each that comes after one that died, would need again.
    Elsewhere system libraries do not always outlive a copy, so each worker imports for itself.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED_ONCE))
    return context


def _prepare_environment() -> None:
    """What workers inherit at birth: one numerical thread (read when torch is imported)."""
    for name in _THREAD_VARIABLES:
        os.environ[name] = "1"
    # It unblocks Ctrl-C when it starts, and would otherwise start together with the first worker.
    resource_tracker.ensure_running()


def _prepare_worker(environment: Mapping[str, str], log: Path | None, memory_limit: int | None) -> None:
    _die_with_parent()
    os.environ.update(environment)  # a copy has what was there when the process that it copies was started
    if memory_limit is not None:
        _limit_memory(memory_limit)
    if log is not None:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(handle, sys.stdout.fileno())
        os.dup2(handle, sys.stderr.fileno())
        os.close(handle)
    warnings.simplefilter("once")


def _die_with_parent() -> None:
    """End this worker as soon as the coordinator is gone, even by kill -9: nobody waits for its result."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


_calls = 0
_in_call = False


def _call(fn: Callable[..., T], args: Sequence[Any], kwargs: Mapping[str, Any]) -> T:
    """Run a task in a worker; the memory watch has to know that one is running, and which."""
    global _calls, _in_call  # noqa: PLW0603 - state of this worker process
    _calls += 1
    _in_call = True
    try:
        return fn(*args, **kwargs)
    finally:
        _in_call = False


def _limit_memory(limit: int) -> None:
    """End this worker when its task takes it over ``limit`` bytes.

    The watch needs a moment and Python's attention. A single huge allocation gives it neither, so the
    system refuses those at twice the limit; what stays below is seen by the watch.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = 2 * limit if hard == resource.RLIM_INFINITY else min(2 * limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))

    def watch() -> None:
        while True:
            time.sleep(_MEMORY_CHECK_SECONDS)
            if _in_call and resident_memory() > limit:
                os._exit(_LEAKED if _calls == 1 else _FULL)

    threading.Thread(target=watch, daemon=True).start()


def resident_memory() -> int:
    """Bytes of physical memory that this process occupies (on macOS: occupied at most so far)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()
