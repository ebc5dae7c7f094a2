"""Ctrl-C that is not lost."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from typing_extensions import Self


class Interrupts:
    """Remembers an interrupt that Python dropped.

    A KeyboardInterrupt that comes while a destructor or the callback of a weak reference runs, of which a database
    connection has many, is printed and forgotten. Within this block one is raised again at the next :meth:`check`.
    Where something else handles the signal, or outside the main thread, nothing is changed.
    """

    def __init__(self) -> None:
        self._came = False
        self._before: Any = None

    def __enter__(self) -> Self:
        is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if is_usual and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raise the interrupt that came.

        :raises KeyboardInterrupt: if one did
        """
        if self._came:
            raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- what a handler is given
        self._came = True
        raise KeyboardInterrupt
