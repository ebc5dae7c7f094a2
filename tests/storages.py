"""Optuna's databases in tests: they do not wait for the disk, and their migration scripts are read once a process."""

import sqlite3
from contextlib import suppress

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.engine import Engine


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection: object, record: object) -> None:
    """A killed process loses nothing by it, only a power cut would; waiting was most of what a study's tests did."""
    if isinstance(connection, sqlite3.Connection):
        with suppress(sqlite3.DatabaseError):  # of a damaged file: its first query says so
            connection.execute("PRAGMA synchronous = OFF")


_scripts: dict[str | None, ScriptDirectory] = {}
_read_scripts = ScriptDirectory.from_config


def _scripts_read_once(config: Config) -> ScriptDirectory:
    """Optuna compares each database that it opens with the scripts; reading them was most of opening one."""
    folder = config.get_main_option("script_location")
    if folder not in _scripts:
        _scripts[folder] = _read_scripts(config)
    return _scripts[folder]


ScriptDirectory.from_config = staticmethod(_scripts_read_once)
