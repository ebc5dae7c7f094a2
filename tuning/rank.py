"""``ppo-variants rank``: tune, re-train on held-out seeds, rank, write. Resumes by being run again."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console
from typing_extensions import Unpack

from .decisions.coordinator import Coordinator
from .decisions.decisions import Decisions
from .decisions.study_db import storage_errors
from .ranking.make_ranking import make_ranking
from .ranking.result_files import write_results
from .ranking.results import Ranking
from .report.page import write_report
from .report.progress import Progress
from .report.table import show
from .runs.cell import Cell, CellResult, run_cell
from .runs.executor import CellExecutor
from .runs.store import CellStore, FolderLock
from .runs.workers import default_workers, open_executor
from .study.plan import estimate, show_plan
from .study.protocol import pin_protocol, protocol_digest, protocol_of
from .study.study_file import StudyChoices, load_study


def rank(
    name_or_path: str,
    *,
    out: Path | None = None,
    workers: int | None = None,
    dask: str | None = None,
    storage: str | None = None,
    console: Console | None = None,
    **choices: Unpack[StudyChoices],
) -> Ranking:
    """Run a study to its end, or from where it was stopped.

    :param name_or_path: a shipped study, or a YAML file
    :param out: folder of the results; runs/<study> by default
    :param workers: processes; the number of CPUs by default
    :param dask: address of a Dask scheduler, whose workers then run everything
    :param storage: Optuna storage URL; SQLite in ``out`` by default
    :param console: where progress and the table are shown
    :param choices: what is to be different from the study
    :raises ValueError: something is wrong with the arguments, before any work
    :raises OSError: results or storage cannot be written
    :raises concurrent.futures.BrokenExecutor: no worker can be kept alive, or the Dask scheduler is gone
    :raises KeyboardInterrupt: Ctrl-C, with everything stopped and saved
    """
    study = load_study(name_or_path, **choices)
    name = Path(name_or_path).stem
    folder = out or Path("runs") / name
    checkpoints = (folder / "checkpoints").resolve()
    console = console or Console()
    limits = {"time_limit": study.budget.time_limit, "memory_limit": study.budget.memory_limit}
    with open_executor(workers, dask, log=folder / "workers.log", **limits) as executor, FolderLock(folder):
        protocol = pin_protocol(folder, protocol_of(name, study))
        url = storage or f"sqlite:///{(folder / 'study.db').resolve()}"
        with storage_errors(url):
            decisions = Decisions.of(study, f"{name}-{protocol_digest(protocol)}", url)
            cores = 1 if dask else workers or default_workers()
            studies = len(decisions.tracks)
            console.print(f"{name}: {studies} studies, {executor.where}, results in {folder}", highlight=False)
            console.print(f"{name}: {estimate(study, cores)}", highlight=False)
            _run(decisions, folder, executor, console, run_cell if dask else partial(run_cell, checkpoints=checkpoints))
            shutil.rmtree(checkpoints, ignore_errors=True)  # of runs that were stopped at a limit
        ranking = make_ranking(decisions, protocol, study.seed)
        write_results(folder, ranking, decisions.tracks)
        report = write_report(folder)
    show(ranking, console)
    console.print(f"Report: {report}", highlight=False)
    return ranking


def _run(
    decisions: Decisions,
    folder: Path,
    executor: CellExecutor,
    console: Console,
    run: Callable[[Cell], CellResult],
) -> None:
    progress = Progress(decisions, console)
    store = CellStore(folder / "cells", progress.note)
    with progress.live():
        Coordinator(decisions, store, executor, progress, run=run).run()


def preview(
    name_or_path: str, *, workers: int | None = None, console: Console | None = None, **choices: Unpack[StudyChoices]
) -> None:
    """Print what :func:`rank` would run and what that would cost; nothing is run or written.

    :param name_or_path: a shipped study, or a YAML file
    :param workers: that would share the work; the number of CPUs by default
    :param console: where to
    :param choices: what is to be different from the study
    :raises ValueError: something is wrong with the arguments
    """
    study = load_study(name_or_path, **choices)
    show_plan(study, default_workers() if workers is None else workers, console or Console())
