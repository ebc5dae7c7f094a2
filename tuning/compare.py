"""``ppo-variants compare``: studies whose protocols agree, merged into one ranking without running anything."""

import shutil
from collections.abc import Callable, Sequence
from concurrent import futures
from itertools import combinations
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pydantic import ValidationError
from rich.console import Console

from .decisions.coordinator import Coordinator
from .decisions.decisions import Decisions
from .decisions.study_db import storage_errors
from .ranking.make_ranking import make_ranking
from .ranking.result_files import write_results
from .ranking.results import Ranking
from .report.page import write_report
from .report.progress import Progress
from .report.table import show
from .runs.cell import Cell
from .runs.store import CellStore, FolderLock
from .study.extension import differences, listed, part_of, without_history
from .study.kept_protocol import read_protocol, study_content
from .study.protocol import pin_protocol, protocol_digest, protocol_of
from .study.study_file import Study

P = ParamSpec("P")
T = TypeVar("T")


def compare(folders: Sequence[Path], *, out: Path, console: Console | None = None) -> Ranking:
    """Rank what several finished studies have run, as if one study had run it all.

    Seeds, budgets, evaluation, normalisation and versions must be the same, and every algorithm must have been run on
    every environment in one of them. The new folder holds the same files as one of ``rank``, which may extend it.

    :param folders: of the studies' results
    :param out: folder of the merged results
    :param console: where the table is shown
    :raises ValueError: fewer than two folders, protocols that do not agree, or a run that is missing
    :raises OSError: results cannot be read or written
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise ValueError("give the folders of two or more studies, each once")
    if out.resolve() in {folder.resolve() for folder in folders}:
        raise ValueError(f"{out} is one of the studies: give a new folder by --out")
    protocols = {folder: read_protocol(folder) for folder in folders}
    for (first, earlier), (second, later) in combinations(protocols.items(), 2):
        _check_agreement(first, earlier, second, later)
    study = _merged(protocols)
    protocol = protocol_of(out.name, study)
    for folder, own in protocols.items():
        _check_still_holds(folder, own, protocol)
    return _rank(study, protocol, folders, out, console or Console())


def _check_agreement(first: Path, earlier: dict[str, Any], second: Path, later: dict[str, Any]) -> None:
    found = differences(_ignoring_names(part_of(earlier, later)), _ignoring_names(part_of(later, earlier)))
    _refuse(f"{first} and {second} do not agree", listed(found, f"in {first}", f"in {second}"))


def _check_still_holds(folder: Path, own: dict[str, Any], merged: dict[str, Any]) -> None:
    """Packages and search spaces must still be those of the study: decisions are made from them again."""
    found = differences(_ignoring_names(without_history(own)), _ignoring_names(part_of(merged, own)))
    _refuse(f"{folder} was run with another installation than this one", listed(found, "then", "now"))


def _refuse(what: str, shown: str) -> None:
    if shown:
        raise ValueError(f"{what} ({shown})")


def _ignoring_names(protocol: dict[str, Any]) -> dict[str, Any]:
    """``protocol`` without the study's name and the order of its algorithms, which decide no run."""
    return {**protocol, "study": "", "algorithms": sorted(protocol["algorithms"])}


def _merged(protocols: dict[Path, dict[str, Any]]) -> Study:
    """The study that asks for all that the others asked for."""
    contents = [study_content(protocol, list(protocol["environments"])) for protocol in protocols.values()]
    algorithms: list[Any] = []
    for content in contents:
        algorithms += [entry for entry in content["algorithms"] if entry not in algorithms]
    environments = {env_id: budget for content in contents for env_id, budget in content["environments"].items()}
    registered: dict[str, dict[str, Any]] = {}
    for content in contents:
        for name, entries in content["registered_configurations"].items():
            registered[name] = {**registered.get(name, {}), **entries}
    union = {"algorithms": algorithms, "environments": environments, "registered_configurations": registered}
    try:
        study = Study.model_validate({**contents[0], **union})
    except ValidationError as error:  # a file that was edited, or one of another release
        raise ValueError(f"{next(iter(protocols))} has a protocol that this release cannot read: {error}") from error
    for name, env_id in study.pairs:
        if not any(name in own["algorithms"] and env_id in own["environments"] for own in protocols.values()):
            raise ValueError(f"{name} on {env_id} was run in none of them: extend a study by it, with rank")
    partial = any(len(own["environments"]) < len(study.environments) for own in protocols.values())
    if partial and study.seeks_one_for_all:
        raise ValueError(
            "tuned studies of different environments cannot be merged: one configuration for all environments takes "
            "runs that none of them made. Extend one of them by the environments of the others, with rank, or give all "
            "of them budget.one_for_all: false"
        )
    return study


class _Nobody:
    """An executor for studies that have run already."""

    where = "nobody"
    slots = 1

    def submit(
        self,
        fn: Callable[P, T],  # noqa: ARG002
        /,
        *args: P.args,
        **kwargs: P.kwargs,  # noqa: ARG002
    ) -> "futures.Future[T]":
        cell = args[0]
        assert isinstance(cell, Cell)
        raise ValueError(
            f"{cell.algorithm} on {cell.environment}, seed {cell.seed}, has not been run: finish the studies with rank"
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing runs."""


def _rank(study: Study, protocol: dict[str, Any], folders: Sequence[Path], out: Path, console: Console) -> Ranking:
    with FolderLock(out):
        protocol = pin_protocol(out, protocol)
        url = f"sqlite:///{(out / 'study.db').resolve()}"
        with storage_errors(url):
            decisions = Decisions.of(study, f"{out.name}-{protocol_digest(protocol)}", url)
            progress = Progress(decisions, console, log="the logs of the studies", quiet=True)
            store = CellStore(out / "cells", progress.note)
            _collect(folders, store.folder)
            Coordinator(decisions, store, _Nobody(), progress).run()
        ranking = make_ranking(decisions, protocol, study.seed)
        write_results(out, ranking, decisions.tracks)
        report = write_report(out)
    show(ranking, console)
    console.print(f"Report: {report}", highlight=False)
    return ranking


def _collect(folders: Sequence[Path], cells: Path) -> None:
    """Copy the finished runs of all folders; the store looks at each before it trusts it."""
    for folder in folders:
        for path in (folder / "cells").glob("*.json"):
            if not (cells / path.name).exists():
                shutil.copyfile(path, cells / f".{path.name}.part")
                (cells / f".{path.name}.part").replace(cells / path.name)
