"""Trials per hour of a hyperparameter study on CartPole-v1: rl_zoo3's ``-optimize`` and ``ppo-variants rank``.

Same number of trials, training steps of a trial, evaluation episodes (once, at the end) and workers; TPE without
pruning; one thread per worker. All are timed from the command to its end. rl_zoo3's ``--n-jobs`` are threads of one
process, so it is timed as one process per worker on a shared storage as well. What differs: each tool samples its own
search space, and ours also trains one ranked run, which is not counted as a trial. SB3's PPO in our harness has
the smaller search space of the two, on the same engine.
"""

import argparse
import functools
import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from reporting import footer, machine, markdown, one_thread, positive, versions

ENV = "CartPole-v1"
RANKED = ("ppo", "clip_ppo")
STUDY = """\
algorithms: [{algorithm}]
environments:
  {env}: {{steps: {steps}}}
budget: {{trials: {trials}, tuning_seeds: 1, test_seeds: 1, trials_in_flight: {workers}}}
evaluation: {{episodes: {episodes}, checkpoints: 1}}
"""


def main() -> None:
    """Time the studies and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=positive, default=20, help="trials of a study (20)")
    parser.add_argument("--steps", type=positive, default=16384, help="training steps of a trial (16384)")
    parser.add_argument("--workers", type=positive, default=2, help="trials at a time (2)")
    parser.add_argument("--episodes", type=positive, default=10, help="evaluation episodes of a trial (10)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for algorithm in RANKED:
            study = STUDY.format(algorithm=algorithm, env=ENV, **vars(options))
            (folder / f"{algorithm}.yml").write_text(study, encoding="utf-8")
        rows = [_row(title, commands, options.trials, folder) for title, commands in _studies(options).items()]
    title = f"{ENV}, {options.trials} trials of {options.steps} steps, {options.workers} workers"
    print(markdown([title, "seconds", "trials per hour"], rows), end="\n\n")
    print(footer(machine(), versions()))


def _studies(options: argparse.Namespace) -> dict[str, list[list[str]]]:
    """Return the commands of each study, which run at the same time."""
    workers = range(options.workers)
    shares = [options.trials // options.workers + (worker < options.trials % options.workers) for worker in workers]
    shared = "--study-name shared --storage shared.log"
    return {
        "rl_zoo3 -optimize ppo, threads": [_zoo(options, f"--n-trials {options.trials} --n-jobs {options.workers}", 0)],
        "rl_zoo3 -optimize ppo, processes": [
            _zoo(options, f"--n-trials {share} {shared}", worker) for worker, share in enumerate(shares) if share
        ],
        **{f"ppo-variants rank, {algorithm}": [_rank(options, algorithm)] for algorithm in RANKED},
    }


def _zoo(options: argparse.Namespace, trials: str, seed: int) -> list[str]:
    evaluation = f"--n-evaluations 1 --eval-episodes {options.episodes}"
    others = f"--pruner none --seed {seed} --device cpu --no-optim-plots --verbose 0 -f logs"
    arguments = f"--algo ppo --env {ENV} -optimize -n {options.steps} {trials} {evaluation} {others}"
    return [sys.executable, "-m", "rl_zoo3.train", *arguments.split()]


def _rank(options: argparse.Namespace, algorithm: str) -> list[str]:
    command = str(Path(sys.executable).with_name("ppo-variants"))
    return [command, "rank", f"{algorithm}.yml", "--workers", str(options.workers)]


def _row(title: str, commands: list[list[str]], trials: int, folder: Path) -> list[str]:
    if "rl_zoo3.train" in commands[0] and importlib.util.find_spec("rl_zoo3") is None:
        return [title, "not installed", "-"]
    started = time.perf_counter()
    _run(commands, folder)
    seconds = time.perf_counter() - started
    return [title, f"{seconds:.0f}", f"{3600 * trials / seconds:,.0f}"]


def _run(commands: list[list[str]], folder: Path) -> None:
    log = folder / "output.txt"
    with log.open("w", encoding="utf-8") as output:
        start = functools.partial(subprocess.Popen, cwd=folder, env=one_thread(), stdout=output, stderr=output)
        codes = [process.wait() for process in [start(command) for command in commands]]
    if any(codes):
        raise RuntimeError(f"{commands} failed:\n{log.read_text(encoding='utf-8')}")


if __name__ == "__main__":
    main()
