"""The coordinator: what is run and proposed does not depend on workers, order or interruptions.

Cells are answered by a formula here, so that hundreds of coordinators can be killed; storage and files are real.
"""

import io
import re
import signal
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console
from sb3_ppo_variants.tuning.decisions import proposals
from sb3_ppo_variants.tuning.decisions.coordinator import Coordinator
from sb3_ppo_variants.tuning.decisions.decisions import Decisions
from sb3_ppo_variants.tuning.decisions.request import Request
from sb3_ppo_variants.tuning.report.progress import Progress
from sb3_ppo_variants.tuning.runs.cell import Cell, CellResult, failed_result, package_versions
from sb3_ppo_variants.tuning.runs.executor import MemoryLimitError, WorkerDiedError
from sb3_ppo_variants.tuning.runs.store import CellStore
from sb3_ppo_variants.tuning.study.scales import FLOOR
from sb3_ppo_variants.tuning.study.study_file import EnvironmentBudget, Study
from tuning_helpers import PPO_ALONE, Killed, Recorder, Threads, coordinate, finished, result_of, study

from sb3_ppo_variants.tuning_space import TuningSpace

# Two environments, so that there is one configuration for both, and enough trials to prune some
STUDY = study(trials=7).model_copy(
    update={
        "algorithms": PPO_ALONE,
        "environments": {name: EnvironmentBudget(steps=20_000) for name in ("CartPole-v1", "Acrobot-v1")},
        "seed": 4,  # some trials are pruned, as a test makes sure
    }
)


def outcome(decisions: Decisions) -> list[Any]:
    """Everything a ranking is made of."""
    alone = [
        (
            track.pair.algorithm,
            track.pair.env_id,
            track.tuning.trials,
            track.candidates,
            track.winner.number if track.winner else None,
            track.test_results,
        )
        for track in decisions.tracks
    ]
    together = [(view.candidates, view.chosen, view.test_results) for view in decisions.one_for_all.values()]
    return [*alone, *together]


