"""``ppo-variants dashboard``: optuna-dashboard on a study that may still be running, without a way to harm it."""

from collections.abc import Callable
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna_dashboard  # type: ignore[import-untyped]

from ..decisions.study_db import open_read_only

LOOPBACK = "127.0.0.1"


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def dashboard(folder: Path, *, port: int, announce: Callable[[str], None]) -> None:
    """Serve the dashboard on this machine only, until Ctrl-C.

    The database is opened for reading: what the page offers to change (notes, deleting a study) is refused, and
    ``rank`` goes on undisturbed beside it.

    :param folder: of a study's results, finished or not
    :param port: TCP port; 0 for any free one
    :param announce: called with the address once it answers
    :raises ValueError: no such folder, or no port of that number
    :raises OSError: no ``study.db``, or a damaged one; the port is taken
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port must lie between 0 and 65535, got {port}")
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give the folder of a study's results, such as runs/quick")
    storage = open_read_only(folder)
    try:
        server = make_server(
            LOOPBACK, port, optuna_dashboard.wsgi(storage), server_class=_Server, handler_class=_Silent
        )
    except OSError as error:
        raise OSError(f"port {port} cannot be used ({error.strerror}): give another --port") from error
    with server:
        announce(f"http://{LOOPBACK}:{server.server_port}/")
        server.serve_forever()
