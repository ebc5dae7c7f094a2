"""``ppo-variants rank``: tune, re-train on held-out seeds, rank, write. Resumes by being run again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table
from typing_extensions import Unpack

from .decisions.coordinator import Coordinator
from .decisions.one_for_all import OneForAll
from .decisions.proposals import distributions
from .decisions.track import Track
from .decisions.trial_log import TrialLog, open_storage, storage_errors
from .ranking.result_files import TABLE_HEADER, table_row, write_results
from .ranking.results import Ranking, make_ranking
from .report.page import write_report
from .report.progress import Progress
from .runs.local_pool import CellExecutor, LocalExecutor
from .runs.store import CellStore, FolderLock
from .study.plan import estimate, show_plan
from .study.protocol import pin_protocol, protocol_digest, protocol_of, study_seeds
from .study.study_file import Study, StudyChoices, load_study


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
    console = console or Console()
    with _executor(study, folder, workers, dask) as executor, FolderLock(folder):
        protocol = protocol_of(name, study)
        pin_protocol(folder, protocol)
        url = storage or f"sqlite:///{(folder / 'study.db').resolve()}"
        with storage_errors(url):
            tracks = make_tracks(study, f"{name}-{protocol_digest(protocol)}", url)
            console.print(f"{name}: {len(tracks)} studies, {executor.where}, results in {folder}", highlight=False)
            cores = 1 if dask else workers or default_workers()
            console.print(f"{name}: {estimate(study, cores)}", highlight=False)
            _run(tracks, folder, executor, console)
        ranking = make_ranking(tracks, protocol, study.seed)
        write_results(folder, ranking, tracks)
        report = write_report(folder)
    show(ranking, console)
    console.print(f"Report: {report}", highlight=False)
    return ranking


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


def default_workers() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def show(ranking: Ranking, console: Console) -> None:
    """Print the ranking as a table."""
    table = Table(title=f"Ranking: {ranking.protocol['study']}", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in TABLE_HEADER:
        table.add_column(name, no_wrap=True)
    for line in ranking.lines:
        # A value above its interval: seven columns then fit a terminal of 80.
        table.add_row(*(cell.replace(" [", "\n[") for cell in table_row(line)))
    console.print(table)
    console.print(ranking.verdict, highlight=False)
    for warning in ranking.warnings:
        console.print(warning, highlight=False)


def make_tracks(study: Study, prefix: str, url: str) -> list[Track]:
    """Open the Optuna studies and set up what has to be done.

    :param study: a checked study
    :param prefix: of the names of the Optuna studies
    :param url: Optuna storage URL
    :raises ValueError: the storage cannot be opened
    """
    optuna_storage = open_storage(url)
    seeds = study_seeds(study)
    tracks = []
    for algorithm, env_id in study.pairs:
        space = study.space(algorithm, env_id)
        log = TrialLog(optuna_storage, f"{prefix}/{algorithm}/{env_id}", distributions(space.parameters))
        tracks.append(Track(algorithm, env_id, study, seeds, space, study.scale(env_id), log))
    if study.budget.trials and len(study.environments) > 1:
        for algorithm in study.algorithms:
            own = [track for track in tracks if track.algorithm == algorithm]
            together = OneForAll(own)
            for track in own:
                track.one_for_all = together
    return tracks


@contextmanager
def _executor(study: Study, folder: Path, workers: int | None, dask: str | None) -> Iterator[CellExecutor]:
    time_limit, memory_limit = study.budget.time_limit, int(study.budget.memory_limit * 2**30)
    executor: CellExecutor
    if dask is None:
        number = default_workers() if workers is None else workers
        log = (folder / "workers.log").resolve()
        executor = LocalExecutor(number, time_limit=time_limit, memory_limit=memory_limit, log=log)
    else:
        if workers is not None:
            raise ValueError("workers are counted on this machine; those of a Dask cluster are started there")
        try:
            from .runs.cluster import DaskExecutor
        except ModuleNotFoundError as error:
            raise ValueError(f'a Dask cluster needs {error.name}: pip install "sb3-ppo-variants[dask]"') from error
        executor = DaskExecutor(dask, time_limit=time_limit, memory_limit=memory_limit)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _run(tracks: list[Track], folder: Path, executor: CellExecutor, console: Console) -> None:
    progress = Progress(tracks, console)
    store = CellStore(folder / "cells", progress.note)
    with progress.live():
        Coordinator(tracks, store, executor, progress).run()
