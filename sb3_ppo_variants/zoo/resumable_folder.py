"""The folder of a run that can be resumed: where its checkpoints are, and how it was begun."""

import json
import os
from pathlib import Path

_ARGUMENTS = "arguments.json"


def checkpoints_of(run: str | Path) -> Path:
    """Return the folder of a run's checkpoints.

    :param run: its folder of logs
    """
    return Path(run) / "resume"


def write_arguments(run: str | Path, every: int, arguments: list[str]) -> None:
    """Note how a run was begun.

    :param run: its folder of logs
    :param every: environment steps between checkpoints, 0: not said
    :param arguments: of the command line, without our own
    """
    folder = checkpoints_of(run)
    folder.mkdir()
    temporary = folder / f"{_ARGUMENTS}.unfinished"
    temporary.write_text(json.dumps({"every": every, "arguments": arguments}), encoding="utf-8")
    os.replace(temporary, folder / _ARGUMENTS)


def read_arguments(run: Path) -> tuple[int, list[str]]:
    """Return what :func:`write_arguments` noted.

    :param run: the run's folder of logs
    :raises ValueError: if it is no run that can be resumed
    """
    path = checkpoints_of(run) / _ARGUMENTS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content["every"], content["arguments"]
    except OSError as error:
        raise ValueError(f"{run} holds no run of train --resumable.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): start the run anew in another folder.") from error
