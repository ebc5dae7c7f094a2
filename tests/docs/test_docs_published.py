"""The decision page says what a published ranking says, and no more."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from finished_study import finished
from sb3_ppo_variants.tuning.ranking import power
from sb3_ppo_variants.tuning.ranking.power import power_text
from sb3_ppo_variants.tuning.ranking.ranking_json import read_ranking
from sb3_ppo_variants.tuning.ranking.statistics import Estimate
from sitegen import arm, published, variant_pages
from typer.testing import CliRunner

from sb3_ppo_variants.cli import app

RESULTS = Path(__file__).resolve().parents[2] / "results"
ALGORITHMS = ("trust_region_ppo", "ppo", "trpo")


@pytest.fixture(scope="module", autouse=True)
def _few_simulations() -> Iterator[None]:
    """What is said is tested here, not the numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(power, "_STUDIES", 10)
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of published rankings with one study, made by the harness from drawn learning curves."""
    folder = tmp_path_factory.mktemp("results")
    environments = {"CartPole-v1": 20_000, "Acrobot-v1": 40_000}
    finished(folder / "classic", name="classic", algorithms=ALGORITHMS, environments=environments,
             failing=("trpo", "Acrobot-v1"), trials=0)  # fmt: skip
    return folder


def test_a_family_is_ranked_by_its_own_environments(results: Path) -> None:
    (family,) = published.families(published.rankings(results))
    ranking = published.rankings(results)["classic"]["ranking"]
    assert (family.name, family.study, family.seeds) == ("Classic control", "classic", 5)
    assert family.environments == {"CartPole-v1": 20_000, "Acrobot-v1": 40_000}
    # All environments are of one family here, so its order and numbers are the ranking's
    assert [line.algorithm for line in family.lines] == [line["algorithm"] for line in ranking]
    assert [line.iqm.value for line in family.lines] == pytest.approx([line["iqm"] for line in ranking])
    assert family.lines[0].behind is None
    assert all(line.behind is not None and line.behind.value >= 0 for line in family.lines[1:])
    assert {line.algorithm: line.failed for line in family.lines} == {"trust_region_ppo": 0, "ppo": 0, "trpo": 1}
    assert all(line.minutes == pytest.approx(1 / 6, abs=0.05) for line in family.lines)


def test_the_sentence_names_whom_the_first_is_not_separable_from(results: Path) -> None:
    (family,) = published.families(published.rankings(results))
    first, second, third = family.lines
    apart, close = Estimate(0.2, 0.1, 0.3), Estimate(0.1, -0.1, 0.3)
    said = replace(family, lines=[first, replace(second, behind=close), replace(third, behind=apart)]).sentence
    assert f"**{first.algorithm}** has the highest IQM" in said
    assert f"**not separable** from {second.algorithm}" in said
    assert third.algorithm not in said
    assert replace(family, lines=[first, replace(second, behind=apart)]).sentence.endswith(
        "separable from every other algorithm."
    )
    assert "ranked alone" in replace(family, lines=[first]).sentence
    # One seed leaves no interval, and so no claim
    unknown = replace(second, behind=Estimate(0.5, None, None))
    assert "not separable" in replace(family, lines=[first, unknown]).sentence


def test_the_page_quotes_it_and_the_variants_page_too(results: Path) -> None:
    page = variant_pages.choose_part(results)
    (family,) = published.families(published.rankings(results))
    assert "No ranking is published" not in page
    assert family.sentence in page
    assert "The registered configurations, 5 test seeds each (too few" in page
    assert "report <" not in page
    assert f"Power of the whole study: {power_text(published.rankings(results)['classic'])}." in page
    (results / "classic/report.html").write_text("<html></html>")
    assert "`the report <reports/classic.html>`__" in variant_pages.choose_part(results)
    assert family.lines[1].behind_text in page
    (row,) = published.lines_of(published.rankings(results), "trust_region_ppo")
    assert (row["study"], row["of"], row["tuned"]) == ("classic", 3, "no")
    assert row["against_trpo"] in ("yes", "no, worse", "not separable")


def test_who_did_not_run_is_named_and_not_ranked(results: Path) -> None:
    ranking = published.rankings(results)["classic"]
    record = {"algorithm": "ppo", "environment": "Acrobot-v1", "stage": "test", "runs": 5, "failed": 5, "faults": 0}
    lines = {line["algorithm"]: line for line in ranking["ranking"]}
    changed = ranking | {
        "ranking": [lines["trust_region_ppo"], lines["trpo"]],
        "unranked": [lines["ppo"]],
        "not_run": [record | {"error": "TypeError in env.py, line 3"}],
    }
    (family,) = published.families({"classic": changed})
    assert {line.algorithm for line in family.lines} == {"trust_region_ppo", "trpo"}
    assert family.not_run == ["Not run: ppo on Acrobot-v1, all 5 test runs failed: TypeError in env.py, line 3"]
    # Elsewhere it ran, and is ranked there
    elsewhere = changed | {"not_run": [record | {"environment": "Hopper-v5", "error": "-"}]}
    (family,) = published.families({"classic": elsewhere})
    assert {line.algorithm for line in family.lines} == {"trust_region_ppo", "trpo", "ppo"}


def test_a_configuration_of_its_own_name_is_found_and_explained(results: Path) -> None:
    ranking = published.rankings(results)["classic"]
    own = {"algorithm": "clip_ppo", "hyperparameters": {"critic_epochs": 20}}
    protocol = ranking["protocol"] | {"configurations": {"trust_region_ppo": own}}
    changed = {"classic": ranking | {"protocol": protocol}}
    (row,) = published.lines_of(changed, "clip_ppo")
    assert row["name"] == "trust_region_ppo"
    assert published.lines_of(changed, "trust_region_ppo") == []
    (family,) = published.families(changed)
    assert "critic_epochs" in family.configurations["trust_region_ppo"]


def test_a_ranking_of_another_release_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/ranking.json").write_text('{"schema_version": 1}')
    with pytest.raises(ValueError, match="schema version 1"):
        published.rankings(tmp_path)


def test_a_row_is_made_again_by_the_command_beside_it(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rankings = published.rankings(results)
    (family,) = published.families(rankings)
    (line,) = [line for line in family.lines if line.algorithm == "trust_region_ppo"]
    assert line.again == "ppo-variants rank results/classic --algos trust_region_ppo"
    assert f"``{line.again}``" in variant_pages.choose_part(results)
    (tmp_path / "results").symlink_to(results)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*line.again.split()[1:], "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "Algorithms: trust_region_ppo" in done.output
    assert "0 trials" in done.output
    monkeypatch.setattr(published, "family_of", lambda env_id: env_id)
    assert {family.lines[0].again.partition(" --envs ")[2] for family in published.families(rankings)} == {
        "CartPole-v1",
        "Acrobot-v1",
    }


def test_the_page_of_the_arm_says_what_its_study_says() -> None:
    text = arm.arm_part(RESULTS)
    tuned = (RESULTS / "arm/ranking.json").exists()
    ranking = read_ranking(RESULTS / ("arm" if tuned else "arm-registered"))
    first = ranking["ranking"][0]
    assert f"**{first['algorithm']}** has the highest IQM, {first['iqm']:.2f} [" in text
    assert ("not tuned" in text) is not tuned
    for line in ranking["ranking"]:
        assert f"| `{line['algorithm']}` | {line['iqm']:.2f} [" in text
