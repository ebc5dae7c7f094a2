"""Cells on a Dask cluster, under the same rules as in the local pool.

A Dask worker does not run a cell itself: it hands it to a local pool of its own, one process for each
of its threads. So a cell has a process to itself there too (two of them in one process would share the
random generators), with one numerical thread, the time limit and the memory limit, and a cell that
crashes does not take its Dask worker along. Results travel back through the scheduler; workers need no
shared disk and no database.
"""

import asyncio
import logging
import multiprocessing
import pickle
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from multiprocessing import util
from typing import Any, ParamSpec, TypeVar

from distributed import Client, KilledWorker, Security, Status, Worker, connect, get_worker

from .cell import package_versions
from .executor import WorkerDiedError
from .local_pool import LocalExecutor

P = ParamSpec("P")
T = TypeVar("T")

# Of a cell that a Dask worker could not even hand to a process; perhaps another one can.
_RETRIES = 2
_FEWEST_SLOTS = 16
_COUNT_SECONDS = 2.0
_LOOK_SECONDS = 0.5
_IDLE_SECONDS = 60.0
_CLOSE_SECONDS = 5.0
# Environments come from these: a run on another release of them is another run.
_ENVIRONMENTS = ("mujoco", "Box2D", "ale-py", "minigrid")


class DaskExecutor(futures.Executor):
    """Runs tasks on the workers of a Dask scheduler; workers may come and go meanwhile.

    A task whose Dask worker dies is run on another one, as often as the scheduler's
    ``distributed.scheduler.allowed-failures`` says (3).

    :param address: of the scheduler, such as ``tcp://10.0.0.1:8786``
    :param time_limit: seconds that a task may take; None for no limit
    :param memory_limit: bytes of resident memory that a task's process may have; None for no limit
    :raises ValueError: no scheduler answers there, or a worker has other package versions than this process
    """

    def __init__(self, address: str, *, time_limit: float | None = None, memory_limit: int | None = None):
        self.address = address
        self._limits = _Limits(time_limit, memory_limit)
        self._versions = _versions_here()
        self._client = _connect(address)
        self._open: set[futures.Future[Any]] = set()
        self._closed = False
        self._threads, self._counted = 0, 0.0
        try:
            self._check_workers()
        except BaseException:
            self._client.close()
            raise
        self._tasks = self._client.get_executor(pure=False, retries=_RETRIES)

    @property
    def where(self) -> str:
        """Who will run the tasks, in a few words."""
        threads = self._client.nthreads()
        if not threads:
            return f"no worker yet at {self.address} (runs wait until one joins)"
        return f"{len(threads)} Dask workers with {sum(threads.values())} threads at {self.address}"

    @property
    def slots(self) -> int:
        """Tasks to submit at a time: twice the threads, so that an adaptive cluster sees why it should grow."""
        if time.monotonic() - self._counted > _COUNT_SECONDS:
            try:
                self._threads = sum(self._client.nthreads().values())
            except OSError as error:
                raise self._lost() from error
            self._counted = time.monotonic()
        return max(2 * self._threads, _FEWEST_SLOTS)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> futures.Future[T]:
        """Run ``fn(*args, **kwargs)`` in a process of some Dask worker.

        The future raises the same as :meth:`.LocalExecutor.submit`'s. Cancelling it stops the task,
        also while it runs.

        :param fn: a function that the workers can import
        """
        if self._closed:
            raise RuntimeError("cannot submit to an executor after its shutdown")
        key = f"{fn.__name__}-{uuid.uuid4().hex}"
        order = _Order(key, fn, args, kwargs, self._limits, self._versions)
        try:
            inner = self._tasks.submit(_opener(), pickle.dumps(order), key=key)
        except (OSError, RuntimeError) as error:
            raise self._lost() from error
        future: futures.Future[T] = futures.Future()
        self._open.add(future)
        future.add_done_callback(lambda done: inner.cancel() if done.cancelled() else None)
        future.add_done_callback(self._open.discard)
        inner.add_done_callback(lambda done: self._settle(future, done))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster; it goes on without us.

        :param wait: has no meaning here, nothing of this process is left to wait for
        :param cancel_futures: stop the tasks that run and drop those that wait; otherwise finish them first
        """
        del wait
        if not cancel_futures:
            futures.wait(list(self._open))
        self._closed = True
        for future in list(self._open):
            future.cancel()
        with suppress(OSError, TimeoutError, futures.TimeoutError):
            self._client.close(timeout=_CLOSE_SECONDS)

    def _settle(self, future: "futures.Future[Any]", done: "futures.Future[_Outcome]") -> None:
        with suppress(futures.InvalidStateError):  # it was cancelled meanwhile
            if done.cancelled():
                future.set_exception(self._lost())
                return
            error = done.exception()
            if error is None:
                outcome = done.result()
                if outcome.error is None:
                    future.set_result(outcome.result)
                else:
                    future.set_exception(outcome.error)
            else:
                future.set_exception(self._reason(error))

    def _reason(self, error: BaseException) -> BaseException:
        if isinstance(error, KilledWorker):
            deaths = error.allowed_failures + 1
            return WorkerDiedError(f"{deaths} Dask workers died under it, the last was {_last(error)}")
        return futures.BrokenExecutor(f"a Dask worker of {self.address} cannot run cells: {error or repr(error)}")

    def _lost(self) -> futures.BrokenExecutor:
        return futures.BrokenExecutor(f"lost the Dask scheduler at {self.address}: start one, and give its address")

    def _check_workers(self) -> None:
        """Refuse workers of other versions before any work; one that joins later is refused by its first cell."""
        found: dict[str, dict[str, str]] = {}
        for name in self._versions:
            question = (platform.python_version,) if name == "python" else (metadata.version, name)
            for worker, answer in self._client.run(*question, on_error="return").items():
                found.setdefault(worker, {})[name] = answer if isinstance(answer, str) else "none"
        for worker, versions in found.items():
            differences = _differences(versions, self._versions)
            if differences:
                raise ValueError(_mismatch(worker, differences))


@dataclass(frozen=True)
class _Limits:
    time: float | None
    memory: int | None


@dataclass(frozen=True)
class _Order:
    """A task as it travels to a worker."""

    key: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    limits: _Limits
    versions: Mapping[str, str]

    def run(self) -> "_Outcome":
        """Run it on the Dask worker that this is called on."""
        return _run_order(self)


@dataclass(frozen=True)
class _Outcome:
    """What came of a task; what is the task's own fault is no exception to Dask, which would run it again."""

    result: Any = None
    error: Exception | None = None


