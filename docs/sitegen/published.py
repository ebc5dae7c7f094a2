"""What the published rankings say, family of environments by family: ``results/<study>/ranking.json``, never typed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium
from sb3_ppo_variants.tuning.ranking.part import difference_on, iqm_on
from sb3_ppo_variants.tuning.ranking.power import power_text
from sb3_ppo_variants.tuning.ranking.ranking_json import RankingJson, read_ranking
from sb3_ppo_variants.tuning.ranking.results import NotRun
from sb3_ppo_variants.tuning.ranking.statistics import Estimate
from sb3_ppo_variants.tuning.ranking.wording import interval_text, not_run_text
from sb3_ppo_variants.tuning.study.configurations import configuration_in, described

Rankings = Mapping[str, RankingJson]

_FAMILIES = {"classic_control": "Classic control", "box2d": "Box2D", "mujoco": "MuJoCo", "toy_text": "Toy text"}


@dataclass(frozen=True)
class Line:
    """An algorithm on a family of environments.

    :param algorithm: its name in the study
    :param iqm: interquartile mean of its normalised test scores on them
    :param behind: IQM of the family's first minus its own, with the interval; None for the first itself
    :param minutes: median training time of a test run
    :param failed: test runs that failed; they count with the floor
    :param again: the command that makes these runs again
    """

    algorithm: str
    iqm: Estimate
    behind: Estimate | None
    minutes: float | None
    failed: int
    again: str

    @property
    def iqm_text(self) -> str:
        """The IQM with its interval."""
        return interval_text(self.iqm)

    @property
    def minutes_text(self) -> str:
        """The training time, or a dash."""
        return minutes_text(self.minutes)

    @property
    def behind_text(self) -> str:
        """The distance from the first with its interval, and whether the two are separable."""
        if self.behind is None:
            return "first"
        return difference_text(self.behind)


@dataclass(frozen=True)
class Family:
    """One table of the decision page.

    :param name: of the family
    :param study: folder of the ranking in ``results``
    :param environments: and their steps
    :param seeds: test seeds
    :param lines: best first
    :param not_run: who has no score here, and why
    :param configurations: name -> what it is, for those that are no algorithm's id
    :param trials: of tuning each; 0 where the registered configurations were ranked
    :param power: what the whole study could have shown; empty where that cannot be said
    """

    name: str
    study: str
    environments: Mapping[str, int]
    seeds: int
    lines: list[Line]
    not_run: list[str]
    configurations: Mapping[str, str]
    trials: int
    power: str

    @property
    def sentence(self) -> str:
        """What may be said of the first, and what may not."""
        first, *others = self.lines
        head = f"**{first.algorithm}** has the highest IQM, {first.iqm_text}"
        close = [line.algorithm for line in others if not (line.behind and line.behind.excludes(0.0))]
        if not others:
            return f"{head}; it was ranked alone."
        if not close:
            return f"{head}, and is separable from every other algorithm."
        return (
            f"{head}, and is **not separable** from {', '.join(close)}: prefer it to them for other reasons, or none."
        )


def rankings(folder: Path) -> dict[str, RankingJson]:
    """Read every published ranking.

    :param folder: with a folder for each study; it need not exist
    :raises ValueError: a ranking that this version cannot read
    """
    return {path.parent.name: read_ranking(path.parent) for path in sorted(folder.glob("*/ranking.json"))}


def reports(folder: Path) -> dict[str, Path]:
    """Return the reports that are published beside the rankings, by study.

    :param folder: with a folder for each study
    """
    return {path.parent.name: path for path in sorted(folder.glob("*/report.html"))}


def families(published: Rankings) -> list[Family]:
    """Return a table for each study and family of environments.

    :param published: from :func:`rankings`
    """
    found = []
    for study, ranking in published.items():
        protocol = ranking["protocol"]
        power = power_text(ranking)
        groups: dict[str, list[str]] = {}
        for env_id in ranking["curves"]:  # in the study's order
            groups.setdefault(family_of(env_id), []).append(env_id)
        for name, env_ids in groups.items():
            steps = {env_id: protocol["environments"][env_id] for env_id in env_ids}
            missing = [
                NotRun(**record)
                for record in ranking["not_run"]
                if record["environment"] in env_ids and record["stage"] == "test"
            ]
            lines = _lines(study, ranking, env_ids, {record.algorithm for record in missing})
            if lines:
                not_run = [not_run_text(record) for record in missing]
                own = {name: described(each) for name, each in protocol.get("configurations", {}).items()}
                seeds, trials = protocol["budget"]["test_seeds"], protocol["budget"]["trials"]
                found.append(Family(name, study, steps, seeds, lines, not_run, own, trials, power))
    return found


def family_of(env_id: str) -> str:
    """Return the family of an environment, by the package that Gymnasium makes it from."""
    spec = gymnasium.registry.get(env_id)
    entry_point = spec.entry_point if spec else ""
    parts = entry_point.split(":")[0].split(".") if isinstance(entry_point, str) else []
    return next((_FAMILIES[part] for part in parts if part in _FAMILIES), "Other environments")


def _lines(study: str, ranking: RankingJson, env_ids: list[str], not_run: set[str]) -> list[Line]:
    """Rank whoever ran on all of these environments, also who did not run on others."""
    tested = [*ranking["ranking"], *ranking["unranked"]]
    scored = {line["algorithm"]: line for line in tested if line["algorithm"] not in not_run}
    estimates = {name: iqm_on(ranking, line, env_ids) for name, line in scored.items()}
    ordered = sorted(estimates, key=lambda name: estimates[name].value, reverse=True)
    return [
        Line(
            algorithm=name,
            iqm=estimates[name],
            behind=None if name == ordered[0] else difference_on(ranking, scored[ordered[0]], scored[name], env_ids),
            minutes=minutes_of(ranking, name, env_ids),
            failed=sum(run["status"] != "ok" for env_id in env_ids for run in scored[name]["scores"][env_id]),
            again=_again(study, ranking, name, env_ids),
        )
        for name in ordered
    ]


def _again(study: str, ranking: RankingJson, name: str, env_ids: list[str]) -> str:
    part = "" if len(env_ids) == len(ranking["protocol"]["environments"]) else f" --envs {','.join(env_ids)}"
    return f"ppo-variants rank results/{study} --algos {name}{part}"


def difference_text(difference: Estimate) -> str:
    """Return a difference with its interval, and whether the two are separable."""
    return f"{interval_text(difference)}, {'separable' if difference.excludes(0.0) else 'not separable'}"


def minutes_of(ranking: RankingJson, algorithm: str, env_ids: list[str]) -> float | None:
    """Return the median training time of an algorithm's test runs, None where it has none.

    :param ranking: which they are from
    :param algorithm: its name there
    :param env_ids: on which environments
    """
    seconds = [
        run["points"][-1]["seconds"]
        for env_id in env_ids
        for run in ranking["curves"].get(env_id, {}).get(algorithm, [])
        if run["points"]
    ]
    return median(seconds) / 60 if seconds else None


def minutes_text(minutes: float | None) -> str:
    """Return a training time with a digit behind the point, or a dash where there is none."""
    return "-" if minutes is None else f"{minutes:.1f}"


def lines_of(published: Rankings, algorithm_id: str) -> list[dict[str, Any]]:
    """Return what the published rankings say of one algorithm, under all names that it has in them.

    :param published: from :func:`rankings`
    :param algorithm_id: of the registry
    """
    return [
        {
            "study": study,
            "name": line["algorithm"],
            "tuned": "yes" if ranking["protocol"]["budget"]["trials"] else "no",
            "rank": line["rank"],
            "of": len(ranking["ranking"]),
            "iqm": interval_text(iqm_on(ranking, line, ranking["environments"])),
            "against_trpo": _against_trpo(line),
        }
        for study, ranking in published.items()
        for line in ranking["ranking"]
        if configuration_in(ranking["protocol"], line["algorithm"])["algorithm"] == algorithm_id
    ]


def _against_trpo(line: Mapping[str, Any]) -> str:
    difference = line["difference_from_trpo"]
    if difference is None:
        return "not compared"
    if not line["separable_from_trpo"]:
        return "not separable"
    return "yes" if difference["value"] > 0 else "no, worse"
