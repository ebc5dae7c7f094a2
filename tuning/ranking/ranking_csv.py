"""``ranking.csv``: a row for each algorithm, for spreadsheets."""

import csv
import io
from typing import Any

from .results import Ranked, Ranking, Tested
from .statistics import Estimate
from .wording import not_run_text


def ranking_csv(ranking: Ranking) -> str:
    """One row for each algorithm, those that are not ranked at the end; the last columns are every test run's score."""
    reasons: dict[str, list[str]] = {}
    for record in ranking.not_run:
        reasons.setdefault(record.algorithm, []).append(not_run_text(record))
    rows = [
        {**row, "not_run": " | ".join(reasons.get(tested.algorithm, [])), **_raw_scores(tested)}
        for tested, row in [
            *((line, _ranked_row(line)) for line in ranking.lines),
            *((tested, _row(tested)) for tested in ranking.unranked),
        ]
    ]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _row(tested: Tested) -> dict[str, Any]:
    row: dict[str, Any] = {"rank": None, "algorithm": tested.algorithm}
    row |= {f"trials_{state}": number for state, number in tested.trials.items()}
    return row | {"failed_test_runs": tested.failed_test_runs}


def _raw_scores(tested: Tested) -> dict[str, Any]:
    return {f"{env_id} seed {run['seed']}": run["raw"] for env_id, runs in tested.scores.items() for run in runs}


def _ranked_row(line: Ranked) -> dict[str, Any]:
    row: dict[str, Any] = {"rank": line.rank, "algorithm": line.algorithm, **_flat("iqm", line.iqm), "mean": line.mean}
    for name, estimate in line.probability_of_improvement.items():
        row |= _flat(f"improvement_over_{name}", estimate)
    row |= _flat("difference_from_trpo", line.difference_from_trpo)
    row |= {"holm_p_value_vs_trpo": line.holm_p_value_vs_trpo, "separable_from_trpo": line.separable_from_trpo}
    row |= _flat("difference_from_ppo", line.difference_from_ppo)
    row |= {"separable_from_ppo": line.separable_from_ppo}
    row |= _flat("area_under_curve", line.area_under_curve)
    row |= _flat("score_at_equal_seconds", line.score_at_equal_seconds)
    row |= {"seconds": line.seconds}
    row |= {"steps_per_second": line.steps_per_second}
    counts = _row(line)
    return row | {name: counts[name] for name in counts if name not in row}


def _flat(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:
        return {name: None, f"{name}_ci_low": None, f"{name}_ci_high": None}
    return {name: estimate.value, f"{name}_ci_low": estimate.ci_low, f"{name}_ci_high": estimate.ci_high}
