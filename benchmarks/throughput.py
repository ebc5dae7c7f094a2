"""Environment steps per second of training, and peak memory: ours, SB3, sb3-contrib, SBX, and the environment alone.

Each measurement is a process of its own, on one core and with one thread. It makes its environments and its model,
does one rollout and update to warm up (allocations, just-in-time compilation), then times some rollouts and updates.
The sides alternate within a round, so that a change of the machine's speed meets all of them; figures are medians over
the rounds, and ratios are taken within each round. SBX may live in a Python environment of its own. With --at-once,
several settings are measured at the same time, each on a core of its own: sides are compared within a setting.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from statistics import geometric_mean, median
from typing import Any

from reporting import footer, machine, markdown, one_thread, positive, versions, write_json

SIDES = {
    "environment": "environment alone",
    "sb3": "SB3 PPO",
    "trpo": "sb3-contrib TRPO",
    "sbx": "SBX PPO",
    "torch": "ClipPPO, torch",
    "numpy": "ClipPPO, NumPy",
    "compiled": "ClipPPO, compiled",
}
BASES = ("sb3", "sbx")
OURS = ("torch", "numpy", "compiled")


@dataclass(frozen=True)
class Setting:
    """What is trained.

    :param title: in the tables
    :param env_id: a Gymnasium environment id
    :param n_envs: copies of it
    :param arguments: of the constructor. Without any, each algorithm has its defaults; SB3's are 2048 steps per
        environment, minibatches of 64 (TRPO: 128), 10 epochs and networks of 64 x 64
    """

    title: str
    env_id: str
    n_envs: int
    arguments: dict[str, Any] = field(default_factory=dict)


_LARGE = {"batch_size": 4096, "policy_kwargs": {"net_arch": [256, 256]}}
SETTINGS = {
    "cartpole-1": Setting("CartPole-v1, 1 env", "CartPole-v1", 1),
    "cartpole-8": Setting("CartPole-v1, 8 envs", "CartPole-v1", 8),
    "halfcheetah-1": Setting("HalfCheetah-v5, 1 env", "HalfCheetah-v5", 1),
    "halfcheetah-8": Setting("HalfCheetah-v5, 8 envs", "HalfCheetah-v5", 8),
    "large": Setting("HalfCheetah-v5, 8 envs, 256 x 256, minibatches of 4096", "HalfCheetah-v5", 8, _LARGE),
}


@dataclass(frozen=True)
class Reading:
    """One measurement."""

    setting: str
    side: str
    round: int
    steps: int
    seconds: float
    steps_per_second: float
    peak_rss_mib: float


def main() -> None:
    """Measure, print the tables, write every reading."""
    options = _options()
    if options.measure:
        side, setting, core = options.measure
        print(json.dumps(measure(side, SETTINGS[setting], int(core), options.n_steps, options.updates)))
        return
    sides = [side for side in SIDES if side in options.sides and (side != "sbx" or _has_sbx(options.sbx_python))]
    cores: Queue[int] = Queue()
    for core in sorted(_cores(), reverse=True):
        cores.put(core)
    found: dict[str, dict[str, str]] = {}  # versions on each side
    with ThreadPoolExecutor(options.at_once) as pool:
        parts = pool.map(lambda setting: _measure_setting(setting, sides, cores, found, options), options.settings)
        readings = [reading for part in parts for reading in part]
    summary = summarise(readings)
    state = machine() | {"threads": 1}
    budget = {name: getattr(options, name) for name in ("rounds", "updates", "n_steps", "at_once")}
    titles = SIDES | {name: setting.title for name, setting in SETTINGS.items()}
    record = {"machine": state, "versions": found, "options": budget, "titles": titles, "summary": summary}
    write_json(options.json, record | {"readings": [vars(reading) for reading in readings]})
    print(report(summary, options))
    print(footer(state, found.get("sbx", {}) | versions()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=5, help="measurements of each side in each setting (5)")
    parser.add_argument("--updates", type=positive, default=3, help="rollouts and updates that are timed (3)")
    parser.add_argument("--n-steps", type=positive, default=2048, help="steps of a rollout in each environment (2048)")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="all by default")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="all by default")
    parser.add_argument("--at-once", type=positive, default=1, help="settings measured at the same time (1)")
    parser.add_argument("--sbx-python", metavar="PATH", help="a Python that has sbx-rl and gymnasium[mujoco]")
    parser.add_argument("--json", type=Path, default=Path("runs/throughput.json"), help="(runs/throughput.json)")
    parser.add_argument("--measure", nargs=3, metavar=("SIDE", "SETTING", "CORE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.at_once > len(_cores()):
        parser.error(f"--at-once {options.at_once} is more than the {len(_cores())} cores that this process may use")
    return options


# In the process that asks. It imports nothing large: on Linux the peak memory of a child is at least its parent's -----


def _has_sbx(python: str | None) -> bool:
    """Tell whether SBX is installed; if the user named its Python, it must be."""
    tried = subprocess.run([python or sys.executable, "-c", "import sbx"], capture_output=True, text=True, check=False)
    if python and tried.returncode != 0:
        raise ValueError(f"--sbx-python {python} cannot import sbx: {tried.stderr.strip().splitlines()[-1]}")
    return tried.returncode == 0


def _cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _measure_setting(
    setting: str,
    sides: list[str],
    cores: "Queue[int]",
    found: dict[str, dict[str, str]],
    options: argparse.Namespace,
) -> list[Reading]:
    """Measure all rounds of a setting on a free core; note the versions of each side."""
    core, readings = cores.get(), []
    for number in range(options.rounds):
        for side in sides:
            reading, found[side] = _measure_in_process(setting, side, number, core, options)
            readings.append(reading)
            print(f"{setting}, round {number}, {side}: {reading.steps_per_second:,.0f} steps/s", file=sys.stderr)
    cores.put(core)
    return readings


def _measure_in_process(
    setting: str, side: str, number: int, core: int, options: argparse.Namespace
) -> tuple[Reading, dict[str, str]]:
    python = options.sbx_python if side == "sbx" and options.sbx_python else sys.executable
    budget = ["--n-steps", str(options.n_steps), "--updates", str(options.updates)]
    command = [python, __file__, "--measure", side, setting, str(core), *budget]
    process = subprocess.run(command, env=one_thread(), capture_output=True, text=True, check=False)
    if process.returncode != 0:
        raise RuntimeError(f"{side} on {setting} failed:\n{process.stderr}")
    result = json.loads(process.stdout.splitlines()[-1])
    packages = result.pop("versions")
    return Reading(setting, side, number, steps_per_second=result["steps"] / result["seconds"], **result), packages


def summarise(readings: list[Reading]) -> dict[str, Any]:
    """Return medians per setting and side, and geometric means of the ratios over the default settings."""
    sides = list(dict.fromkeys(reading.side for reading in readings))
    bases = [base for base in BASES if base in sides]
    settings: dict[str, dict[str, Any]] = {}
    for reading in readings:
        cells = [r for r in readings if (r.setting, r.side) == (reading.setting, reading.side)]
        settings.setdefault(reading.setting, {})[reading.side] = {
            "steps_per_second": median(cell.steps_per_second for cell in cells),
            "peak_rss_mib": median(cell.peak_rss_mib for cell in cells),
            "ratio_to": {base: _ratio(readings, cells, base) for base in bases},
        }
    defaults = [sides for name, sides in settings.items() if not SETTINGS[name].arguments]
    means = {
        side: {base: geometric_mean(cells[side]["ratio_to"][base]["median"] for cells in defaults) for base in bases}
        for side in sides
        if defaults
    }
    return {"settings": settings, "geometric_mean": means}


def _ratio(readings: list[Reading], cells: list[Reading], base: str) -> dict[str, float]:
    """Return the median and the spread of the ratios within each round."""
    speed = {(r.setting, r.round): r.steps_per_second for r in readings if r.side == base}
    ratios = [cell.steps_per_second / speed[cell.setting, cell.round] for cell in cells]
    return {"median": median(ratios), "min": min(ratios), "max": max(ratios)}


def report(summary: dict[str, Any], options: argparse.Namespace) -> str:
    """Return the summary as Markdown."""
    header = ["steps/s (ratio to SB3 PPO: median, min..max)", *(SIDES[side] for side in options.sides)]
    speed, memory = [], []
    for name, sides in summary["settings"].items():
        cells = [sides.get(side) for side in options.sides]
        speed.append([SETTINGS[name].title, *map(_speed, cells)])
        memory.append([SETTINGS[name].title, *(f"{cell['peak_rss_mib']:,.0f}" if cell else "-" for cell in cells)])
    lines = [markdown(header, speed), "", markdown(["peak memory in MiB", *header[1:]], memory), ""]
    for side, means in summary["geometric_mean"].items():
        against = " and ".join(f"{mean:.2f} times {SIDES[base]}" for base, mean in means.items() if base != side)
        if side in OURS and against:
            lines.append(f"{SIDES[side]}, geometric mean over the default settings measured: {against}.")
    timed = f"rounds: {options.rounds}; timed rollouts and updates in each, after one to warm up: {options.updates}"
    how = f"Each measurement in a process of its own, on one core and thread; settings at once: {options.at_once}."
    return "\n".join([*lines, f"Medians ({timed}). {how}", ""])


def _speed(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "not installed"
    text = f"{cell['steps_per_second']:,.0f}"
    ratio = cell["ratio_to"].get("sb3")
    return f"{text} ({ratio['median']:.2f}, {ratio['min']:.2f}..{ratio['max']:.2f})" if ratio else text


# In the process that is measured ------------------------------------------------------------------------------------


def measure(side: str, setting: Setting, core: int, n_steps: int, updates: int) -> dict[str, Any]:
    """Measure one side in this process, which must have done nothing else before."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    import torch
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    env = make_vec_env(setting.env_id, n_envs=setting.n_envs, seed=0)
    advance = _random_play(env, n_steps) if side == "environment" else _training(side, env, n_steps, setting.arguments)
    advance(1)
    started = time.perf_counter()
    advance(updates)
    seconds = time.perf_counter() - started
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, others KiB
    return {
        "steps": updates * n_steps * setting.n_envs,
        "seconds": seconds,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit,
        "versions": versions(),
    }


