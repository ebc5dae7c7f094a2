"""``ppo-variants rank``: tune, re-train on held-out seeds, rank, write. Resumes by being run again."""

import shutil
from collections.abc import Callable, Mapping, Sequence
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
from .runs.workers import check_workers, default_workers, open_executor
from .study.pairs import runnable
from .study.plan import estimate, show_plan
from .study.protocol import pin_protocol, protocol_digest, protocol_of
from .study.study_file import Study, StudyChoices, load_study, study_name


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

    :param name_or_path: a shipped study, a YAML file, or the folder of a study's results
    :param out: folder of the results; runs/<study> by default
    :param workers: processes; the number of CPUs by default
    :param dask: address of a Dask scheduler, whose workers then run everything
    :param storage: Optuna storage URL; SQLite in ``out`` by default
    :param console: where progress and the table are shown
    :param choices: what is to be different from the study
    :return: the ranking, without a line where no algorithm finished its runs
    :raises ValueError: something is wrong with the arguments, or an algorithm cannot run, before any work
    :raises OSError: results or storage cannot be written
    :raises concurrent.futures.BrokenExecutor: no worker can be kept alive, or the Dask scheduler is gone
    :raises KeyboardInterrupt: Ctrl-C, with everything stopped and saved
    """
    check_workers(workers, dask)
    study, left_out = _runnable(name_or_path, choices)
    name = study_name(name_or_path)
    folder = out or Path("runs") / name
    log, checkpoints = folder / "workers.log", (folder / "checkpoints").resolve()
    console = console or Console()
    _say(_notes(study, left_out, choices, dask), console)
    limits = {"time_limit": study.budget.time_limit, "memory_limit": study.budget.memory_limit}
    with open_executor(workers, dask, log=log, **limits) as executor, FolderLock(folder):
        protocol = pin_protocol(folder, protocol_of(name, study))
        url = storage or f"sqlite:///{(folder / 'study.db').resolve()}"
        with storage_errors(url):
            decisions = Decisions.of(study, f"{name}-{protocol_digest(protocol)}", url)
            studies = len(decisions.tracks)
            console.print(f"{name}: {studies} studies, {executor.where}, results in {folder}", highlight=False)
            console.print(f"{name}: {estimate(study, _cores(workers, dask))}", highlight=False)
            progress = Progress(decisions, console, "the log of its Dask worker" if dask else str(log))
            _run(
                decisions, folder, executor, progress, run_cell if dask else partial(run_cell, checkpoints=checkpoints)
            )
            shutil.rmtree(checkpoints, ignore_errors=True)  # of runs that were stopped at a limit
        ranking = make_ranking(decisions, protocol, study.seed, left_out)
        write_results(folder, ranking, decisions.tracks)
        report = write_report(folder)
    show(ranking, console)
    console.print(f"Report: {report}", highlight=False)
    return ranking


def _run(
    decisions: Decisions,
    folder: Path,
    executor: CellExecutor,
    progress: Progress,
    run: Callable[[Cell], CellResult],
) -> None:
    store = CellStore(folder / "cells", progress.note)
    with progress.live():
        Coordinator(decisions, store, executor, progress, run=run).run()


def preview(
    name_or_path: str,
    *,
    workers: int | None = None,
    dask: str | None = None,
    console: Console | None = None,
    **choices: Unpack[StudyChoices],
) -> None:
    """Print what :func:`rank` would run and what that would cost; nothing is run or written.

    :param name_or_path: a shipped study, a YAML file, or the folder of a study's results
    :param workers: that would share the work; the number of CPUs by default
    :param dask: address of a Dask scheduler, whose workers would; nobody is asked there
    :param console: where to
    :param choices: what is to be different from the study
    :raises ValueError: something is wrong with the arguments
    """
    check_workers(workers, dask)
    study, left_out = _runnable(name_or_path, choices)
    console = console or Console()
    _say(_notes(study, left_out, choices, dask), console)
    show_plan(study, _cores(workers, dask), console)


def _cores(workers: int | None, dask: str | None) -> int:
    """Cores that share the work; 1 where a cluster's are not known."""
    return 1 if dask else workers or default_workers()


def _runnable(name_or_path: str, choices: StudyChoices) -> tuple[Study, dict[str, str]]:
    """The study, and the algorithms that are left out of it because they cannot run, with their reasons."""
    study = load_study(name_or_path, **choices)
    try:
        return runnable(study)
    except ValueError as error:
        raise ValueError(f"study {name_or_path}: {error}") from error


def _notes(study: Study, left_out: Mapping[str, str], choices: StudyChoices, dask: str | None) -> list[str]:
    """Who is left out, and which choices do nothing in this study."""
    notes = [f"Left out: {algorithm} {reason}" for algorithm, reason in left_out.items()]
    budget = study.budget
    chosen = [
        f"--{name}" for name, value in (("sampler", choices.get("sampler")), ("pruner", choices.get("pruner"))) if value
    ]
    if chosen and not budget.trials:
        notes.append(f"Nothing is tuned: {' and '.join(chosen)} can do nothing.")
    elif choices.get("pruner") == "median" and budget.tuning_seeds == 1:
        notes.append("--pruner median can do nothing: it gives a trial up between its seeds, and each has one.")
    every = budget.checkpoint_every
    if every is not None and dask:
        notes.append(
            "budget.checkpoint_every: the workers of a Dask cluster keep no checkpoints, killed runs begin anew."
        )
    short = [env_id for env_id, environment in study.environments.items() if every and every >= environment.steps]
    if short:
        notes.append(
            f"budget.checkpoint_every is {every}: runs on {', '.join(short)} end before their first checkpoint."
        )
    return notes


def _say(notes: Sequence[str], console: Console) -> None:
    for note in notes:
        console.print(note, highlight=False, markup=False)
