"""What the user sees while a study runs: a live table on a terminal, plain lines elsewhere."""

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.box import HORIZONTALS
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..decisions.decisions import Decisions
from ..decisions.request import Request
from ..decisions.track import Track
from ..decisions.trial import Trial
from ..runs.cell import CellResult


class Progress:
    """Counts what is finished and shows it.

    :param decisions: of the study
    :param console: where to show it
    :param log: where the tracebacks of failed runs are
    :param quiet: show only lines that :meth:`note` is given
    """

    def __init__(self, decisions: Decisions, console: Console, log: str, *, quiet: bool = False):
        self.console = console
        self._log = log
        self._quiet = quiet
        self._decisions = decisions
        self.trials_total = len(decisions.tracks) * decisions.study.budget.trials
        self.trials_done = 0
        self.runs_done = 0
        self._ran = 0
        self._failed: dict[str, int] = {}
        self._started = time.monotonic()

    def live(self) -> AbstractContextManager[Any]:
        """Context in which the display is drawn."""
        if not self.console.is_terminal:
            return nullcontext()
        return Live(get_renderable=self._render, console=self.console, refresh_per_second=2, transient=True)

    def note(self, line: str) -> None:
        """Show a line that stays."""
        self.console.print(Text(line))

    def trial_finished(self, track: Track, trial: Trial) -> None:
        """Count a trial."""
        self.trials_done += 1
        best = track.tuning.best
        if best is None:
            return
        outcome = f"scores {trial.value:.3f}" if trial.value is not None else f"is pruned at {trial.reports[-1]:.3f}"
        if not trial.has_finished_run:
            outcome = "has no score, all of its runs failed"
        elif trial.failed:
            outcome += f", {trial.failed_runs} of {len(trial.reports)} runs failed"
        known = (
            f"best so far {best.value:.3f}, trial {best.number}" if best.has_finished_run else "none has finished yet"
        )
        self._plain(f"{track.pair.algorithm} on {track.pair.env_id}: trial {trial.number} {outcome} ({known})")

    def run_finished(self, request: Request, result: CellResult, *, ran: bool) -> None:
        """Count a run."""
        self.runs_done += 1
        self._ran += ran
        pair = request.pair
        if result.status == "failed":
            self._failed[pair.algorithm] = self._failed.get(pair.algorithm, 0) + 1
            if ran:
                by = " by what looks like a fault of sb3_ppo_variants" if result.is_fault else ""
                run = f"{pair.algorithm} on {pair.env_id}, seed {request.cell.seed}"
                self.note(f"{run}: failed{by}: {result.reason}; see {self._log}")
        elif request.stage != "tuning":
            score = pair.normalised(result)
            self._plain(f"{pair.algorithm} on {pair.env_id}: {request.stage} run scores {score:.3f}")

    @property
    def summary(self) -> str:
        """Counts and time left in a few words."""
        total = self._decisions.planned_runs
        trials = f"{self.trials_done}/{self.trials_total} trials, " if self.trials_total else ""
        return f"{trials}{self.runs_done}/{total} runs, {self._left(total)}"

    def _left(self, total: int) -> str:
        if not self._ran:
            return "time left unknown"
        pace = (time.monotonic() - self._started) / self._ran
        minutes, seconds = divmod(round(pace * (total - self.runs_done)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"about {hours}:{minutes:02}:{seconds:02} left"

    def _plain(self, line: str) -> None:
        if not self.console.is_terminal and not self._quiet:
            self.console.print(Text(f"[{self.summary}] {line}"), soft_wrap=True)

    def _render(self) -> RenderableType:
        table = Table("algorithm", "trials", "pruned", "test runs", "best so far", "failed runs", box=HORIZONTALS)
        study = self._decisions.study
        for algorithm in study.algorithms:
            own = [track for track in self._decisions.tracks if track.pair.algorithm == algorithm]
            tunings = [track.tuning for track in own]
            tests = sum(result is not None for track in own for result in track.test_results)
            leaders = [tuning.best for tuning in tunings if tuning.best and tuning.best.has_finished_run]
            best = [leader.value for leader in leaders if leader.value is not None]
            table.add_row(
                algorithm,
                f"{sum(tuning.settled for tuning in tunings)}/{len(own) * study.budget.trials}",
                str(sum(tuning.pruned for tuning in tunings)),
                f"{tests}/{len(own) * study.budget.test_seeds}",
                f"{sum(best) / len(best):.3f}" if best else "",
                str(self._failed.get(algorithm, 0)),
            )
        return Group(table, Text(self.summary))
