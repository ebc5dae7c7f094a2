"""From a finished study to one HTML page that needs no network."""

import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from ..ranking.entry_yaml import entry_yaml
from ..ranking.ranking_json import RankingJson, read_ranking
from ..ranking.wording import origin_text
from ..runs.files import write_atomically
from ..study.configurations import configuration_in, described_in
from . import figures
from .checklist import checklist
from .figures import Figure
from .palette import Look, looks
from .protocol_view import searched_ranges, study_yaml
from .trials import MANY_TRIALS, TunedPair, read_trials

MOST_POINTS = 300
"""Trials in a slice; of more, every second, third, ... is shown, and the chosen one."""

_CONTENT = ("verdict", "warnings", "not_run", "environments", "equal_seconds", "failures", "one_for_all", "protocol")


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a finished study.

    :param folder: of the study's results
    :return: the file
    :raises ValueError: no finished study, or a ranking of another release
    :raises OSError: the file system refused; an earlier report is then still there
    """
    ranking = read_ranking(folder)
    path = folder / "report.html"
    try:
        page = render(ranking, *_trials(folder, ranking))
    except KeyError as error:
        raise ValueError(
            f"{folder / 'ranking.json'} lacks {error}: run ppo-variants rank again, it is written anew"
        ) from error
    write_atomically(path, page)
    return path


def _trials(folder: Path, ranking: RankingJson) -> tuple[dict[tuple[str, str], TunedPair], str]:
    """The trials, and why there are none: the ranking does not need them, and they can be written again."""
    try:
        return read_trials(folder, ranking["protocol"], _pairs(ranking)), ""
    except OSError as error:
        return {}, str(error)


def _pairs(ranking: RankingJson) -> list[tuple[str, str]]:
    """Every (algorithm, environment) in the study's order."""
    env_ids = ranking["curves"]  # the protocol has them in the order of the alphabet
    return [(algorithm, env_id) for algorithm in ranking["protocol"]["algorithms"] for env_id in env_ids]


def render(ranking: RankingJson, trials: Mapping[tuple[str, str], TunedPair], missing: str = "") -> str:
    """The page.

    :param ranking: content of ``ranking.json``
    :param trials: of each (algorithm, environment)
    :param missing: why there are no trials; empty when there are
    """
    lines, protocol = ranking["ranking"], ranking["protocol"]
    everybody = [*lines, *ranking["unranked"]]
    env_ids = list(dict.fromkeys(env_id for _, env_id in _pairs(ranking)))
    styles = looks(protocol["algorithms"])  # in the study's order: a colour does not depend on who won
    places = [(str(index), env_id) for index, env_id in enumerate(env_ids)]
    drawn = _figures(ranking, styles, places) | _importances(trials, places)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_part), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "estimate": _estimate,
        "number": _number,
        "raw": _raw,
        "yaml": entry_yaml,
        "unbroken": _unbroken,
    }
    return environment.get_template("report.html.j2").render(
        **{name: ranking[name] for name in _CONTENT},
        lines=lines,
        everybody=everybody,
        looks=styles,
        figures=drawn,
        places=places,
        without_curve={env_id: _without_curve(ranking["curves"][env_id]) for env_id in env_ids},
        configurations=described_in(protocol),
        chosen=_origins(ranking),
        tuned_iqm={line["algorithm"]: line["iqm"] for line in lines},
        unexplained=_unexplained(trials),
        rough=_rough(trials, places),
        many_trials=MANY_TRIALS,
        slices=_slices(everybody, trials, styles),
        most_points=MOST_POINTS,
        missing=missing,
        checklist=checklist(ranking),
        spaces=searched_ranges(protocol, env_ids),
        study_yaml=study_yaml(protocol, env_ids),
        protocol_json=json.dumps(protocol, indent=1),
        plotly_js=get_plotlyjs(),
        style=_part("report.css"),
        script=_part("report.js"),
    )


def _origins(ranking: RankingJson) -> dict[str, dict[str, str]]:
    """Algorithm -> environment -> where its chosen configuration comes from."""
    protocol = ranking["protocol"]
    return {
        line["algorithm"]: {
            env_id: origin_text(
                best["trial"],
                protocol["budget"]["trials"],
                configuration_in(protocol, line["algorithm"])["hyperparameters"],
            )
            for env_id, best in line["best"].items()
        }
        for line in [*ranking["ranking"], *ranking["unranked"]]
    }


