"""The logger at a checkpoint: what waits to be written, and what its files hold.

Rows that a killed run wrote after its last checkpoint are taken away when the run goes on, which writes them again:
at its end, the files hold what those of an undisturbed run do.
"""

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import (
    CSVOutputFormat,
    HumanOutputFormat,
    JSONOutputFormat,
    KVWriter,
    Logger,
    TensorBoardOutputFormat,
    configure,
)

from sb3_ppo_variants.resume.environments import rewrite, text_of
from sb3_ppo_variants.resume.values import decode, encode_or_pickle

_EVENTS = "tfevents"  # in the name of each file that TensorBoard reads
_TEXTS = (HumanOutputFormat, JSONOutputFormat, CSVOutputFormat)


def read(logger: Logger) -> dict[str, Any]:
    """Return a logger's state as JSON: values not written yet, and for each file what it holds.

    The text of progress files, and for TensorBoard's the length. Output formats other than SB3's are not known here.

    :param logger: of the model
    """
    pending = (dict(logger.name_to_value), dict(logger.name_to_count), logger.name_to_excluded)
    return {
        "folder": logger.dir,
        "pending": encode_or_pickle(pending),
        "formats": [_read_format(output) for output in _with_files(logger)],
    }


def restore(logger: Logger, content: dict[str, Any]) -> None:
    """Put back what :func:`read` returned.

    :param logger: of the model; files of the same kinds, wherever they are, get the content of those before
    :param content: what was read
    """
    values, counts, excluded = decode(content["pending"])
    logger.name_to_value = defaultdict(float, values)
    logger.name_to_count = defaultdict(int, counts)
    logger.name_to_excluded = excluded
    saved = list(content["formats"])
    for output in _with_files(logger):
        same = next((one for one in saved if one["kind"] == type(output).__name__), None)
        if same is not None:
            saved.remove(same)
            _restore_format(output, same)


def same_folder(content: dict[str, Any], verbose: int) -> Logger | None:
    """Return a logger as SB3 would make it, in the folder of the run's TensorBoard files; None if there were none.

    SB3 itself would take a new folder, or that of whatever run was the last.

    :param content: what :func:`read` returned
    :param verbose: of the model
    """
    if not any(saved["kind"] == TensorBoardOutputFormat.__name__ for saved in content["formats"]):
        return None
    return configure(content["folder"], ["stdout", "tensorboard"] if verbose >= 1 else ["tensorboard"])


def _with_files(logger: Logger) -> list[KVWriter]:
    """Return the output formats that write files of their own."""
    return [
        output
        for output in logger.output_formats
        if isinstance(output, (*_TEXTS, TensorBoardOutputFormat)) and getattr(output, "own_file", True)
    ]


def _read_format(output: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"kind": type(output).__name__}
    if isinstance(output, TensorBoardOutputFormat):
        output.writer.flush()
        files = {path.name: path.stat().st_size for path in _event_files(output)}
        return content | {"folder": str(output.writer.log_dir), "files": files}
    if isinstance(output, CSVOutputFormat):
        content["keys"] = output.keys
    return content | {"text": text_of(output.file)}


def _restore_format(output: Any, content: dict[str, Any]) -> None:
    if isinstance(output, TensorBoardOutputFormat):
        _cut_event_files(output, content)
        return
    if isinstance(output, CSVOutputFormat):
        output.keys = list(content["keys"])
    rewrite(output.file, content["text"])


def _cut_event_files(output: TensorBoardOutputFormat, content: dict[str, Any]) -> None:
    """Cut the event files of the killed run back, and hide those that it began after the checkpoint.

    This process writes into a file of its own beside them; TensorBoard reads all of a folder as one run.
    """
    if Path(output.writer.log_dir).resolve() != Path(content["folder"]).resolve():
        return
    file_writer: Any = output.writer.file_writer
    own = os.path.basename(file_writer.event_writer._file_name)
    for path in _event_files(output):
        if path.name in content["files"]:
            os.truncate(path, content["files"][path.name])
        elif path.name != own:
            path.rename(path.with_name(path.name.replace(_EVENTS, "interrupted")))


def _event_files(output: TensorBoardOutputFormat) -> list[Path]:
    return [path for path in Path(output.writer.log_dir).iterdir() if _EVENTS in path.name]
