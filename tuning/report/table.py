"""The ranking as a table on the terminal."""

from rich.console import Console
from rich.table import Table

from ..ranking.results import Ranking
from ..ranking.wording import TABLE_HEADER, table_row


def show(ranking: Ranking, console: Console) -> None:
    """Print the ranking as a table, then what must be said with it.

    :param ranking: of a finished study
    :param console: where to
    """
    table = Table(title=f"Ranking: {ranking.protocol['study']}", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in TABLE_HEADER:
        table.add_column(name, no_wrap=True)
    for line in ranking.lines:
        # A value above its interval: seven columns then fit a terminal of 80.
        table.add_row(*(cell.replace(" [", "\n[") for cell in table_row(line)))
    if ranking.lines:
        console.print(table)
    for text in (ranking.verdict, *ranking.warnings):
        console.print(text, highlight=False, markup=False)
