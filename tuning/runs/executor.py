"""What the coordinator needs of whoever runs its cells, and how a run can end without a result."""

from collections.abc import Callable
from concurrent import futures
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class WorkerDiedError(RuntimeError):
    """A worker process ended under its task (killed, out of memory, crashed), and the retries are used up."""


class MemoryLimitError(RuntimeError):
    """A task took more memory than a worker process may have, and was stopped."""


class CellExecutor(Protocol):
    """What the coordinator needs to know of an executor."""

    @property
    def where(self) -> str:
        """Who runs the tasks, in a few words."""

    @property
    def slots(self) -> int:
        """How many tasks to submit at a time; may change while a study runs."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> futures.Future[T]:
        """Run ``fn(*args, **kwargs)`` somewhere."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop."""
