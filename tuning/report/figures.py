"""The figures of a report as plain plotly dictionaries: data and layout, nothing that needs plotly in Python."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy  # its parts are imported when they are used
from numpy.typing import NDArray

from ..ranking.statistics import percentile_level
from .palette import INK, Look
from .trials import SearchedParameter

Figure = dict[str, Any]
Line = Mapping[str, Any]

_BAND_RESAMPLES = 1000
_ROW = 34
_FRAME = 96


def ranking_figure(lines: Sequence[Line], looks: Mapping[str, Look]) -> Figure:
    """IQM of each algorithm with its interval, best on top.

    :param lines: of ``ranking.json``
    :param looks: of the algorithms
    """
    rows = [(line["algorithm"], {**line, "value": line["iqm"]}) for line in lines]
    return _forest(rows, looks, title="normalised score (IQM)", marks=[(0.0, "random"), (1.0, "reference")])


def improvement_figure(lines: Sequence[Line], reference: str, looks: Mapping[str, Look]) -> Figure | None:
    """Probability that a run of each algorithm beats a run of ``reference``; None when it was not ranked.

    :param lines: of ``ranking.json``
    :param reference: "trpo" or "ppo"
    :param looks: of the algorithms
    """
    estimates = [(line["algorithm"], line["probability_of_improvement"].get(reference)) for line in lines]
    rows = [(algorithm, estimate) for algorithm, estimate in estimates if estimate is not None]
    if not rows:
        return None
    figure = _forest(rows, looks, title=f"P(a run beats {reference})", marks=[(0.5, "even")])
    figure["layout"]["xaxis"] |= {"range": [-0.03, 1.03], "tickformat": ".0%"}
    return figure


def _forest(
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    looks: Mapping[str, Look],
    *,
    title: str,
    marks: Sequence[tuple[float, str]],
) -> Figure:
    """Points with intervals, a row each; dashed lines at ``marks``."""
    data = []
    for algorithm, estimate in rows:
        look, value = looks[algorithm], estimate["value"]
        low, high = (value if estimate[end] is None else estimate[end] for end in ("ci_low", "ci_high"))
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": [value], "y": [algorithm], "name": algorithm,
                "showlegend": False,
                "marker": {"color": look.colour, "symbol": look.symbol, "size": 8},
                "error_x": {
                    "type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low],
                    "color": look.colour, "thickness": 2, "width": 5,
                },
                "hovertemplate": f"{algorithm}: {value:.3f} [{low:.3f}, {high:.3f}]<extra></extra>",
            }
        )  # fmt: skip
    layout = {
        "height": _FRAME + _ROW * len(rows),
        "xaxis": {"title": {"text": title}, "zeroline": False},
        "yaxis": _category_axis([algorithm for algorithm, _ in rows]),
        "shapes": [_mark(x) for x, _ in marks],
        "annotations": [_mark_name(x, text) for x, text in marks],
    }
    return {"data": data, "layout": layout}


def _category_axis(names: Sequence[str]) -> dict[str, Any]:
    axis = {"type": "category", "categoryorder": "array", "categoryarray": list(names), "autorange": "reversed"}
    return {**axis, "automargin": True, "ticklen": 6, "showgrid": False}


def _mark(x: float) -> dict[str, Any]:
    return {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1}


def _mark_name(x: float, text: str) -> dict[str, Any]:
    return {"x": x, "text": text, "yref": "paper", "y": 1, "yanchor": "bottom"}


def profile_figure(profiles: Mapping[str, Any], looks: Mapping[str, Look]) -> Figure:
    """Share of the runs above each normalised score.

    :param profiles: ``performance_profiles`` of ``ranking.json``
    :param looks: of the algorithms
    """
    taus = profiles["taus"]
    data = []
    for algorithm, profile in profiles["algorithms"].items():
        data += _line_with_band(algorithm, looks[algorithm], taus, profile)
    layout = {
        "height": 360,
        "xaxis": {"title": {"text": "normalised score τ"}},
        "yaxis": {"title": {"text": "share of runs above τ"}, "range": [-0.02, 1.02], "tickformat": ".0%"},
    }
    return {"data": data, "layout": layout}


def curve_figure(curves: Mapping[str, Any], scale: Mapping[str, Any], looks: Mapping[str, Look]) -> Figure:
    """Learning curves of one environment: interquartile mean over the test runs and its 95 % band.

    :param curves: algorithm -> runs with their points
    :param scale: the environment's raw scores of the random policy and of the reference
    :param looks: of the algorithms
    """
    data = []
    for algorithm, runs in curves.items():
        steps, scores = _common_points(runs)
        if steps:
            data += _line_with_band(algorithm, looks[algorithm], steps, banded_iqm(scores))
    layout = {
        "height": 330,
        "xaxis": {"title": {"text": "training steps"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "mean return"}},
        "shapes": [_level(scale["random"]), _level(scale["reference"])],
        "annotations": [_level_name(scale["random"], "random policy"), _level_name(scale["reference"], "reference")],
    }
    return {"data": data, "layout": layout}


def _common_points(runs: Iterable[Mapping[str, Any]]) -> tuple[list[int], NDArray[np.float64]]:
    """The steps that every run with a curve was evaluated at, and the scores: (runs, steps)."""
    by_run = [{point["steps"]: point["score"] for point in run["points"]} for run in runs if run["points"]]
    if not by_run:
        return [], np.empty((0, 0))
    steps = sorted(set(by_run[0]).intersection(*by_run[1:]))
    return steps, np.array([[scores[step] for step in steps] for scores in by_run], dtype=np.float64)


def banded_iqm(scores: NDArray[np.float64]) -> dict[str, list[float]]:
    """IQM at each step with its interval, for scores of shape (runs, steps)."""
    value = _iqm(scores, axis=0)
    if len(scores) < 2:
        return {"value": value.tolist(), "ci_low": value.tolist(), "ci_high": value.tolist()}
    interval = scipy.stats.bootstrap(
        [scores],
        _iqm,
        n_resamples=_BAND_RESAMPLES,
        vectorized=True,
        axis=0,
        confidence_level=percentile_level(len(scores)),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    low, high = np.minimum(interval.low, value), np.maximum(interval.high, value)  # rounding aside
    return {"value": value.tolist(), "ci_low": low.tolist(), "ci_high": high.tolist()}


def _iqm(scores: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return np.asarray(scipy.stats.trim_mean(scores, 0.25, axis=axis))


def _line_with_band(name: str, look: Look, x: Sequence[float], estimate: Mapping[str, Any]) -> list[dict[str, Any]]:
    x = list(x)
    band = {
        "type": "scatter", "mode": "lines", "x": x + x[::-1], "y": estimate["ci_high"] + estimate["ci_low"][::-1],
        "fill": "toself", "fillcolor": look.faint(0.15), "line": {"width": 0}, "hoverinfo": "skip",
        "legendgroup": name, "showlegend": False,
    }  # fmt: skip
    line = {
        "type": "scatter", "mode": "lines" if len(x) > 1 else "markers", "x": x, "y": estimate["value"], "name": name,
        "legendgroup": name, "line": {"color": look.colour, "dash": look.dash, "width": 2.2},
        "marker": {"color": look.colour, "symbol": look.symbol, "size": 9},
    }  # fmt: skip
    if None in estimate["ci_low"] or None in estimate["ci_high"]:
        return [line]
    return [band, line]


def _level(y: float) -> dict[str, Any]:
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y}


def _level_name(y: float, text: str) -> dict[str, Any]:
    return {"y": y, "text": text, "xref": "paper", "x": 1, "xanchor": "right", "yanchor": "bottom"}


def rank_figure(lines: Sequence[Line]) -> Figure:
    """How often each algorithm takes each rank when the runs are resampled.

    :param lines: of ``ranking.json``
    """
    names = [line["algorithm"] for line in lines]
    figure = _heatmap(
        x=[str(rank) for rank in range(1, len(lines) + 1)],
        y=names,
        z=[line["rank_probabilities"] for line in lines],
        hover="%{y} is number %{x} in %{z:.0%} of the resamplings<extra></extra>",
        full=1.0,
    )
    figure["layout"]["xaxis"] |= {"title": {"text": "rank"}}
    return figure


def importance_figure(importances: Mapping[str, Mapping[str, float]]) -> Figure:
    """Share of each hyperparameter in what separates the good trials, one column for each algorithm.

    :param importances: algorithm -> parameter -> share; a parameter that an algorithm lacks stays blank
    """
    parameters = sorted(
        {name for shares in importances.values() for name in shares},
        key=lambda name: -sum(shares.get(name, 0.0) for shares in importances.values()),
    )
    return _heatmap(
        x=list(importances),
        y=parameters,
        z=[[shares.get(name) for shares in importances.values()] for name in parameters],
        hover="%{y} of %{x}: %{z:.0%}<extra></extra>",
        full=max(share for shares in importances.values() for share in shares.values()),
    )


def _heatmap(
    *, x: Sequence[str], y: Sequence[str], z: Sequence[Sequence[float | None]], hover: str, full: float
) -> Figure:
    """Shares in per cent on tiles, a blank for less than half of one; ``full`` is the share of the full colour."""
    text = [["" if share is None or share < 0.005 else f"{100 * share:.0f}" for share in row] for row in z]
    data = {
        "type": "heatmap", "x": list(x), "y": list(y), "z": [list(row) for row in z], "text": text,
        "texttemplate": "%{text}", "textfont": {"color": INK}, "hovertemplate": hover, "hoverongaps": False,
        "showscale": False,
        "colorscale": [[0.0, "#eff3f7"], [1.0, "#7fb8dd"]], "zmin": 0.0, "zmax": full, "xgap": 2, "ygap": 2,
    }  # fmt: skip
    axis = {"type": "category", "side": "bottom", "automargin": True, "showgrid": False}
    layout = {"height": _FRAME + 28 * len(y), "xaxis": axis, "yaxis": _category_axis(y)}
    return {"data": [data], "layout": layout}


def slice_figure(
    parameter: SearchedParameter, xs: Sequence[Any], values: Sequence[float], *, chosen: int | None, look: Look
) -> Figure:
    """Value of each trial over one of its parameters.

    :param parameter: what was searched
    :param xs: its value in each trial
    :param values: normalised score of each trial
    :param chosen: index of the trial that was tested, which gets a ring
    :param look: of the algorithm
    """
    shown = [str(x) for x in xs] if parameter.scale == "category" else list(xs)
    common = {"type": "scatter", "mode": "markers", "showlegend": False}
    points = {"color": look.faint(0.55), "size": 7, "symbol": look.symbol}
    hover = f"{parameter.name} %{{x}}: %{{y:.3f}}<extra></extra>"
    data = [{**common, "x": shown, "y": list(values), "marker": points, "hovertemplate": hover}]
    if chosen is not None:
        ring = {"color": "rgba(0,0,0,0)", "size": 14, "line": {"color": INK, "width": 2}}
        data.append({**common, "x": [shown[chosen]], "y": [values[chosen]], "marker": ring, "hoverinfo": "skip"})
    axis: dict[str, Any] = {"title": {"text": parameter.name}, "type": parameter.scale, "nticks": 5, "tickangle": 0}
    if parameter.scale == "log":
        decades = math.log10(max(xs) / min(xs))
        axis["exponentformat"] = "e"
        if decades >= 1:
            axis["dtick"] = math.ceil(decades / 4)
        else:  # plotly would write 5 6 7 8 9 0.1 2 3
            axis |= {"tickvals": _round_numbers(min(xs), max(xs)), "tickformat": "~g"}
    if parameter.scale == "category":
        axis["categoryorder"] = "category ascending"
    return {"data": data, "layout": {"height": 220, "xaxis": axis, "yaxis": {"title": {"text": "score"}}}}


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from just below ``low`` to just above ``high``."""
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    numbers = [digit * 10.0**exponent for exponent in exponents for digit in (1, 2, 5)]
    return [number for number in numbers if 0.8 * low <= number <= 1.25 * high]