def _connect(address: str) -> Client:
    # It tells of every lost connection, at length; what matters of it ends in our errors.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        # A client that failed to connect may wait for ever when it is collected: make none where nobody answers.
        asyncio.run(_knock(address))
        return Client(address, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise ValueError(
            f"no Dask scheduler answers at {address} ({' '.join(str(error).split())}): "
            "start one with `dask scheduler`, and give the address that it prints"
        ) from error


async def _knock(address: str) -> None:
    comm = await connect(address, **Security().get_connection_args("client"))
    await comm.close()


def _last(error: KilledWorker) -> str:
    return str(getattr(error.last_worker, "address", error.last_worker))


def _versions_here() -> dict[str, str]:
    installed = {}
    for name in _ENVIRONMENTS:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return {**package_versions(), **installed}


def _differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    return [
        f"{name} {there.get(name, 'none')} there, {version} here"
        for name, version in here.items()
        if there.get(name, "none") != version
    ]


def _mismatch(worker: str, differences: list[str]) -> str:
    return (
        f"Dask worker {worker} has other versions than this process ({'; '.join(differences)}): "
        "results would not belong together, install the same ones there"
    )


def _opener() -> Callable[[bytes], _Outcome]:
    """The function that Dask sees.

    Defined inside another one it travels as code, and its argument as bytes: the scheduler, which
    unpacks every task, then need not import this package and PyTorch with it.
    """

    def run(parcel: bytes) -> _Outcome:
        import pickle

        order = pickle.loads(parcel)  # noqa: S301 - ours; Dask itself sends code
        return order.run()  # type: ignore[no-any-return]

    return run


def _run_order(order: _Order) -> _Outcome:
    """Run a task in a process of this Dask worker."""
    worker = get_worker()
    differences = _differences(_versions_here(), order.versions)
    if differences:
        raise RuntimeError(_mismatch(worker.address, differences))
    with _processes(order.limits, worker.state.nthreads) as pool:
        future = pool.submit(order.fn, *order.args, **order.kwargs)
        while not futures.wait([future], timeout=_LOOK_SECONDS).done:
            if _is_abandoned(worker, order.key):
                future.cancel()
                raise RuntimeError("this run was stopped: it was cancelled, or its Dask worker closes")
        try:
            return _Outcome(future.result())
        except futures.BrokenExecutor:
            raise
        except Exception as error:
            return _Outcome(error=error)


def _is_abandoned(worker: Worker, key: str) -> bool:
    """Whether nobody waits for the result any more: cancelled, its client is gone, or this worker leaves."""
    task = worker.state.tasks.get(key)
    return worker.status in (Status.closing, Status.closed) or (task is not None and task.state == "cancelled")


class _Pool:
    """A local pool, who uses it, and the clock that ends it when nobody has for a while."""

    def __init__(self, executor: LocalExecutor):
        self.executor = executor
        self.users = 0
        self.clock: threading.Timer | None = None


_pools: dict[_Limits, _Pool] = {}
_pools_lock = threading.RLock()


@contextmanager
def _processes(limits: _Limits, number: int) -> Iterator[LocalExecutor]:
    """The local pool of this Dask worker, for as long as a task needs it."""
    with _pools_lock:
        if limits not in _pools:
            # A worker under a nanny is a daemon, and those may not have children. Ours end with their parent.
            multiprocessing.current_process().daemon = False
            if not _pools:  # at its exit it would wait for them
                util.Finalize(None, _close_all, exitpriority=1)
            _pools[limits] = _Pool(LocalExecutor(number, time_limit=limits.time, memory_limit=limits.memory))
        pool = _pools[limits]
        pool.users += 1
        if pool.clock is not None:
            pool.clock.cancel()
    try:
        yield pool.executor
    finally:
        with _pools_lock:
            pool.users -= 1
            if not pool.users:
                pool.clock = threading.Timer(_IDLE_SECONDS, _close_if_idle, [limits])
                pool.clock.daemon = True
                pool.clock.start()


def _close_if_idle(limits: _Limits) -> None:
    with _pools_lock:
        idle = limits in _pools and not _pools[limits].users
        pool = _pools.pop(limits) if idle else None
    if pool is not None:
        pool.executor.shutdown(cancel_futures=True)


def _close_all() -> None:
    with _pools_lock:
        for pool in _pools.values():
            pool.executor.shutdown(cancel_futures=True)
