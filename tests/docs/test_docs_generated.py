"""Pages that follow from the code: the same headings on each, nothing of a docstring lost, true pictures."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
from sb3_ppo_variants.tuning.study.configurations import Configuration
from sb3_ppo_variants.tuning.study.study_file import Budget, EnvironmentBudget, EvaluationBudget, Study
from sitegen import docstrings, effects, engines, facts, pictures, published, study_keys, usable, variant_pages

from sb3_ppo_variants import SPO, ClipPPO, KLPenaltyPPO, TrulyPPO
from sb3_ppo_variants.registry import VARIANTS

HEADINGS = [
    "What differs from PPO",
    "Where paper and code disagree",
    "Can I use it?",
    "Example",
    "Parameters",
    "What it logs, and how to read it",
    "Results",
    "When not to use it",
    "Citation",
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every page of a variant, by id, when nothing is published; spaces are tried in a test of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usable, "action_rows", lambda variant: [])
        patch.setattr(usable, "observations", lambda variant: [])
        found = variant_pages.variant_pages(tmp_path_factory.mktemp("nothing"))
    return {name.removesuffix(".rst"): text for name, text in found.items() if name != "index.rst"}


def test_every_variant_has_a_page_with_the_same_headings(pages: dict[str, str]) -> None:
    assert pages.keys() == VARIANTS.keys()
    for text in pages.values():
        assert re.findall(r"^(.+)\n-{4,}$", text, flags=re.M) == HEADINGS


def test_nothing_of_a_docstring_is_lost(pages: dict[str, str]) -> None:
    for name, variant in VARIANTS.items():
        page = " ".join(pages[name].split())
        paragraphs = re.split(r"\n\s*\n", inspect.getdoc(variant.cls) or "")
        for paragraph in (text for text in paragraphs if not text.startswith(":")):
            assert " ".join(paragraph.split()) in page, (name, paragraph)
        assert docstrings.split(variant.cls).parameters.keys() == variant.own_parameters.keys()


def test_every_own_parameter_has_default_range_meaning_and_advice(pages: dict[str, str]) -> None:
    data = variant_pages.variants_data()
    for name, variant in VARIANTS.items():
        assert data[name]["tune"].keys() == variant.own_parameters.keys()
        for parameter, default in variant.own_parameters.items():
            assert f"``{parameter}`` = ``{default!r}``" in pages[name]
    assert "Tuning searches [0.003, 0.05] log." in pages["trust_region_ppo"]


def test_an_unpublished_ranking_is_called_that(pages: dict[str, str], tmp_path: Path) -> None:
    assert all("No ranking is published yet" in text for text in pages.values())
    assert "recommends nothing" in variant_pages.choose_part(tmp_path / "results")


def test_where_a_variant_can_be_used_is_found_by_trying() -> None:
    clip = {row[0]: row[1:] for row in usable.action_rows(VARIANTS["clip_ppo"])}
    assert clip["``Box``"] == ("yes", "no", "yes", "no", "yes")
    assert clip["``Discrete``"] == ("yes", "yes", "yes", "yes", "yes")
    rpo = {row[0]: row[1:] for row in usable.action_rows(VARIANTS["rpo"])}
    assert rpo["``Discrete``"] == ("no", "no", "no", "no", "no")
    assert rpo["``Box``"] == ("yes", "no", "yes", "no", "yes")


def at(ratio: float) -> int:
    return int(np.argmin(abs(pictures.RATIOS - ratio)))


def test_the_drawn_slopes_are_those_of_the_objectives() -> None:
    clip = pictures.model_of(ClipPPO)
    good, bad = pictures.curve(clip, 1.0), pictures.curve(clip, -1.0)
    assert good.slope[at(1.1)] == pytest.approx(1.0)
    assert good.slope[at(1.3)] == 0.0
    assert bad.slope[at(0.7)] == 0.0
    assert bad.slope[at(0.9)] == pytest.approx(-1.0)
    assert good.objective[at(2.0)] == pytest.approx(1.2)

    spo = pictures.curve(pictures.model_of(SPO), 1.0)
    assert spo.slope[at(1.2)] == pytest.approx(0.0, abs=1e-9)
    assert spo.slope[at(1.4)] == pytest.approx(-1.0)


def test_the_penalty_is_in_the_picture() -> None:
    weak, strong = (pictures.curve(pictures.model_of(KLPenaltyPPO, kl_coef=coef), 1.0) for coef in (0.1, 10.0))
    assert weak.slope[at(1.0)] == pytest.approx(strong.slope[at(1.0)])
    assert strong.slope[at(1.8)] < weak.slope[at(1.8)] - 1
    assert pictures.curve(pictures.model_of(TrulyPPO), 1.0).slope[at(2.0)] < 0


def test_a_picture_is_written(tmp_path: Path) -> None:
    pictures.draw_variant(ClipPPO, [{}, {"label": "dual", "dual_clip": 1.6}], tmp_path, "clip")
    first = (tmp_path / "clip.svg").read_bytes()
    pictures.draw_variant(ClipPPO, [{}, {"label": "dual", "dual_clip": 1.6}], tmp_path, "clip")
    assert first.startswith(b"<?xml")
    assert (tmp_path / "clip.svg").read_bytes() == first  # a build that changes nothing writes nothing new


def test_every_key_of_a_study_file_is_explained() -> None:
    page = study_keys.study_keys_part()
    for model, path in (
        (Study, ""),
        (Budget, "budget."),
        (EvaluationBudget, "evaluation."),
        (EnvironmentBudget, "environments.NAME."),
        (Configuration, "algorithms.NAME."),
    ):
        for name in model.model_fields:
            assert f"\n`{path}{name}`\n: " in page, path + name
    assert "default `3`" in page
    assert "`budget.trials`\n: Configurations tried" in page
    assert "**required**" in page


def test_tables_follow_from_their_sources() -> None:
    assert "| `quick` |" in facts.costs_part()
    assert "``critic_epochs`` = ``None``" in facts.options_part()
    assert "`ppo-variants rank`\n: Tune each algorithm" in facts.commands_part()
    assert "| stable_baselines3 |" in facts.versions_part()
    assert "| `gae_lambda` | [0.8, 1] |" in facts.shared_space_part()


def test_speeds_are_those_that_the_benchmark_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads(engines.SPEEDS.read_text("utf-8"))
    cell = record["summary"]["settings"]["cartpole-1"]["compiled"]
    cell |= {"steps_per_second": 123456.7, "peak_rss_mib": 234.5}
    cell["ratio_to"]["sb3"] = {"median": 99.345, "min": 11.0, "max": 113.0}
    record["summary"]["geometric_mean"]["compiled"]["sb3"] = 10.987
    monkeypatch.setattr(engines, "SPEEDS", tmp_path / "throughput.json")
    engines.SPEEDS.write_text(json.dumps(record), "utf-8")
    page = engines.speed_part()
    for text in ("| 123,457 |", "| 234 |", "**99.34** (11.00 to 113.00)", "**10.99**", record["machine"]["cpu"]):
        assert text in page, text
    for setting in record["summary"]["settings"]:
        assert f"| {record['titles'][setting]} |" in page
    sentence = engines.speed_sentence()
    assert "to 99.3 times the steps per second of SB3's PPO (geometric mean 11.0)" in sentence


def test_what_the_engines_learn_is_said_with_intervals_and_a_verdict_for_each_environment() -> None:
    page = effects.effect_parts()["learning.md"]()
    rows = [line for line in page.splitlines() if "clip_ppo_" in line]
    assert len(rows) == 2 * 3
    for row in rows:
        is_torch = "clip_ppo_torch" in row
        assert ("separable" in row) is not is_torch
        assert float(row.split("|")[-2]) > 0
        assert row.count("[") == (1 if is_torch else 2), row


def test_environments_are_grouped_by_the_package_that_makes_them() -> None:
    names = ("CartPole-v1", "LunarLander-v3", "Hopper-v5", "no_such:Thing-v0")
    assert [published.family_of(name) for name in names] == [
        "Classic control",
        "Box2D",
        "MuJoCo",
        "Other environments",
    ]