def _random_play(env: Any, n_steps: int) -> Callable[[int], None]:
    """Return a function that steps the environment for some rollouts, with actions drawn beforehand."""
    import numpy as np

    env.action_space.seed(0)
    actions = [np.array([env.action_space.sample() for _ in range(env.num_envs)]) for _ in range(n_steps)]
    env.reset()

    def play(rollouts: int) -> None:
        for _ in range(rollouts):
            for action in actions:
                env.step(action)

    return play


def _training(side: str, env: Any, n_steps: int, arguments: dict[str, Any]) -> Callable[[int], None]:
    """Return a function that trains for some rollouts and updates."""
    algorithm, own = _algorithm(side)
    model = algorithm("MlpPolicy", env, n_steps=n_steps, seed=0, device="cpu", **own, **arguments)

    def train(updates: int) -> None:
        model.learn(updates * n_steps * env.num_envs, reset_num_timesteps=False)

    return train


def _algorithm(side: str) -> tuple[Any, dict[str, str]]:
    """Return a class and its own arguments. Nothing else is imported: memory is what a user of this class has."""
    if side == "sb3":
        from stable_baselines3 import PPO

        return PPO, {}
    if side == "trpo":
        from sb3_contrib import TRPO

        return TRPO, {}
    if side == "sbx":
        from sbx import PPO as SbxPPO  # type: ignore[import-not-found]  # noqa: N811

        return SbxPPO, {}
    from sb3_ppo_variants import ClipPPO

    return ClipPPO, {"engine": side}


if __name__ == "__main__":
    main()
