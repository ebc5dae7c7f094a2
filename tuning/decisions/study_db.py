"""``study.db``, opened for reading by the commands that must not disturb a running ``rank``."""

from pathlib import Path
from urllib.parse import quote

import optuna

from .trial_log import storage_errors


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
