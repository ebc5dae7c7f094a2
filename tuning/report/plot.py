"""``ppo-variants plot``: learning curves with bands over runs, as a picture or a page."""

import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runs.files import write_atomically
from .figures import banded_iqm
from .palette import Look, looks
from .training_logs import Curves, RunCurve, read_curves

FORMATS = (".png", ".svg", ".pdf", ".html")
_POINTS = 200
_COLUMNS = 3
_DASHES: Mapping[str, Any] = {"solid": "-", "dash": "--", "dot": ":"}


def plot(logs: Sequence[Path], out: Path, *, window: int = 100) -> dict[str, int]:
    """Draw the learning curves of all runs below some folders: a panel for each environment.

    A line is the interquartile mean over the runs of a curve, between the steps that all of them have; the band around
    it is its 95 % bootstrap interval. A single run has no band.

    :param logs: folders, see :func:`.training_logs.read_curves`
    :param out: file to write, which ends in one of :data:`FORMATS`
    :param window: episodes over which Monitor's returns are averaged, >= 1
    :return: curve -> number of its runs, over all environments
    :raises ValueError: another ending, a window below 1, a folder is missing, or there is no run in it
    """
    if out.suffix not in FORMATS:
        raise ValueError(f"{out}: the picture is a {', '.join(FORMATS)} file: give --out a name with such an ending")
    if window < 1:
        raise ValueError(f"window={window}: returns are averaged over at least 1 episode")
    curves = read_curves(logs, window)
    labels = list(dict.fromkeys(label for panel in curves.values() for label in panel))
    figure = _draw(curves, looks(labels))
    _write(figure, out)
    return {label: sum(len(panel.get(label, ())) for panel in curves.values()) for label in labels}


def _draw(curves: Curves, styles: Mapping[str, Look]) -> Any:
    from matplotlib.figure import Figure  # takes a second, and needs no display

    columns = min(len(curves), _COLUMNS)
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(5.2 * columns, 3.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for panel, (env_id, by_label) in zip(panels, curves.items(), strict=False):
        for label, runs in by_label.items():
            _draw_curve(panel, label, runs, styles[label])
        panel.set_title(env_id)
        panel.set_xlabel("environment steps")
        panel.set_ylabel("return")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small", frameon=False)
    for panel in list(figure.axes)[len(curves) :]:
        panel.set_axis_off()
    return figure


def _draw_curve(panel: Any, label: str, runs: Sequence[RunCurve], look: Look) -> None:
    steps, returns = _on_common_steps(runs)
    band = banded_iqm(returns)
    named = f"{label} ({len(runs)} run{'s' if len(runs) > 1 else ''})"
    panel.plot(steps, band["value"], color=look.colour, linestyle=_DASHES[look.dash], label=named)
    if len(runs) > 1:
        panel.fill_between(steps, band["ci_low"], band["ci_high"], color=look.colour, alpha=0.15, linewidth=0)


def _on_common_steps(runs: Sequence[RunCurve]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return steps that all runs have taken, and their returns there, interpolated: shapes (N,) and (runs, N)."""
    first, last = max(run.steps[0] for run in runs), min(run.steps[-1] for run in runs)
    steps = np.linspace(first, max(first, last), _POINTS)
    return steps, np.stack([np.interp(steps, run.steps, run.returns) for run in runs])


def _write(figure: Any, out: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="svg" if out.suffix == ".html" else out.suffix[1:], dpi=150)
    content = picture.getvalue()
    if out.suffix == ".html":
        svg = content[content.index(b"<svg") :]
        content = f'<!doctype html>\n<meta charset="utf-8">\n<title>{escape(out.stem)}</title>\n'.encode() + svg
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, content)
