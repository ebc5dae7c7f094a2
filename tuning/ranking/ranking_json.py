"""``ranking.json``: what is written into it, and how the commands that come after ``rank`` read it back."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .results import Ranked, RankedForAll, Ranking

RANKING_SCHEMA = 3

TIME_FIELDS = frozenset({"seconds", "steps_per_second", "score_at_equal_seconds", "equal_seconds"})
"""Keys of ``ranking.json``, at any depth, that depend on how fast the machine was; nothing else does."""

RankingJson = dict[str, Any]
"""The content of ``ranking.json``: plain JSON values."""


def ranking_json(ranking: Ranking) -> str:
    """The text of ``ranking.json``."""
    content = {
        "schema_version": RANKING_SCHEMA,
        "verdict": ranking.verdict,
        "ranking": [_line(line) for line in ranking.lines],
        "environments": ranking.environments,
        "unranked": [asdict(tested) for tested in ranking.unranked],
        "not_run": [asdict(record) for record in ranking.not_run],
        "left_out": ranking.left_out,
        "not_separable_from_first": ranking.not_separable_from_first,
        "warnings": ranking.warnings,
        "one_for_all": None if ranking.one_for_all is None else [_line(line) for line in ranking.one_for_all],
        "performance_profiles": {
            "taus": ranking.taus,
            "algorithms": {algorithm: asdict(profile) for algorithm, profile in ranking.profiles.items()},
        },
        "equal_seconds": ranking.equal_seconds,
        "curves": ranking.curves,
        "failures": ranking.failures,
        "protocol": ranking.protocol,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _line(line: Ranked | RankedForAll) -> dict[str, Any]:
    """The fields of a line, its IQM with the interval beside it."""
    content = asdict(line)
    iqm = content.pop("iqm")
    head = {"algorithm": content["algorithm"], "rank": content["rank"], "iqm": iqm["value"]}
    return {**head, "ci_low": iqm["ci_low"], "ci_high": iqm["ci_high"], **content}


def read_ranking(folder: Path) -> RankingJson:
    """Read the ranking of a finished study.

    :param folder: the study's results
    :raises ValueError: no such folder, no finished study in it, or a file that this version cannot read
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give the folder of a study's results, such as runs/quick")
    path = folder / "ranking.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{folder} has no ranking.json: finish the study first (ppo-variants rank ... --out {folder})"
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} is not readable ({error}): run ppo-variants rank again, it is written anew"
        ) from error
    schema = content.get("schema_version") if isinstance(content, dict) else None
    if schema != RANKING_SCHEMA:
        raise ValueError(
            f"{path} has schema version {schema}, this release reads {RANKING_SCHEMA}: run ppo-variants rank again, "
            "it is written anew from the finished runs"
        )
    ranking: RankingJson = content
    return ranking
