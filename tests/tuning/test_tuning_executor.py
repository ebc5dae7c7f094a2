"""The local pool: dead workers, time limits, orphans. Real processes throughout."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import pytest
from processes import alive, wait_until
from sb3_ppo_variants.tuning.runs.executor import MemoryLimitError, WorkerDiedError
from sb3_ppo_variants.tuning.runs.local_pool import LocalExecutor, resident_memory
from worker_tasks import SlowToUnpack, die_unless_enough, leak, report_and_sleep, threads_and_sigint, wait_for


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalExecutor]:
    folder = tmp_path_factory.mktemp("executor")
    pool = LocalExecutor(2, retries=1, log=folder / "workers.log")
    yield pool
    pool.shutdown(cancel_futures=True)


def test_results_and_exceptions_come_back(executor: LocalExecutor) -> None:
    assert executor.submit(pow, 2, 5).result() == 32
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 1, 0).result()


def test_a_worker_has_one_thread_and_ignores_ctrl_c(executor: LocalExecutor) -> None:
    assert executor.submit(threads_and_sigint).result() == ("1", True)


def test_what_a_worker_prints_goes_to_the_log(executor: LocalExecutor, capfd: pytest.CaptureFixture[str]) -> None:
    executor.submit(os.system, "echo a word from the worker").result()
    assert executor.log is not None
    assert "a word from the worker" in executor.log.read_text()
    assert "a word" not in capfd.readouterr().out


def test_a_dead_worker_costs_a_retry(executor: LocalExecutor, tmp_path: Path) -> None:
    assert executor.submit(die_unless_enough, tmp_path, 1).result() == 1


def test_a_task_that_kills_every_worker_is_given_up(executor: LocalExecutor, tmp_path: Path) -> None:
    with pytest.raises(WorkerDiedError, match="died 2 times, last with exit code -9"):
        executor.submit(die_unless_enough, tmp_path, 99).result()
    assert len(list(tmp_path.iterdir())) == 2
    assert executor.submit(pow, 2, 2).result() == 4


def test_a_task_over_its_time_limit_is_stopped_and_its_worker_with_it(tmp_path: Path) -> None:
    with LocalExecutor(1, time_limit=5.0) as executor:
        with pytest.raises(futures.TimeoutError):
            executor.submit(report_and_sleep, tmp_path / "pid", 60.0).result()
        wait_until(lambda: not alive(int((tmp_path / "pid").read_text())))
        assert executor.submit(pow, 2, 2).result() == 4


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalExecutor]:
    pool = LocalExecutor(1, memory_limit=400 * 2**20, log=tmp_path_factory.mktemp("small") / "workers.log")
    yield pool
    pool.shutdown(cancel_futures=True)


def test_a_task_that_leaks_memory_is_stopped_and_not_tried_again(small: LocalExecutor, tmp_path: Path) -> None:
    with pytest.raises(MemoryLimitError, match=r"it took more than 0\.391 GiB"):
        small.submit(leak, tmp_path, 4000).result()
    assert len(list(tmp_path.iterdir())) == 1
    assert small.submit(pow, 2, 2).result() == 4


def test_a_task_does_not_pay_for_what_others_left_in_its_worker(small: LocalExecutor, tmp_path: Path) -> None:
    resident = small.submit(resident_memory).result() // 2**20
    half = (400 - resident) * 2 // 3
    first = small.submit(leak, tmp_path, half).result()
    assert small.submit(leak, tmp_path, half).result() != first
    assert len(list(tmp_path.iterdir())) == 3


def test_a_task_that_always_ends_in_a_full_worker_is_given_up(small: LocalExecutor, tmp_path: Path) -> None:
    small.submit(pow, 2, 2).result()  # so that it does not start in a fresh one
    with pytest.raises(MemoryLimitError):
        small.submit(leak, tmp_path, 4000).result()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce RLIMIT_DATA")
def test_an_allocation_far_beyond_the_limit_is_refused_by_the_system(small: LocalExecutor) -> None:
    with pytest.raises(MemoryError):
        small.submit(bytearray, 2**31).result()


def test_a_cancelled_task_is_stopped_while_it_runs(small: LocalExecutor, tmp_path: Path) -> None:
    future = small.submit(report_and_sleep, tmp_path / "pid", 600.0)
    wait_until((tmp_path / "pid").exists)
    assert future.cancel()
    wait_until(lambda: not alive(int((tmp_path / "pid").read_text())))
    assert small.submit(pow, 2, 2).result() == 4


def test_a_worker_that_dies_while_it_takes_its_task_costs_others_nothing(tmp_path: Path) -> None:
    """It holds the locks of its pipe then, and the task has left the pipe."""
    with LocalExecutor(2) as pool:
        running = pool.submit(wait_for, tmp_path / "over")
        taken = pool.submit(str, SlowToUnpack(tmp_path))
        wait_until((tmp_path / "pid").exists)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        assert not running.done(), "the other worker was busy meanwhile"
        assert taken.result(timeout=120) == str(tmp_path)
        (tmp_path / "over").touch()
        assert running.result(timeout=120) is None


def test_a_pool_whose_idle_workers_are_killed_goes_on(executor: LocalExecutor) -> None:
    """Pebble breaks for good here: no task to blame for the death."""
    for pid in {executor.submit(os.getpid).result() for _ in range(8)}:
        os.kill(pid, signal.SIGKILL)
    assert executor.submit(pow, 2, 3).result() == 8


@pytest.mark.end_to_end  # it starts once more all that the workers of the other tests are copies of
@pytest.mark.skipif(sys.platform != "linux", reason="workers are copies on Linux only")
def test_a_pool_whose_workers_lose_the_process_that_they_are_copies_of_goes_on(executor: LocalExecutor) -> None:
    os.kill(executor.submit(os.getppid).result(), signal.SIGKILL)
    assert executor.submit(pow, 2, 3).result() == 8


def test_workers_know_the_environment_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they are copies of was started before."""
    for value in ("one", "two"):
        monkeypatch.setenv("SOMETHING_NEW", value)
        with LocalExecutor(1) as pool:
            assert pool.submit(os.getenv, "SOMETHING_NEW").result() == value