@pytest.fixture(scope="module", autouse=True)
def _learn_from_the_second_trial_on() -> Iterator[None]:
    """Random startup trials would hide what a proposal depends on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proposals, "N_STARTUP_TRIALS", 1)
        yield


@pytest.fixture(scope="module")
def decisions(tmp_path_factory: pytest.TempPathFactory) -> Decisions:
    return coordinate(tmp_path_factory.mktemp("undisturbed"), of=STUDY)


@pytest.fixture(scope="module")
def undisturbed(decisions: Decisions) -> list[Any]:
    return outcome(decisions)


def test_every_trial_and_every_test_run_is_there_once(tmp_path: Path) -> None:
    executor = Threads()
    decisions = coordinate(tmp_path, executor)
    for track in decisions.tracks:
        assert [trial.number for trial in track.tuning.trials] == list(range(5))
        assert all(trial.value is not None for trial in track.tuning.trials)
        assert len(track.candidates) == 3
        assert len(track.test_results) == 2
        assert None not in track.test_results
    assert len(executor.keys) == len(set(executor.keys)) == 2 * (5 * 2 + 3 * 1 + 2)
    assert decisions.planned_runs == len(executor.keys)


def test_what_does_not_matter_is_tested_on_a_study_with_everything_in_it(decisions: Decisions) -> None:
    assert any(trial.pruned for track in decisions.tracks for trial in track.tuning.trials)
    assert decisions.one_for_all["ppo"].chosen


def test_the_first_trial_is_the_registered_configuration(decisions: Decisions) -> None:
    for track in decisions.tracks:
        assert track.tuning.trials[0].entry == track.pair.space.default


@pytest.mark.slow
@given(seed=st.integers(0, 10**6), slots=st.integers(1, 40))
@settings(max_examples=10, deadline=None, phases=[Phase.generate])
def test_any_workers_and_any_order_of_results_do_not_matter(
    undisturbed, tmp_path_factory, seed: int, slots: int
) -> None:
    assert outcome(coordinate(tmp_path_factory.mktemp("workers"), Threads(seed, slots=slots), of=STUDY)) == undisturbed


def test_workers_and_the_order_of_results_do_not_matter(undisturbed, tmp_path: Path) -> None:
    assert outcome(coordinate(tmp_path, Threads(seed=1, slots=12), of=STUDY)) == undisturbed


@pytest.mark.slow
@given(kills=st.lists(st.integers(0, 12), min_size=1, max_size=3), seed=st.integers(0, 10**6), slots=st.integers(1, 5))
@settings(max_examples=10, deadline=None, phases=[Phase.generate])
def test_kills_at_any_moment_do_not_matter(undisturbed, tmp_path_factory, kills, seed: int, slots: int) -> None:
    assert_kills_do_not_matter(undisturbed, tmp_path_factory.mktemp("killed"), kills, seed, slots)


def test_kills_at_some_moments_do_not_matter(undisturbed, tmp_path: Path) -> None:
    assert_kills_do_not_matter(undisturbed, tmp_path, [0, 9, 4], seed=1, slots=3)


def assert_kills_do_not_matter(undisturbed: list[Any], folder: Path, kills: list[int], seed: int, slots: int) -> None:
    finished: list[str] = []
    for survives in kills:
        executor = Threads(seed, survives, slots)
        with pytest.raises(Killed):
            coordinate(folder, executor, of=STUDY)
        on_disk = {path.stem for path in (folder / "cells").iterdir()}
        assert not set(finished) & set(executor.keys), "a finished cell was run again"
        finished = sorted(on_disk)
    executor = Threads(seed, slots=slots)
    assert outcome(coordinate(folder, executor, of=STUDY)) == undisturbed
    assert not set(finished) & set(executor.keys)


@pytest.mark.slow  # as the other samplers, which are fast
def test_gaussian_processes_propose_in_a_resumed_study_what_they_do_in_an_undisturbed_one(tmp_path: Path) -> None:
    of = study(trials=4, tuning_seeds=1).model_copy(update={"algorithms": PPO_ALONE, "sampler": "gp"})
    whole, killed, other = (tmp_path / name for name in ("whole", "killed", "other"))
    for folder in (whole, killed, other):
        folder.mkdir()
    undisturbed = coordinate(whole, of=of)
    for survives in (3, 2):  # then with what the database knows, then with the cells alone
        with pytest.raises(Killed):
            coordinate(killed, Threads(survives=survives), of=of)
    (killed / "study.db").unlink()
    assert outcome(coordinate(killed, Threads(slots=3), of=of)) == outcome(undisturbed)

    def opposite(cell: Cell) -> CellResult:
        return finished(500.0 - (result_of(cell).score or 0.0), steps=cell.steps)

    tried, elsewhere = (
        [trial.params for trial in made.tracks[0].tuning.trials]
        for made in (undisturbed, coordinate(other, run=opposite, of=of))
    )
    assert tried[:3] == elsewhere[:3], "nothing is known when they are proposed"
    assert tried[3:] != elsewhere[3:], "they would be the same if the scores were not looked at"


@pytest.mark.parametrize(("moment", "when"), [("begin", "after"), ("finish", "before")])
def test_kills_around_a_write_to_the_storage_do_not_matter(
    undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, when: str
) -> None:
    from sb3_ppo_variants.tuning.decisions.trial_log import TrialLog

    original = getattr(TrialLog, moment)
    calls = 0

    def killing(self: TrialLog, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if when == "after":
            original(self, *args)
        if calls == 4:
            raise Killed
        if when == "before":
            original(self, *args)

    monkeypatch.setattr(TrialLog, moment, killing)
    with pytest.raises(Killed):
        coordinate(tmp_path, of=STUDY)
    assert outcome(coordinate(tmp_path, of=STUDY)) == undisturbed
    stored = optuna.load_study(study_name="test/ppo/CartPole-v1", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [trial.number for trial in stored.trials] == list(range(7))
    assert all(trial.state.is_finished() for trial in stored.trials)


def test_a_lost_storage_is_written_again_from_the_cells(undisturbed, tmp_path: Path) -> None:
    coordinate(tmp_path, of=STUDY)
    (tmp_path / "study.db").unlink()
    executor = Threads()
    assert outcome(coordinate(tmp_path, executor, of=STUDY)) == undisturbed
    assert not executor.keys


def test_a_lost_cell_is_run_again_and_nothing_else(undisturbed, tmp_path: Path) -> None:
    coordinate(tmp_path, of=STUDY)
    lost = sorted((tmp_path / "cells").iterdir())[5]
    lost.unlink()
    executor = Threads()
    assert outcome(coordinate(tmp_path, executor, of=STUDY)) == undisturbed
    assert executor.keys == [lost.stem]


def test_storage_and_cells_that_disagree_are_refused(tmp_path: Path) -> None:
    coordinate(tmp_path, of=study(trials=1))
    for path in (tmp_path / "cells").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"trial 0 of .* remove study\.db"):
        coordinate(tmp_path, run=lambda cell: failed_result("another world"), of=study(trials=1))


def test_a_result_of_other_versions_is_not_mixed_in_but_named(tmp_path: Path) -> None:
    one_trial = study(trials=1)
    cell = coordinate(tmp_path, of=one_trial).tracks[0].test_cells()[1]
    here = package_versions()
    theirs = result_of(cell).model_copy(update={"versions": {**here, "torch": "1.0"}})
    CellStore(tmp_path / "cells", lambda line: None).write(cell, theirs)
    executor = Threads()
    named = (
        rf"seed {cell.seed}, was run with torch 1\.0 instead of .*{cell.key}\.json is in the folder of cells, remove it"
    )
    with pytest.raises(ValueError, match=named):
        coordinate(tmp_path, executor, of=one_trial)
    assert not executor.keys


def test_a_stranger_who_writes_to_the_storage_is_noticed(tmp_path: Path) -> None:
    decisions = Decisions.of(study(), "test", f"sqlite:///{tmp_path / 'study.db'}")
    stranger = optuna.load_study(study_name="test/ppo/CartPole-v1", storage=f"sqlite:///{tmp_path / 'study.db'}")
    stranger.ask()
    with pytest.raises(ValueError, match="something else writes"):
        decisions.tracks[0].advance()


def test_later_trials_wait_for_the_ones_they_learn_from(tmp_path: Path) -> None:
    track = Decisions.of(study(), "test", f"sqlite:///{tmp_path / 'study.db'}").tracks[0]
    requests = track.advance()
    assert [request.priority for request in requests] == [(0, 0), (0, 0), (0, 1), (0, 1)]
    for request in requests[2:]:
        request.receive(result_of(request.cell))
    assert track.advance() == []
    for request in requests[:2]:
        request.receive(result_of(request.cell))
    assert [request.priority for request in track.advance()] == [(0, 2), (0, 2), (0, 3), (0, 3)]


def test_a_failed_run_scores_the_floor_and_is_never_dropped(tmp_path: Path) -> None:
    def run(cell: Cell) -> CellResult:
        return failed_result("it exploded") if cell.algorithm == "ppo" else result_of(cell)

    ppo, trpo = (track.tuning for track in coordinate(tmp_path, run=run, of=study(trials=2)).tracks)
    assert [trial.value for trial in ppo.trials] == [FLOOR] * 2
    assert all(trial.failed for trial in ppo.trials)
    assert not any(trial.failed for trial in trpo.trials)
    assert ppo.best is ppo.trials[0]
    stored = optuna.load_study(study_name="test/ppo/CartPole-v1", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert {(trial.state.name, trial.value) for trial in stored.trials} == {("COMPLETE", FLOOR)}
    assert stored.trials[0].user_attrs["runs"] == [{"score": None, "reason": "it exploded"}] * 2


def test_progress_takes_no_failure_for_a_score(tmp_path: Path) -> None:
    def run(cell: Cell) -> CellResult:
        return (
            failed_result("TypeError: oh (its/file.py:7)", is_fault=True)
            if cell.algorithm == "ppo"
            else result_of(cell)
        )

    decisions = coordinate(tmp_path, run=run, of=study(trials=1))
    screen = io.StringIO()
    progress = Progress(decisions, Console(file=screen, width=300), "runs/it/workers.log")
    ppo, trpo = decisions.tracks
    progress.trial_finished(ppo, ppo.tuning.trials[0])
    assert (
        "ppo on CartPole-v1: trial 0 has no score, all of its runs failed (none has finished yet)" in screen.getvalue()
    )
    progress.trial_finished(trpo, trpo.tuning.trials[0])
    assert "trpo on CartPole-v1: trial 0 scores" in screen.getvalue()
    (cell, result) = ppo.test_cells()[0], ppo.test_results[0]
    assert result is not None
    progress.run_finished(Request("test", 0, ppo.pair, cell, lambda result: None), result, ran=True)
    told = (
        "failed by what looks like a fault of sb3_ppo_variants: TypeError: oh (its/file.py:7); see runs/it/workers.log"
    )
    assert told in screen.getvalue()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (futures.TimeoutError(), r"over the time limit of a run \(budget.time_limit"),
        (MemoryLimitError("it took more than 4 GiB"), r"over the memory limit .*\(budget.memory_limit.*: .* 4 GiB"),
        (WorkerDiedError("its worker process died 3 times"), "died 3"),
    ],
)
def test_a_run_that_was_stopped_or_died_is_a_failed_run(tmp_path: Path, error: Exception, reason: str) -> None:
    def run(cell: Cell) -> CellResult:
        raise error

    track = coordinate(tmp_path, run=run, of=study(trials=1)).tracks[0]
    assert track.test_results[0] is not None
    assert track.test_results[0].status == "failed"
    assert re.search(reason, track.test_results[0].reason)


def test_an_executor_that_broke_stops_the_study_and_writes_no_failure(tmp_path: Path) -> None:
    def run(cell: Cell) -> CellResult:
        raise futures.BrokenExecutor("no worker starts")

    with pytest.raises(futures.BrokenExecutor):
        coordinate(tmp_path, run=run)
    assert not list((tmp_path / "cells").iterdir())


class SingleConfiguration(TuningSpace):
    def entry(self, params: Any) -> dict[str, Any]:
        return dict(self.default)


def test_equal_cells_are_run_once_for_all_who_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four trials of a space with a single configuration are the same two runs."""
    monkeypatch.setattr(Study, "space", lambda self, *pair: SingleConfiguration.of(*pair, steps=20_000))
    executor = Threads(slots=4)
    decisions = coordinate(tmp_path, executor, of=study(trials=4))
    assert all(len(track.tuning.trials) == 4 and None not in track.test_results for track in decisions.tracks)
    assert len(executor.keys) == 2 * (2 + 2)


