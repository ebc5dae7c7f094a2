"""``rank --dask`` on a real cluster: a scheduler and workers in processes of their own, on loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client
from processes import alive, command, finished_cells, ranking_of, wait_until
from sb3_ppo_variants.tuning.rank import rank
from sb3_ppo_variants.tuning.runs.cluster import DaskExecutor
from sb3_ppo_variants.tuning.runs.executor import MemoryLimitError, WorkerDiedError
from tuning_helpers import SMALL_STUDY, without_times
from typer.testing import CliRunner
from worker_tasks import die_unless_enough, leak, report_and_sleep, threads_and_sigint, who_asked_for_this_process

from sb3_ppo_variants import cli

pytestmark = pytest.mark.end_to_end


class Cluster:
    """Processes of the ``dask`` command, each with a process group of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0")
        wait_until(lambda: self._address() is not None, "an address of the scheduler")
        self.address = str(self._address())

    @property
    def _file(self) -> Path:
        return self.folder / "scheduler.json"

    def _address(self) -> str | None:
        """What the scheduler wrote, once it is whole: Dask writes it in place."""
        try:
            address: str = json.loads(self._file.read_text())["address"]
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return address

    def add_worker(self, *options: str, path: Path | None = None) -> "subprocess.Popen[bytes]":
        """A worker that imports what these tests import, and what lies in ``path`` before anything else."""
        own = ["--nthreads", "1", "--local-directory", str(self.folder / "scratch")]
        places = [str(path or ""), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        return self._start("worker", *own, *options, PYTHONPATH=os.pathsep.join(filter(None, places)))

    def _start(self, what: str, *options: str, **variables: str) -> "subprocess.Popen[bytes]":
        arguments = [
            sys.executable,
            "-m",
            "dask",
            what,
            "--scheduler-file",
            str(self._file),
            "--no-dashboard",
            *options,
        ]
        with (self.folder / f"{what}-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                arguments, env=os.environ | variables, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """As a power cut would."""
        for process in self.processes:
            kill(process)


def kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def empty_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without a worker."""
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and two workers, one with a nanny and one without."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.add_worker()
    cluster.add_worker("--no-nanny")
    yield cluster
    cluster.stop()


def test_tasks_run_in_a_process_of_their_own_with_one_thread(cluster: Cluster) -> None:
    with DaskExecutor(cluster.address) as executor:  # without a time limit: the first task imports PyTorch
        assert executor.submit(threads_and_sigint).result() == ("1", True)
        with Client(cluster.address, set_as_default=False) as client:
            workers = set(client.run(os.getpid).values())
        assert len(workers) == 2
        assert {executor.submit(who_asked_for_this_process).result() for _ in range(4)} <= workers


def test_a_task_over_its_time_limit_is_stopped_and_its_process_with_it(cluster: Cluster, tmp_path: Path) -> None:
    with DaskExecutor(cluster.address, time_limit=10.0) as executor:
        with pytest.raises(futures.TimeoutError):
            executor.submit(report_and_sleep, tmp_path / "pid", 600.0).result()
        wait_until(lambda: not alive(int((tmp_path / "pid").read_text())))


def test_memory_limits_and_deaths_are_those_of_the_local_pool(cluster: Cluster, tmp_path: Path) -> None:
    marks = [tmp_path / name for name in ("leak", "dead", "deadly")]
    for folder in marks:
        folder.mkdir()
    with DaskExecutor(cluster.address, memory_limit=600 * 2**20) as executor:
        with pytest.raises(MemoryLimitError, match=r"more than 0\.586 GiB"):
            executor.submit(leak, marks[0], 4000).result()
        assert executor.submit(die_unless_enough, marks[1], 1).result() == 1
        with pytest.raises(WorkerDiedError, match="died 3 times, last with exit code -9"):
            executor.submit(die_unless_enough, marks[2], 99).result()
        assert len(list(marks[2].iterdir())) == 3, "Dask tried it again"


def test_what_is_cancelled_is_stopped_on_its_worker(cluster: Cluster, tmp_path: Path) -> None:
    executor = DaskExecutor(cluster.address)
    future = executor.submit(report_and_sleep, tmp_path / "pid", 600.0)
    wait_until((tmp_path / "pid").exists)
    executor.shutdown(cancel_futures=True)
    assert future.cancelled()
    wait_until(lambda: not alive(int((tmp_path / "pid").read_text())))
    with pytest.raises(RuntimeError, match="after its shutdown"):
        executor.submit(pow, 2, 2)


@pytest.mark.slow
def test_a_study_on_a_cluster_that_loses_and_gains_a_worker_gives_the_local_ranking(
    cluster: Cluster, study: Path, ranked_once: tuple[Path, str], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(command(study, folder, "--dask", cluster.address), stdout=output, stderr=output)
    try:
        wait_until(lambda: len(finished_cells(folder)) >= 2)
        before = finished_cells(folder)
        kill(cluster.processes[1])
        cluster.add_worker("--no-nanny")
        assert process.wait(120) == 0, (tmp_path / "output").read_text()
    finally:
        process.kill()
    assert f"2 Dask workers with 2 threads at {cluster.address}" in " ".join((tmp_path / "output").read_text().split())
    assert before.items() <= finished_cells(folder).items(), "a finished cell was run again"
    assert without_times(ranking_of(folder)) == without_times(ranking_of(ranked_once[0]))


def test_a_worker_of_other_versions_is_refused_whenever_it_comes(empty_cluster: Cluster, tmp_path: Path) -> None:
    early = DaskExecutor(empty_cluster.address)
    assert "no worker yet" in early.where
    future = early.submit(pow, 2, 2)
    other = tmp_path / "other" / "stable_baselines3-99.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: stable_baselines3\nVersion: 99.0\n")
    empty_cluster.add_worker("--no-nanny", path=other.parent)
    with pytest.raises(futures.BrokenExecutor, match=r"stable-baselines3 99\.0 there, .* here\): results would not"):
        future.result()
    early.shutdown(cancel_futures=True)
    with pytest.raises(ValueError, match=r"Dask worker tcp:.* \(stable-baselines3 99\.0 there"):
        DaskExecutor(empty_cluster.address)


def test_a_scheduler_that_dies_stops_the_study_and_says_so(empty_cluster: Cluster) -> None:
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        executor = DaskExecutor(empty_cluster.address)
        future = executor.submit(pow, 2, 2)
        kill(empty_cluster.scheduler)
        with pytest.raises(futures.BrokenExecutor, match=f"lost the Dask scheduler at {empty_cluster.address}"):
            future.result(timeout=60)
        wait_until(lambda: is_lost(executor))
        executor.shutdown(cancel_futures=True)


def is_lost(executor: DaskExecutor) -> bool:
    try:
        executor.submit(pow, 2, 2)
        _ = executor.slots
    except futures.BrokenExecutor as error:
        return "lost the Dask scheduler" in str(error)
    time.sleep(1.0)
    return False


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense", "no-such-host.invalid:8786", "smtp://here:8786"])
def test_where_no_scheduler_answers_nothing_is_begun(address: str, tmp_path: Path) -> None:
    study = tmp_path / "small.yml"
    study.write_text(SMALL_STUDY)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ValueError, match=f"no Dask scheduler answers at {address} .*start one with `dask scheduler`"),
    ):
        rank(str(study), out=tmp_path / "out", dask=address)
    assert not (tmp_path / "out").exists()


def test_workers_of_this_machine_and_a_cluster_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers are counted on this machine"):
        rank("quick", out=tmp_path / "out", dask="tcp://127.0.0.1:8786", workers=2)
    assert not (tmp_path / "out").exists()


def test_without_the_extra_the_option_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "sb3_ppo_variants.tuning.runs.cluster")
    options: Any = ["rank", "quick", "--out", str(tmp_path / "out"), "--dask", "tcp://127.0.0.1:8786"]
    result = CliRunner().invoke(cli.app, options)
    assert str(result.exception) == 'a Dask cluster needs distributed: pip install "sb3-ppo-variants[dask]"'