def test_workers_that_cannot_start_are_an_error_not_an_endless_loop(tmp_path: Path) -> None:
    pool = LocalExecutor(1, log=tmp_path / "no such folder" / "workers.log")
    with pytest.raises(futures.BrokenExecutor, match=r"die as soon as they start; see .*workers.log"):
        pool.submit(pow, 2, 2).result(timeout=120)
    pool.shutdown(cancel_futures=True)


def test_workers_that_cannot_start_for_a_moment_are_waited_for(executor: LocalExecutor, tmp_path: Path) -> None:
    """As when the process that they are copies of was killed and is not gone yet."""
    executor.submit(pow, 2, 2).result()  # so that what they are copies of has its imports, and a start takes no time
    with LocalExecutor(1, log=tmp_path / "folder" / "workers.log") as pool:
        future = pool.submit(pow, 2, 2)
        time.sleep(0.6)
        (tmp_path / "folder").mkdir()
        assert future.result(timeout=120) == 4


def test_shutdown_kills_what_runs_and_cancels_what_waits(tmp_path: Path) -> None:
    pool = LocalExecutor(1)
    running = pool.submit(report_and_sleep, tmp_path / "pid", 60.0)
    waiting = pool.submit(pow, 2, 2)
    wait_until((tmp_path / "pid").exists)
    pool.shutdown(cancel_futures=True)
    assert running.cancelled()
    assert waiting.cancelled()
    wait_until(lambda: not alive(int((tmp_path / "pid").read_text())))
    with pytest.raises(RuntimeError, match="after its shutdown"):
        pool.submit(pow, 2, 2)


def test_leaving_the_context_finishes_the_work() -> None:
    with LocalExecutor(1) as pool:
        future = pool.submit(pow, 2, 2)
    assert future.result(timeout=0) == 4


@pytest.mark.end_to_end
def test_workers_end_with_a_coordinator_that_was_killed(tmp_path: Path) -> None:
    code = f"""
        import os, signal, sys, time
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from sb3_ppo_variants.tuning.runs.local_pool import LocalExecutor
        from worker_tasks import report_and_sleep
        if __name__ == "__main__":
            pool = LocalExecutor(1)
            pool.submit(report_and_sleep, Path({str(tmp_path / "pid")!r}), 600.0)
            while not Path({str(tmp_path / "pid")!r}).exists():
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    script = tmp_path / "coordinator.py"
    script.write_text(textwrap.dedent(code))
    assert subprocess.run([sys.executable, str(script)], check=False).returncode == -9
    wait_until(lambda: not alive(int((tmp_path / "pid").read_text())))


def test_no_worker_is_refused() -> None:
    with pytest.raises(ValueError, match="workers must be >= 1, got 0"):
        LocalExecutor(0)
