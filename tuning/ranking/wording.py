"""A ranking in words: the verdict, the warnings, and the cells of its table."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..study.configurations import with_hyperparameters
from ..study.extension import growth_text
from .results import REFERENCES, NotRun, Ranked
from .statistics import COVERAGE, FEW_SEEDS, Estimate


def verdict(lines: Sequence[Ranked], close: Sequence[str], not_run: Sequence[NotRun], env_ids: Sequence[str]) -> str:
    """The outcome in a sentence or two.

    :param lines: best first
    :param close: algorithms of lower ranks that are not separable from the first
    :param not_run: who has no score where
    :param env_ids: environments that count
    """
    if not lines:
        nothing = not env_ids and all(record.failed == record.runs for record in not_run)
        reason = "no test run finished" if nothing else "no algorithm has run on every environment"
        return f"No algorithm is ranked: {reason}."
    ranked = {line.algorithm for line in lines}
    missing = list(dict.fromkeys(record.algorithm for record in not_run if record.algorithm not in ranked))
    rest = f" Not ranked: {_listed(missing)}." if missing else ""
    return _order(lines, close) + rest


def _order(lines: Sequence[Ranked], close: Sequence[str]) -> str:
    first = [line for line in lines if line.rank == 1]
    others = [line.algorithm for line in lines if line.rank > 1]
    names = " and ".join(line.algorithm for line in first)
    head = f"{names} {'ranks' if len(first) == 1 else 'rank'} first (IQM {interval_text(first[0].iqm)})"
    if len(first) > 1 or not others:
        return f"{head}."
    if not close:
        return f"{head} and is separable from {_listed(others) if len(others) < 3 else 'every other algorithm'}."
    apart = [name for name in REFERENCES if name in others and name not in close]
    if apart:
        return f"{head} and is separable from {_listed(apart)}, not from {_listed(close)}."
    return f"{head} and is not separable from {_listed(close)}."


def _listed(names: Sequence[str]) -> str:
    """``trpo, ppo and espo``: the baselines first; of more than four, three and the number of the rest."""
    shown = sorted(names, key=lambda name: name not in REFERENCES)
    if len(shown) > 4:
        shown = [*shown[:3], f"{len(shown) - 3} others"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def warnings(protocol: Mapping[str, Any], lines: Sequence[Ranked], env_ids: Sequence[str]) -> list[str]:
    """What a reader must know before quoting a number.

    :param protocol: of the study
    :param lines: of the ranking
    :param env_ids: environments that count
    """
    found = []
    seeds = protocol["budget"]["test_seeds"]
    if seeds < FEW_SEEDS:
        found.append(f"Only {seeds} test seeds: the intervals are too narrow ({COVERAGE}).")
    found += [f"Extended after it was begun: {growth_text(extension)}." for extension in protocol.get("extensions", [])]
    for line in lines:
        number = sum(run["status"] == "failed" for env_id in env_ids for run in line.scores[env_id])
        if not number:
            continue
        fate = "run of {} failed and counts" if number == 1 else "runs of {} failed and count"
        found.append(f"{number} test {fate.format(line.algorithm)} with the floor.")
    return found


def shortcomings(
    not_run: Sequence[NotRun], failures: Sequence[Mapping[str, Any]], left_out: Mapping[str, str]
) -> list[str]:
    """What is missing in a ranking, and why.

    :param not_run: who has no score where
    :param failures: every failed run
    :param left_out: algorithm -> why it was left out of the study
    """
    found = [not_run_text(record) for record in not_run]
    found += [f"Left out: {algorithm} {reason}" for algorithm, reason in left_out.items()]
    misled: dict[str, list[Mapping[str, Any]]] = {}
    for failure in failures:
        if failure["is_fault"] and "test" not in failure["stage"]:
            misled.setdefault(failure["algorithm"], []).append(failure)
    for algorithm, own in misled.items():
        found.append(
            f"{len(own)} run{'s' if len(own) > 1 else ''} that chose the configuration of {algorithm} failed by what "
            f"looks like a fault of sb3_ppo_variants, so a worse one may be ranked: {own[0]['reason']}"
        )
    return found


def not_run_text(record: NotRun) -> str:
    """``Not run: rpo on CartPole-v1, all 10 test runs failed: ...``."""
    view = " with one configuration for all environments" if record.stage != "test" else ""
    if record.faults:
        number = f"{record.faults} of {record.runs} test runs failed by what looks like a fault of sb3_ppo_variants"
    else:
        number = f"all {record.runs} test runs failed" if record.runs > 1 else "its test run failed"
    return f"Not run: {record.algorithm} on {record.environment}{view}, {number}: {record.error}"


def interval_text(estimate: Estimate | None) -> str:
    """``0.81 [0.77, 0.85]``, the value alone where there is no interval, or a dash."""
    if estimate is None:
        return "-"
    low, high = estimate.ci_low, estimate.ci_high
    interval = "" if low is None or high is None else f" [{_two_digits(low)}, {_two_digits(high)}]"
    return f"{_two_digits(estimate.value)}{interval}"


def _two_digits(number: float) -> str:
    return f"{round(number, 2) + 0.0:.2f}"  # -0.0 + 0.0 is 0.0: nobody asks which side of zero a zero lies on


def origin_text(trial: int, trials: int, fixed: Mapping[str, Any]) -> str:
    """``trial 3 of 20``, or ``the registered configuration with critic_epochs 20``: where a configuration comes from.

    :param trial: its number; 0 is the registered configuration
    :param trials: of the study
    :param fixed: hyperparameters that the study gives
    """
    return f"trial {trial} of {trials}" if trial else f"the registered configuration{with_hyperparameters(fixed)}"


TABLE_HEADER = ("rank", "algorithm", "IQM", "P > trpo", "P > ppo", "≠ trpo", "steps/s")


def table_row(line: Ranked) -> list[str]:
    """The cells of one line of the terminal's and the report's table."""
    return [
        str(line.rank),
        line.algorithm,
        interval_text(line.iqm),
        *(interval_text(line.probability_of_improvement[name]) for name in REFERENCES),
        {True: "yes", False: "no", None: "-"}[line.separable_from_trpo],
        "-" if line.steps_per_second is None else f"{line.steps_per_second:,.0f}",
    ]
