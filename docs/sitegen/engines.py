"""What was measured of the engines: their speed, and that they learn the same."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from sb3_ppo_variants.tuning.ranking.ranking_json import read_ranking
from sb3_ppo_variants.tuning.ranking.statistics import iqm, iqm_difference
from sb3_ppo_variants.tuning.ranking.wording import interval_text

from sitegen.published import normalised_scores

_RESULTS = Path(__file__).parents[2] / "benchmarks/results"
SPEEDS = _RESULTS / "throughput.json"
LEARNING = _RESULTS / "engines"


def speed_part() -> str:
    """Return speeds, memory and how they were measured, in Markdown, as the benchmark wrote them."""
    record = json.loads(SPEEDS.read_text(encoding="utf-8"))
    titles, settings, means = record["titles"], record["summary"]["settings"], record["summary"]["geometric_mean"]
    sides = list(means)
    ratios = [(side, base) for side, base in product(("torch", "numpy", "compiled"), ("sb3", "sbx")) if base in sides]
    header = [*(titles[side] for side in sides), *(f"{titles[side]} / {titles[base]}" for side, base in ratios)]
    rows, memory = [], []
    for name, cells in settings.items():
        speeds = [f"{cells[side]['steps_per_second']:,.0f}" for side in sides]
        rows.append([titles[name], *speeds, *(_spread(cells[side]["ratio_to"][base]) for side, base in ratios)])
        memory.append([titles[name], *(f"{cells[side]['peak_rss_mib']:,.0f}" for side in sides)])
    mean = ["geometric mean of the default settings", *[""] * len(sides)]
    rows.append([*mean, *(f"**{means[side][base]:.2f}**" for side, base in ratios)])
    tables = [*_table("steps/s", header, rows), *_table("peak memory in MiB", header[: len(sides)], memory)]
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


def _table(first: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in ([first, *header], *rows)]
    return [lines[0], "|---|" + "---:|" * len(header), *lines[1:], ""]


def _spread(ratio: Mapping[str, float]) -> str:
    return f"**{ratio['median']:.2f}** ({ratio['min']:.2f} to {ratio['max']:.2f})"


def _how(record: Mapping[str, Any]) -> str:
    machine, options = record["machine"], record["options"]
    found = {package: release for versions in record["versions"].values() for package, release in versions.items()}
    packages = ", ".join(f"{name} {found[name]}" for name in sorted(found) if found[name])
    return (
        f"Medians of {options['rounds']} rounds, ratios within rounds. Each reading is a process of its own on a core "
        f"and thread, {options['updates']} rollout and update (or more) of {options['n_steps']:,} steps an environment "
        f"after one to warm up; the sides alternate within a round, {options['at_once']} settings at a time. Machine: "
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; {packages}; {machine['date'][:10]}."
    )


def learning_part() -> str:
    """Return, in Markdown, how the engines' test scores in the study ``engines`` differ from PyTorch's."""
    ranking = read_ranking(LEARNING)
    protocol = ranking["protocol"]
    lines = {line["algorithm"]: line for line in ranking["ranking"]}
    rows = []
    for env_id, steps in protocol["environments"].items():
        torch = normalised_scores(lines["clip_ppo_torch"], [env_id])
        for name in sorted(lines, reverse=True):
            own = normalised_scores(lines[name], [env_id])
            difference = iqm_difference(own, torch, seed=0)
            verdict = "separable" if difference.excludes(0.0) else "not separable"
            against = "" if name == "clip_ppo_torch" else f"{interval_text(difference)}, {verdict}"
            rows.append([f"{env_id}, {steps:,} steps", name, interval_text(iqm(own, seed=0)), against])
    seeds = protocol["budget"]["test_seeds"]
    table = _table("environment", ["configuration", f"IQM over {seeds} seeds", "minus PyTorch's"], rows)
    return "\n".join([*table, ""])