def test_the_listener_hears_every_trial_and_every_run(tmp_path: Path) -> None:
    folder = tmp_path
    recorders = [Recorder(), Recorder()]
    for recorder in recorders:
        decisions = Decisions.of(study(trials=2), "test", f"sqlite:///{folder / 'study.db'}")
        executor = Threads(slots=2)
        Coordinator(decisions, CellStore(folder / "cells", lambda line: None), executor, recorder, run=result_of).run()
    assert recorders[0].runs == [True] * 16
    assert recorders[1].runs == [False] * 16
    for recorder in recorders:
        assert sorted(recorder.trials) == [(name, number) for name in ("ppo", "trpo") for number in range(2)]


class Interrupted:
    """An object that is thrown away just when Ctrl-C comes: Python forgets what is raised then."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def usual_interrupts() -> Iterator[None]:
    """Ctrl-C as at a terminal: a test run in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("usual_interrupts")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("after", [1, 5])
def test_an_interrupt_that_python_forgets_still_stops_the_study(tmp_path: Path, after: int) -> None:
    class Thrower(Recorder):
        def run_finished(self, request: Any, result: CellResult, *, ran: bool) -> None:
            super().run_finished(request, result, ran=ran)
            if len(self.runs) == after:
                Interrupted()

    decisions = Decisions.of(study(), "test", f"sqlite:///{tmp_path / 'study.db'}")
    store = CellStore(tmp_path / "cells", lambda line: None)
    with pytest.raises(KeyboardInterrupt):
        Coordinator(decisions, store, Threads(), Thrower(), run=result_of).run()
    assert len(list((tmp_path / "cells").glob("*.json"))) <= after + 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
