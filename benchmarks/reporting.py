"""What the benchmarks share: the state of the machine, one thread for everybody, and Markdown tables."""

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "sb3-ppo-variants",
    "stable-baselines3",
    "sb3-contrib",
    "sbx-rl",
    "rl_zoo3",
    "gymnasium",
    "mujoco",
    "optuna",
    "numpy",
    "torch",
    "jax",
)


def positive(text: str) -> int:
    """Read an option that counts something.

    :raises ArgumentTypeError: not a whole number above zero
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above zero, got {text}")
    return int(text)


def one_thread() -> dict[str, str]:
    """Return the environment of a process whose numerical libraries use one thread each."""
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    xla = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return os.environ | dict.fromkeys(pools, "1") | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla}


def machine() -> dict[str, Any]:
    """Return the processor, the cores that this process may use, the operating system and the date."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table: the first column to the left, numbers to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def footer(state: dict[str, Any], packages: dict[str, str]) -> str:
    """Return on what and how the where above were measured, as Markdown."""
    named = ", ".join(f"{name} {number}" for name, number in packages.items())
    where = f"{state['cpu']}, {state['cores']} cores, {state['system']}, {state['date']}"
    return f"{where}; {named}\n\n`{state['command']}`"


def write_json(path: Path, content: Any) -> None:
    """Write a file that is complete or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
