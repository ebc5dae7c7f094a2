"""From a finished study to one HTML page that needs no network."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import yaml
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from ..files import write_atomically
from ..ranking_file import Ranking, read_ranking
from . import figures
from .checklist import checklist, study_yaml
from .figures import Figure
from .palette import Look, looks
from .trials import TunedPair, read_trials


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a finished study.

    :param folder: of the study's results
    :return: the file
    :raises ValueError: no finished study, or a ranking of another release
    :raises OSError: the file system refused; an earlier report is then still there
    """
    ranking = read_ranking(folder)
    missing = ""
    trials: dict[tuple[str, str], TunedPair] = {}
    try:
        trials = read_trials(folder, ranking["protocol"])
    except OSError as error:  # the ranking does not need the trials, and they can be written again
        missing = str(error)
    path = folder / "report.html"
    try:
        page = render(ranking, trials, missing)
    except KeyError as error:
        raise ValueError(
            f"{folder / 'ranking.json'} lacks {error}: run ppo-variants rank again, it is written anew"
        ) from error
    write_atomically(path, page)
    return path


def render(ranking: Ranking, trials: Mapping[tuple[str, str], TunedPair], missing: str = "") -> str:
    """The page.

    :param ranking: content of ``ranking.json``
    :param trials: of each (algorithm, environment)
    :param missing: why there are no trials; empty when there are
    """
    protocol = ranking["protocol"]
    styles = looks(protocol["algorithms"])
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_part), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"estimate": _estimate, "number": _number, "raw": _raw, "yaml": _yaml}
    # ids in the study's order: a look, and so a colour, does not depend on who won
    drawn = _figures(ranking, styles) | _importances(protocol, trials)
    return environment.get_template("report.html.j2").render(
        **{name: ranking[name] for name in ("verdict", "warnings", "failures", "one_for_all", "protocol")},
        lines=ranking["ranking"],
        looks=styles,
        figures=drawn,
        environments=[(f"curve-{index}", env_id) for index, env_id in enumerate(protocol["environments"])],
        importances=[name for name in drawn if name.startswith("importance-")],
        unexplained=[(*pair, tuned.reason) for pair, tuned in trials.items() if tuned.reason],
        slices=_slices(trials, styles),
        missing=missing,
        checklist=checklist(ranking),
        study_yaml=study_yaml(protocol),
        protocol_json=json.dumps(protocol, indent=1),
        plotly_js=get_plotlyjs(),
        style=_part("report.css"),
        script=_part("report.js"),
    )


def _part(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _figures(ranking: Ranking, styles: Mapping[str, Look]) -> dict[str, Figure]:
    """All figures that come from the ranking, by the id of their place."""
    lines, protocol = ranking["ranking"], ranking["protocol"]
    drawn: dict[str, Figure | None] = {
        "ranking": figures.ranking_figure(lines, styles),
        "improvement-trpo": figures.improvement_figure(lines, "trpo", styles),
        "improvement-ppo": figures.improvement_figure(lines, "ppo", styles),
        "profiles": figures.profile_figure(ranking["performance_profiles"], styles),
        "ranks": figures.rank_figure(lines),
    }
    scales = protocol["normalisation"]["scales"]
    for index, env_id in enumerate(protocol["environments"]):
        drawn[f"curve-{index}"] = figures.curve_figure(ranking["curves"][env_id], scales[env_id], styles)
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _importances(protocol: Mapping[str, Any], trials: Mapping[tuple[str, str], TunedPair]) -> dict[str, Figure]:
    """One figure for each environment that has an algorithm with enough trials."""
    drawn = {}
    for env_id in protocol["environments"]:
        shares = {
            algorithm: tuned.importances
            for (algorithm, where), tuned in trials.items()
            if where == env_id and tuned.importances is not None
        }
        if shares:
            drawn[f"importance-{env_id}"] = figures.importance_figure(shares)
    return drawn


def _slices(trials: Mapping[tuple[str, str], TunedPair], styles: Mapping[str, Look]) -> list[dict[str, Any]]:
    return [
        {"algorithm": algorithm, "environment": env_id, "figures": _slice_figures(tuned, styles[algorithm])}
        for (algorithm, env_id), tuned in trials.items()
    ]


def _slice_figures(tuned: TunedPair, look: Look) -> list[Figure]:
    return [
        figures.slice_figure(
            name,
            [params[name] for params in tuned.params],
            tuned.values,
            log=name in tuned.log_scaled,
            best=tuned.best,
            look=look,
        )
        for name in _by_importance(tuned)
    ]


def _by_importance(tuned: TunedPair) -> Sequence[str]:
    return list(tuned.importances) if tuned.importances is not None else list(tuned.params[0])


def _estimate(estimate: Mapping[str, Any] | None, digits: int = 2) -> str:
    """``0.81 [0.77, 0.85]``, or a dash."""
    if estimate is None:
        return "–"
    low, high = estimate["ci_low"], estimate["ci_high"]
    interval = "" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{estimate['value']:.{digits}f}{interval}"


def _number(value: float | None, form: str = ",.0f") -> str:
    return "–" if value is None else format(value, form)


def _raw(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def _yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=False).rstrip()
