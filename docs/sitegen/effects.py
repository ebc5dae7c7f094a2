"""What an option changes: a configuration with it beside the same one without, as the committed studies measured it."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sb3_ppo_variants.tuning.ranking.part import difference_on, iqm_on
from sb3_ppo_variants.tuning.ranking.ranking_json import RankingJson, read_ranking
from sb3_ppo_variants.tuning.ranking.wording import interval_text

from sitegen.published import difference_text, minutes_of, minutes_text

MEASURED = Path(__file__).parents[2] / "benchmarks/results"

# Part of a page -> study and what stands there beside what: a configuration without the option, and those with it
_EFFECTS: Mapping[str, tuple[str, Mapping[str, Sequence[str]]]] = {
    "learning.md": ("engines", {"clip_ppo_torch": ["clip_ppo_numpy", "clip_ppo_compiled"]}),
    "effect_critic.md": (
        "options",
        {
            "clip_ppo": ["clip_ppo_own_critic"],
            "trust_region_ppo": ["trust_region_ppo_own_critic", "trust_region_ppo_critic_goes_on"],
        },
    ),
    "effect_fresh.md": ("options", {"clip_ppo": ["clip_ppo_fresh"]}),
    "effect_noise.md": ("options", {"clip_ppo": ["clip_ppo_noise_half", "clip_ppo_noise_one"]}),
    "effect_schedule.md": ("options", {"trust_region_ppo": ["trust_region_ppo_falling_kl"]}),
    "effect_asymmetric.md": ("noisy_sensors", {"measured_for_both": ["truth_for_the_critic"]}),
}


def effect_parts() -> dict[str, "partial[str]"]:
    """Return what makes each part of a page, by the part's file name."""
    return {name: partial(effects, *what) for name, what in _EFFECTS.items()}


def effects(study: str, pairs: Mapping[str, Sequence[str]]) -> str:
    """Return a table in Markdown of what options change.

    :param study: folder of the ranking in ``benchmarks/results``
    :param pairs: a configuration without the option -> those with it
    """
    ranking = read_ranking(MEASURED / study)
    lines = {line["algorithm"]: line for line in ranking["ranking"]}
    rows = [
        _row(ranking, lines[name], lines[base], env_id, steps)
        for env_id, steps in ranking["protocol"]["environments"].items()
        for base, others in pairs.items()
        for name in (base, *others)
    ]
    header = [f"IQM over {ranking['protocol']['budget']['test_seeds']} seeds", "minus the one without", "minutes a run"]
    return "\n".join([*table("environment", ["configuration", *header], rows), ""])


def _row(ranking: RankingJson, line: Mapping[str, Any], base: Mapping[str, Any], env_id: str, steps: int) -> list[str]:
    return [
        f"{env_id}, {steps:,} steps",
        f"`{line['algorithm']}`",
        interval_text(iqm_on(ranking, line, [env_id])),
        "" if line is base else difference_text(difference_on(ranking, line, base, [env_id])),
        minutes_text(minutes_of(ranking, line["algorithm"], [env_id])),
    ]


def table(first: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown, numbers to the right.

    :param first: heading of the first column
    :param header: of the others
    :param rows: cells
    """
    lines = [f"| {' | '.join(row)} |" for row in ([first, *header], *rows)]
    return [lines[0], "|---|" + "---:|" * len(header), *lines[1:], ""]
