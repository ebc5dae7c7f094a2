"""What the published study of a robot arm says, for the page that uses it."""

from pathlib import Path

from sitegen import published
from sitegen.effects import table


def arm_part(results: Path) -> str:
    """Return the verdict and the table of the study ``arm``, tuned where that is published, in Markdown.

    :param results: folder of published rankings
    """
    families = {family.study: family for family in published.families(published.rankings(results))}
    family = families.get("arm") or families["arm-registered"]
    ((env_id, steps),) = family.environments.items()
    rows = [[f"`{line.algorithm}`", line.iqm_text, line.behind_text, line.minutes_text] for line in family.lines]
    header = [f"IQM over {family.seeds} seeds", "behind the first by", "minutes a run"]
    how = f"{family.trials} trials of tuning each" if family.trials else "the registered configurations, not tuned"
    said = f"{env_id}, {steps:,} steps, {how}: {family.sentence}"
    power = [f"Power: {family.power}.", ""] if family.power else []
    return "\n".join([said, "", *table("algorithm", header, rows), *power])
