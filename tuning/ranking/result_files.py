"""The files that a finished study leaves: ``ranking.json``, ``ranking.csv``, ``ranking.md`` and ``best.yml``."""

from collections.abc import Sequence
from pathlib import Path

from ..decisions.track import Track
from ..runs.files import write_atomically
from .best_yml import best_yml
from .ranking_csv import ranking_csv
from .ranking_json import ranking_json
from .ranking_md import ranking_md
from .results import Ranking


def write_results(folder: Path, ranking: Ranking, tracks: Sequence[Track]) -> None:
    """Write ``ranking.json``, ``ranking.csv``, ``ranking.md`` and ``best.yml``.

    :param folder: of the study
    :param ranking: the finished ranking
    :param tracks: what it was made from
    :raises OSError: the file system refused; each file is then the old or the new one
    """
    write_atomically(folder / "best.yml", best_yml(ranking.protocol, tracks))
    write_atomically(folder / "ranking.csv", ranking_csv(ranking))
    write_atomically(folder / "ranking.md", ranking_md(ranking))
    write_atomically(folder / "ranking.json", ranking_json(ranking))
