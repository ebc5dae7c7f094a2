"""``study.db``: opened by ``rank``, which writes it, and by the commands that must not disturb that."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import optuna
from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError


def open_storage(url: str) -> optuna.storages.BaseStorage:
    """Open, or create, the storage that holds the Optuna studies.

    :param url: database URL such as ``sqlite:///runs/quick/study.db``
    :raises ValueError: it cannot be opened
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.storages.RDBStorage(url)
    except ImportError as error:
        raise ValueError(f"storage {url} cannot be opened: {error}") from error


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what the database complains about into one line with the remedy.

    :param url: named in the message
    :raises OSError: the storage cannot be read or written
    """
    try:
        yield
    except (OptunaError, SQLAlchemyError) as error:
        cause = error.__cause__ or error
        # The driver's own words; SQLAlchemy puts advice for programmers before them
        reason = str(getattr(cause, "orig", None) or cause).splitlines()[0]
        raise OSError(
            f"storage {url} cannot be used: {reason}. A damaged study.db may be removed: it is written again from the "
            "cells"
        ) from error


def open_read_only(folder: Path) -> optuna.storages.BaseStorage:
    """Open the database of a study; nothing can be written through it.

    :param folder: of the study's results
    :raises OSError: it is not there, or damaged
    """
    path = (folder / "study.db").resolve()
    if not path.is_file():
        raise OSError(f"{folder} has no study.db: the study has not begun, or keeps its trials in another storage")
    url = f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true"
    try:
        with storage_errors(str(path)):
            storage = optuna.storages.RDBStorage(url, skip_table_creation=True)
            storage.get_all_studies()  # a damaged file shows at the first query
    except OSError as error:
        # SQLite takes back what a killed process left half done, but only where it may write.
        if path.with_name("study.db-journal").exists():
            raise OSError(
                f"{path} was being written when rank was killed: run the same rank command, which repairs it"
            ) from error
        raise
    return storage
