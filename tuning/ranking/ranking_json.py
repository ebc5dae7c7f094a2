"""``ranking.json`` of a finished study, read back by the commands that come after ``rank``."""

import json
from pathlib import Path
from typing import Any

from .results import RANKING_SCHEMA

Ranking = dict[str, Any]
"""The content of ``ranking.json``: plain JSON values."""


def read_ranking(folder: Path) -> Ranking:
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
    ranking: Ranking = content
    return ranking
