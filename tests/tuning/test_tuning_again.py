"""The command that makes a line of a ranking again."""

from pathlib import Path
from typing import Any

import pytest
from sb3_ppo_variants.tuning.ranking.again import again
from sb3_ppo_variants.tuning.ranking.ranking_json import read_ranking
from sb3_ppo_variants.tuning.study.protocol import protocol_of
from sb3_ppo_variants.tuning.study.study_file import StudyChoices, load_study

CHOICES: dict[str, StudyChoices] = {
    "": {},
    " --envs Acrobot-v1": {"environments": ["Acrobot-v1"]},
    " --no-tune": {"tune": False},
    " --envs Acrobot-v1 --seed 3 --sampler gp --pruner none --no-tune": {
        "environments": ["Acrobot-v1"], "seed": 3, "sampler": "gp", "pruner": "none", "tune": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("options", CHOICES)
def test_it_has_the_options_of_the_study(options: str) -> None:
    study = load_study("standard", **CHOICES[options])
    protocol = protocol_of("standard", study)
    assert again(protocol, "spo", sorted(study.environments)) == f"ppo-variants rank standard --algos spo{options}"


def test_a_study_without_tuning_needs_no_word_about_it() -> None:
    protocol = protocol_of("critic", load_study("critic", environments=["Hopper-v5"]))
    command = again(protocol, "clip_ppo_own_critic", ["Hopper-v5"])
    assert command == "ppo-variants rank critic --algos clip_ppo_own_critic --envs Hopper-v5"


def test_ranking_md_has_it_in_every_line(finished_study: Path) -> None:
    text = (finished_study / "ranking.md").read_text()
    lines: list[dict[str, Any]] = read_ranking(finished_study)["ranking"]
    assert len(lines) == 3
    for line in lines:
        assert f"| `ppo-variants rank made_up.yml --algos {line['algorithm']}` |\n" in text
