"""The one process that decides what to run, and the only one that writes.

All that happens follows from the study and from the cells' results: trial *n* is proposed from the
trials up to ``n - trials_in_flight`` (those after it count as running, even if they have finished). So
the outcome depends neither on the number of workers, nor on which cell ends first, nor on how often
the coordinator was killed; resuming replays the study over the cells on disk.
"""

import heapq
import queue
from collections import defaultdict
from collections.abc import Callable
from concurrent import futures
from itertools import count
from typing import Protocol

from ..runs.cell import Cell, CellResult, failed_result, require_same_versions, run_cell
from ..runs.executor import CellExecutor, MemoryLimitError, WorkerDiedError
from ..runs.store import CellStore
from .decisions import Decisions
from .interrupts import Interrupts
from .request import Request
from .track import Track
from .trial import Trial

_LOOK_AGAIN_SECONDS = 5.0


class Listener(Protocol):
    """What a progress display is told."""

    def trial_finished(self, track: Track, trial: Trial) -> None:
        """A trial has its value."""

    def run_finished(self, request: Request, result: CellResult, *, ran: bool) -> None:
        """A request is answered: its cell ran just now, or its result was there already."""


class Coordinator:
    """Runs a study to its end, as many cells at a time as there are workers.

    :param decisions: of the study
    :param store: finished cells
    :param executor: where cells run, and how many at a time
    :param listener: told what happens
    :param run: the function that runs a cell
    """

    def __init__(
        self,
        decisions: Decisions,
        store: CellStore,
        executor: CellExecutor,
        listener: Listener,
        *,
        run: Callable[[Cell], CellResult] = run_cell,
    ):
        self.decisions = decisions
        self.store = store
        self.executor = executor
        self.listener = listener
        self._run_cell = run
        self._queue: list[tuple[tuple[int, int], int, Cell]] = []
        self._order = count()
        self._waiting: dict[str, list[Request]] = defaultdict(list)
        self._in_flight: dict[futures.Future[CellResult], Cell] = {}
        self._done: queue.SimpleQueue[futures.Future[CellResult]] = queue.SimpleQueue()

    def run(self) -> None:
        """Return when every test run of every track has its result.

        :raises ValueError: a result was made with other package versions
        :raises OSError: results cannot be written
        :raises concurrent.futures.BrokenExecutor: no worker can be kept alive
        :raises KeyboardInterrupt: Ctrl-C
        """
        with Interrupts() as interrupts:
            for track in self.decisions.tracks:
                self._advance(track)
                interrupts.check()
            while self._queue or self._in_flight:
                self._submit()
                self._collect()
                interrupts.check()

    def _advance(self, track: Track) -> None:
        while requests := self.decisions.advance(track):
            for request in requests:
                self._ask(request)

    def _ask(self, request: Request) -> None:
        """Answer from disk, or put the cell in the queue; equal cells wait for the same run."""
        key = request.cell.key
        if key not in self._waiting:
            known = self.store.read(request.cell)
            if known is not None:
                require_same_versions(request.cell, known)
                self._answer(request, known, ran=False)
                return
            heapq.heappush(self._queue, (request.priority, next(self._order), request.cell))
        self._waiting[key].append(request)

    def _answer(self, request: Request, result: CellResult, *, ran: bool) -> None:
        self.listener.run_finished(request, result, ran=ran)
        trial = request.receive(result)
        if trial is not None:
            self.listener.trial_finished(self.decisions.track_of(request.pair), trial)

    def _submit(self) -> None:
        while self._queue and len(self._in_flight) < self.executor.slots:
            _, _, cell = heapq.heappop(self._queue)
            future = self.executor.submit(self._run_cell, cell)
            self._in_flight[future] = cell
            future.add_done_callback(self._done.put)

    def _collect(self) -> None:
        try:
            future = self._done.get(timeout=_LOOK_AGAIN_SECONDS)
        except queue.Empty:
            return  # perhaps there are more slots by now
        cell = self._in_flight.pop(future)
        result = _outcome(future)
        require_same_versions(cell, result)
        self.store.write(cell, result)
        requests = self._waiting.pop(cell.key)
        for index, request in enumerate(requests):
            self._answer(request, result, ran=index == 0)
        for request in requests:
            self._advance(self.decisions.track_of(request.pair))


def _outcome(future: "futures.Future[CellResult]") -> CellResult:
    """The result, also when there is none because the run was stopped or its worker died.

    A study is stopped by whatever says nothing about the run itself, such as workers that do not start.
    """
    try:
        return future.result()
    except futures.TimeoutError:
        return failed_result("over the time limit of a run (budget.time_limit in the study)")
    except MemoryLimitError as error:
        return failed_result(f"over the memory limit of a run (budget.memory_limit in the study): {error}")
    except WorkerDiedError as error:
        return failed_result(str(error))
