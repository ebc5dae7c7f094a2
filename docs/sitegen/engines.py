"""How fast the engines are, as measured."""

import json
from collections.abc import Mapping
from typing import Any

from sitegen.effects import MEASURED, table

SPEEDS = MEASURED / "throughput.json"
LEARNING = MEASURED / "engines"
_OURS = ("torch", "numpy", "compiled")


def speed_part() -> str:
    """Return speeds, memory and how they were measured, in Markdown, as the benchmark wrote them."""
    record = json.loads(SPEEDS.read_text(encoding="utf-8"))
    titles, settings, means = record["titles"], record["summary"]["settings"], record["summary"]["geometric_mean"]
    sides = list(means)
    tables = []
    for base in (base for base in ("sb3", "sbx") if base in sides):
        rows = [
            [titles[name], *(_spread(cells[side]["ratio_to"][base]) for side in _OURS)]
            for name, cells in settings.items()
        ]
        rows.append(["geometric mean of the default settings", *(f"**{means[side][base]:.2f}**" for side in _OURS)])
        tables += table(f"times the steps/s of {titles[base]}", [titles[side] for side in _OURS], rows)
    for first, figure in (("steps/s", "steps_per_second"), ("peak memory in MiB", "peak_rss_mib")):
        rows = [[titles[name], *(f"{cells[side][figure]:,.0f}" for side in sides)] for name, cells in settings.items()]
        tables += table(first, [titles[side] for side in sides], rows)
    return "\n".join([*tables, _how(record), ""])


def speed_sentence() -> str:
    """Return in a sentence how many times SB3's speed the fastest engine has, in Markdown."""
    summary = json.loads(SPEEDS.read_text(encoding="utf-8"))["summary"]
    ratios = {name: cells["compiled"]["ratio_to"]["sb3"]["median"] for name, cells in summary["settings"].items()}
    large = ratios.pop("large")
    mean = summary["geometric_mean"]["compiled"]["sb3"]
    return (
        f"with default settings, {min(ratios.values()):.1f} to {max(ratios.values()):.1f} times the steps per second "
        f"of SB3's PPO (geometric mean {mean:.1f}), and {large:.1f} times with large networks and minibatches.\n"
    )


def _spread(ratio: Mapping[str, float]) -> str:
    return f"**{ratio['median']:.2f}** ({ratio['min']:.2f} to {ratio['max']:.2f})"


def _how(record: Mapping[str, Any]) -> str:
    machine, options = record["machine"], record["options"]
    found = {package: release for versions in record["versions"].values() for package, release in versions.items()}
    packages = ", ".join(f"{name} {found[name]}" for name in sorted(found) if found[name])
    return (
        f"Medians of {options['rounds']} rounds, ratios within rounds. Each reading is a process of its own on a core "
        f"and thread, of rollouts of {options['n_steps']:,} steps an environment with their updates: "
        f"{options['updates']}, after one to warm up; the sides alternate within a round; settings at a time: "
        f"{options['at_once']}. Machine: "
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; {packages}; {machine['date'][:10]}."
    )
