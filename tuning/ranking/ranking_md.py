"""``ranking.md``: the ranking for people, as a page of Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ..study.configurations import described_in
from .again import again
from .results import Ranked, Ranking
from .wording import TABLE_HEADER, interval_text, table_row


def ranking_md(ranking: Ranking) -> str:
    """The ranking for people: table, warnings, every seed's score, protocol."""
    protocol = ranking.protocol
    header = (*TABLE_HEADER, *_MORE_HEADER, "again")
    env_ids = list(protocol["environments"])
    rows = [
        [*table_row(line), *_more_columns(line), f"`{again(protocol, line.algorithm, env_ids)}`"]
        for line in ranking.lines
    ]
    parts = [f"# Ranking: {protocol['study']}", ranking.verdict, *([_markdown_table(header, rows)] if rows else [])]
    parts += [f"> {warning}" for warning in ranking.warnings]
    configurations = described_in(protocol)
    if configurations:
        parts += ["Configurations of this study:", "\n".join(f"- {line}" for line in configurations)]
    parts.append(
        "Scores are normalised (random policy 0, reference 1). IQM is the interquartile mean over the test runs, in "
        "brackets its 95 % interval (stratified bootstrap). P > trpo is the chance that a run beats one of TRPO, "
        "ties half. ≠ trpo: the interval of the difference of the IQMs excludes 0, the two are separable; p is that "
        "of a permutation test, with Holm's correction. Area: mean score over the training steps. Equal seconds: score "
        "once every algorithm had as much training time as the fastest needs for all steps."
    )
    if ranking.one_for_all is not None and len(protocol["environments"]) > 1:
        rows = [[str(line.rank), line.algorithm, interval_text(line.iqm), line.origin] for line in ranking.one_for_all]
        table = _markdown_table(("rank", "algorithm", "IQM", "configuration"), rows)
        parts += ["## One configuration for all environments", table]
    parts.append("## Every test run (raw mean return)")
    for env_id in protocol["environments"]:
        seeds = ("algorithm", *(str(seed["training"]) for seed in protocol["seeds"]["test"]))
        everybody = [*ranking.lines, *ranking.unranked]
        rows = [[tested.algorithm, *map(_raw, tested.scores[env_id])] for tested in everybody]
        parts += [f"### {env_id}", _markdown_table(seeds, rows)]
    parts += ["## Protocol", "```yaml\n" + yaml.safe_dump(protocol, sort_keys=False) + "```"]
    return "\n\n".join(parts) + "\n"


_MORE_HEADER = (
    "p (trpo)", "mean", "area", "equal seconds", "seconds a run", "trials", "pruned", "failed trials",
    "failed test runs",
)  # fmt: skip


def _more_columns(line: Ranked) -> list[str]:
    p_value = "-" if line.holm_p_value_vs_trpo is None else f"{line.holm_p_value_vs_trpo:.3f}"
    estimates = [interval_text(line.area_under_curve), interval_text(line.score_at_equal_seconds)]
    seconds = "-" if line.seconds is None else f"{line.seconds:.1f}"
    counts = (line.trials["run"], line.trials["pruned"], line.trials["failed"], line.failed_test_runs)
    return [p_value, f"{line.mean:.2f}", *estimates, seconds, *map(str, counts)]


def _raw(run: Mapping[str, Any]) -> str:
    return f"failed: {run['reason']}" if run["raw"] is None else f"{run['raw']:.6g}"


def _markdown_table(header: Sequence[str], rows: Any) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
