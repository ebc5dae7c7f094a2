"""The logged metrics: ``data/metrics.yml`` as tables, and as words on the pages of variants."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_DATA = Path(__file__).parent.parent / "data/metrics.yml"


@cache
def metrics() -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return group -> key -> meaning, unit, healthy range, and what to do outside it."""
    groups: dict[str, dict[str, Mapping[str, Any]]] = yaml.safe_load(_DATA.read_text(encoding="utf-8"))
    return groups


def meanings() -> dict[str, str]:
    """Return the meaning of each key."""
    return {key: entry["means"] for group in metrics().values() for key, entry in group.items()}


def metrics_part() -> str:
    """Return definition lists in Markdown, a heading for each group."""
    lines = []
    for group, entries in metrics().items():
        lines += [f"## {group}", ""]
        for key, entry in entries.items():
            text = [entry["means"]]
            if "healthy" in entry:
                text.append(f"*Healthy:* {entry['healthy']}")
            if "else" in entry:
                text.append(f"*Otherwise:* {entry['else']}")
            unit = f" ({entry['unit']})" if "unit" in entry else ""
            lines += [f"`{key}`{unit}", f": {' '.join(text)}", ""]
    return "\n".join(lines)
