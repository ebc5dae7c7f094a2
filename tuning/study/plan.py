"""What a study will run and what that will cost, said before it starts."""

from dataclasses import dataclass

import gymnasium
from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table

from .configurations import described, is_own
from .costs import SPEEDS, Speed
from .rules import CANDIDATES
from .study_file import Study


@dataclass(frozen=True)
class PlannedEnvironment:
    """Runs on one environment, of all algorithms together; as many as there may be, since pruning only spares some.

    :param env_id: environment id
    :param steps: training steps of a run
    :param tuning: runs that score trials
    :param validation: runs that choose among the best of them
    :param one_for_all: runs of the configurations that are tried on all environments
    :param test: runs that are reported
    :param seconds: estimated time on one core; None where no speed was measured
    """

    env_id: str
    steps: int
    tuning: int
    validation: int
    one_for_all: int
    test: int
    seconds: float | None

    @property
    def runs(self) -> int:
        """Runs in all."""
        return self.tuning + self.validation + self.one_for_all + self.test


def plan(study: Study) -> list[PlannedEnvironment]:
    """What ``study`` will run at most, by environment.

    The time is the number of steps over the speed that was measured on one core with a typical configuration
    (:data:`~.costs.SPEEDS`), plus evaluation episodes that all last as long as they may. A configuration can be
    several times faster or slower than that, and so can another machine.

    :param study: a checked study
    """
    budget, n = study.budget, len(study.environments)
    tuning = budget.trials * budget.tuning_seeds
    validation = min(CANDIDATES, budget.trials) * budget.validation_seeds if budget.trials > 1 else 0
    together = (n + 1) * budget.validation_seeds + budget.test_seeds if study.seeks_one_for_all else 0
    checkpoints = study.evaluation.checkpoints
    evaluations = tuning + validation + budget.test_seeds * checkpoints
    if together:
        evaluations += together + budget.test_seeds * (checkpoints - 1)
    factor = len(study.algorithms)
    return [
        PlannedEnvironment(
            env_id=env_id,
            steps=environment.steps,
            tuning=factor * tuning,
            validation=factor * validation,
            one_for_all=factor * together,
            test=factor * budget.test_seeds,
            seconds=_seconds(study, env_id, tuning + validation + together + budget.test_seeds, evaluations),
        )
        for env_id, environment in study.environments.items()
    ]


def _seconds(study: Study, env_id: str, runs: int, evaluations: int) -> float | None:
    """Of all algorithms on one environment, each with so many runs and evaluations."""
    speed = SPEEDS.get(env_id)
    if speed is None:
        return None
    steps = study.environments[env_id].steps
    training = sum(runs * steps / speed.training(each.algorithm) for each in study.algorithms.values())
    return training + len(study.algorithms) * evaluations * _evaluation_seconds(study, env_id, speed)


def _evaluation_seconds(study: Study, env_id: str, speed: Speed) -> float:
    longest = gymnasium.spec(env_id.rpartition(":")[2]).max_episode_steps or 1000
    return study.evaluation.episodes * longest / speed.evaluation


def estimate(study: Study, workers: int) -> str:
    """Runs, steps and time in one line, for the start of a study.

    :param study: a checked study
    :param workers: that will share the work; 1 where their number is not known
    """
    planned = plan(study)
    runs = sum(environment.runs for environment in planned)
    steps = sum(environment.runs * environment.steps for environment in planned)
    unknown = [environment.env_id for environment in planned if environment.seconds is None]
    hours = sum(environment.seconds or 0.0 for environment in planned) / 3600
    text = f"at most {runs:,} runs, {steps:,} steps"
    if len(unknown) == len(planned):
        return f"{text}; no estimate of the time (no speed is known of {', '.join(unknown)})"
    without = f", without {', '.join(unknown)}, of which no speed is known" if unknown else ""
    wall = f", {_time(hours / workers)} on {workers} cores" if workers > 1 else ""
    return f"{text}; about {_time(hours)} of one core{wall}{without}"


def _time(hours: float) -> str:
    minutes = max(1, round(60 * hours))
    if minutes < 60:
        return f"{minutes} minute{'s' if minutes > 1 else ''}"
    return f"{hours:,.1f} hours" if hours < 10 else f"{hours:,.0f} hours"


def show_plan(study: Study, workers: int, console: Console) -> None:
    """Print what a study would run.

    :param study: a checked study
    :param workers: that would share the work
    :param console: where to
    """
    columns = ("environment", "steps a run", "tuning", "validation", "one for all", "test", "core-hours")
    table = Table(box=HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False, title="Runs of all algorithms, at most")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for environment in plan(study):
        numbers = (environment.tuning, environment.validation, environment.one_for_all, environment.test)
        hours = "unknown" if environment.seconds is None else f"{environment.seconds / 3600:,.2f}"
        table.add_row(environment.env_id, f"{environment.steps:,}", *(f"{number:,}" for number in numbers), hours)
    console.print(f"Algorithms: {', '.join(study.algorithms)}", highlight=False)
    for name, configuration in study.algorithms.items():
        if is_own(name, configuration):
            console.print(f"  {name}: {described(configuration.model_dump())}", highlight=False)
    console.print(table)
    budget = study.budget
    console.print(
        f"{budget.trials} trials ({study.sampler}, pruner {study.pruner}); seeds: {budget.tuning_seeds} tuning, "
        f"{budget.validation_seeds} validation, {budget.test_seeds} test.",
        highlight=False,
    )
    console.print(f"In all {estimate(study, workers)}.", highlight=False)
    console.print(
        "Estimated from measured speeds of a typical configuration; the ones that tuning prefers, and other machines, "
        "can be several times faster or slower.",
        highlight=False,
    )