def _part(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _figures(ranking: RankingJson, styles: Mapping[str, Look], places: Sequence[tuple[str, str]]) -> dict[str, Figure]:
    """All figures that come from the ranking, by the id of their place."""
    lines = ranking["ranking"]
    drawn: dict[str, Figure | None] = {}
    if lines:
        drawn = {
            "ranking": figures.ranking_figure(lines, styles),
            "improvement-trpo": figures.improvement_figure(lines, "trpo", styles),
            "improvement-ppo": figures.improvement_figure(lines, "ppo", styles),
            "profiles": figures.profile_figure(ranking["performance_profiles"], styles),
            "ranks": figures.rank_figure(lines),
        }
    scales = ranking["protocol"]["normalisation"]["scales"]
    for place, env_id in places:
        drawn[f"curve-{place}"] = figures.curve_figure(ranking["curves"][env_id], scales[env_id], styles)
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _importances(trials: Mapping[tuple[str, str], TunedPair], places: Sequence[tuple[str, str]]) -> dict[str, Figure]:
    """One figure for each environment that has an algorithm with enough trials."""
    drawn = {}
    for place, env_id in places:
        shares = {
            algorithm: tuned.importances
            for (algorithm, where), tuned in trials.items()
            if where == env_id and tuned.importances is not None
        }
        if shares:
            drawn[f"importance-{place}"] = figures.importance_figure(shares)
    return drawn


def _rough(trials: Mapping[tuple[str, str], TunedPair], places: Sequence[tuple[str, str]]) -> list[str]:
    """Places of the environments where an importance rests on few trials."""
    few = {
        env_id
        for (_, env_id), tuned in trials.items()
        if tuned.importances is not None and len(tuned.values) < MANY_TRIALS
    }
    return [place for place, env_id in places if env_id in few]


def _unexplained(trials: Mapping[tuple[str, str], TunedPair]) -> dict[str, str]:
    """Why there is no importance -> for whom."""
    pairs: dict[str, list[str]] = {}
    for (algorithm, env_id), tuned in trials.items():
        if tuned.reason:
            pairs.setdefault(tuned.reason, []).append(f"{algorithm} on {env_id}")
    return {reason: "all" if len(own) == len(trials) else ", ".join(own) for reason, own in pairs.items()}


def _without_curve(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """``2 of trpo`` for each algorithm with runs that left no learning curve."""
    missing = {algorithm: sum(not run["points"] for run in runs) for algorithm, runs in curves.items()}
    return [f"{number} of {algorithm}" for algorithm, number in missing.items() if number]


def _slices(
    lines: Sequence[Mapping[str, Any]], trials: Mapping[tuple[str, str], TunedPair], styles: Mapping[str, Look]
) -> list[dict[str, Any]]:
    chosen = {(line["algorithm"], env_id): best["trial"] for line in lines for env_id, best in line["best"].items()}
    return [
        {
            "algorithm": algorithm,
            "environment": env_id,
            "figures": _slice_figures(tuned, chosen[algorithm, env_id], styles[algorithm]),
        }
        for (algorithm, env_id), tuned in trials.items()
    ]


def _slice_figures(tuned: TunedPair, chosen: int, look: Look) -> list[Figure]:
    """One figure for each parameter, of so many trials at most that the page keeps a sensible size."""
    stride = -(-len(tuned.numbers) // MOST_POINTS)
    shown = [place for place, number in enumerate(tuned.numbers) if place % stride == 0 or number == chosen]
    numbers = [tuned.numbers[place] for place in shown]
    index = numbers.index(chosen) if chosen in numbers else None
    values = [tuned.values[place] for place in shown]
    return [
        figures.slice_figure(
            parameter,
            [tuned.params[place][parameter.name] for place in shown],
            values,
            chosen=index,
            look=look,
        )
        for parameter in tuned.searched
    ]


def _estimate(estimate: Mapping[str, Any] | None, digits: int = 2) -> str:
    """``0.81 [0.77, 0.85]``, the interval on one line, or a dash."""
    if estimate is None:
        return "–"
    low, high = estimate["ci_low"], estimate["ci_high"]
    interval = "" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return _unbroken(f"{estimate['value']:.{digits}f}{interval}")


def _unbroken(text: str) -> str:
    """``text`` with intervals and percentages that no line break tears apart."""
    return re.sub(r"\[[^\]]*\]| %", lambda part: part.group().replace(" ", "\N{NO-BREAK SPACE}"), text)


def _number(value: float | None, form: str = ",.0f") -> str:
    return "–" if value is None else format(value, form)


def _raw(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"
