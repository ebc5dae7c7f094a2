"""Ranking and files: the fields users and later commands rely on."""

import csv
import io
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from sb3_ppo_variants.tuning.ranking import statistics
from sb3_ppo_variants.tuning.ranking.best_yml import best_yml
from sb3_ppo_variants.tuning.ranking.make_ranking import make_ranking
from sb3_ppo_variants.tuning.ranking.ranking_csv import ranking_csv
from sb3_ppo_variants.tuning.ranking.ranking_md import ranking_md
from sb3_ppo_variants.tuning.ranking.result_files import write_results
from sb3_ppo_variants.tuning.ranking.results import Ranking
from sb3_ppo_variants.tuning.ranking.wording import interval_text
from sb3_ppo_variants.tuning.report.page import write_report
from sb3_ppo_variants.tuning.runs.cell import Cell, CellResult, canonical_json, failed_result
from sb3_ppo_variants.tuning.study.protocol import pin_protocol, protocol_of, study_seeds
from sb3_ppo_variants.tuning.study.scales import FLOOR
from sb3_ppo_variants.tuning.study.study_file import Study
from tuning_helpers import coordinate, finished, study

from sb3_ppo_variants.experiment import Experiment, registered_entry

LEVELS = {"ppo": 0.2, "trpo": 0.6, "clip_ppo": 0.2, "kl_stop_ppo": 1.0}


def three_seeds(**changes: Any) -> Study:
    content = study(trials=2, tuning_seeds=1, test_seeds=3).model_dump()
    return Study.model_validate({**content, "algorithms": list(LEVELS), **changes})


def untuned(**changes: Any) -> Study:
    """Registered configurations alone, where what was tuned does not matter."""
    return three_seeds(budget={**three_seeds().budget.model_dump(), "trials": 0}, **changes)


def run(cell: Cell) -> CellResult:
    """Scores that follow from the algorithm and, within it, from the position of the seed."""
    level = LEVELS[cell.algorithm]
    score = 22.6 + level * (475 - 22.6) + cell.seed % 7
    if cell.algorithm in ("ppo", "clip_ppo"):
        score = 22.6 + level * (475 - 22.6)
    return finished(score, steps=cell.steps, seconds=2.0)


def make(folder: Path, of: Study, run: Any = run) -> tuple[Ranking, Any]:
    decisions = coordinate(folder, run=run, of=of)
    return make_ranking(decisions, protocol_of("mine", of), of.seed), decisions.tracks


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ranking, Any]:
    return make(tmp_path_factory.mktemp("ranked"), three_seeds())


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of who is ranked, not of the numbers."""
    monkeypatch.setattr(statistics, "RESAMPLES", 100)


def test_algorithms_are_ranked_by_iqm_and_equals_share_a_rank(ranked: tuple[Ranking, Any]) -> None:
    assert [(line.rank, line.algorithm) for line in ranked[0].lines] == [
        (1, "kl_stop_ppo"),
        (2, "trpo"),
        (3, "ppo"),
        (3, "clip_ppo"),
    ]


def test_comparisons_with_trpo_and_ppo(ranked: tuple[Ranking, Any]) -> None:
    lines = {line.algorithm: line for line in ranked[0].lines}
    best, equal = lines["kl_stop_ppo"], lines["clip_ppo"]
    assert best.separable_from_trpo is True
    assert best.probability_of_improvement["trpo"].value == 1.0
    assert best.difference_from_trpo.value == pytest.approx(0.4, abs=0.02)
    assert equal.probability_of_improvement["ppo"].value == 0.5
    assert equal.probability_of_improvement["trpo"].value == 0.0
    trpo = lines["trpo"]
    assert trpo.separable_from_trpo is None
    assert trpo.probability_of_improvement["trpo"] is None
    assert trpo.probability_of_improvement["ppo"].value == 1.0


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize(
    ("levels", "verdict"),
    [
        (LEVELS, r"kl_stop_ppo ranks first \(IQM 1\.0.*\) and is separable from every other algorithm\."),
        ({"trpo": 0.2, "ppo": 0.6}, r"ppo ranks first .* and is separable from trpo\."),
        ({"trpo": 0.2, "ppo": 0.201}, r"(trpo|ppo) ranks first .* and is not separable from (trpo|ppo)\."),
        (
            {"spo": 0.8, "espo": 0.801, "ppo": 0.2, "trpo": 0.3},
            r" and is separable from trpo and ppo, not from (spo|espo)\.",
        ),
        ({"clip_ppo": 0.8, "ppo": 0.8, "trpo": 0.2}, r"clip_ppo and ppo rank first \(IQM 0\.8.*\)\."),
        ({"clip_ppo": 0.8}, r"clip_ppo ranks first \(IQM 0\.8[^)]*\)\."),
    ],
)
def test_the_verdict_says_from_whom_the_first_is_separable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, levels: dict[str, float], verdict: str
) -> None:
    monkeypatch.setitem(globals(), "LEVELS", levels)
    assert re.search(verdict, make(tmp_path, untuned(algorithms=list(levels)))[0].verdict)


@pytest.mark.usefixtures("few_resamples")
def test_of_many_that_are_close_to_the_first_the_baselines_and_the_number_of_the_rest_are_named(tmp_path: Path) -> None:
    algorithms = ["spo", "espo", "clip_ppo", "kl_stop_ppo", "ppo", "trpo"]

    def close(cell: Cell) -> CellResult:
        return finished(300 + cell.seed % 97 + algorithms.index(cell.algorithm), steps=cell.steps)

    ranking, _ = make(tmp_path, untuned(algorithms=algorithms), close)
    assert ranking.lines[0].algorithm == "trpo"
    assert ranking.verdict.endswith("and is not separable from ppo, kl_stop_ppo, clip_ppo and 2 others.")


@pytest.mark.usefixtures("few_resamples")
def test_without_trpo_there_is_nothing_to_be_separable_from(tmp_path: Path) -> None:
    ranking, _ = make(tmp_path, untuned(algorithms=["ppo", "clip_ppo"]))
    for line in ranking.lines:
        assert (line.separable_from_trpo, line.difference_from_trpo) == (None, None)
        assert line.probability_of_improvement["trpo"] is None


def test_ranking_json_has_the_fields_and_the_protocol(ranked: tuple[Ranking, Any], tmp_path: Path) -> None:
    write_results(tmp_path, *ranked)
    content = json.loads((tmp_path / "ranking.json").read_text())
    assert content["schema_version"] == 3
    line = content["ranking"][0]
    assert {
        "rank", "algorithm", "iqm", "ci_low", "ci_high", "mean", "probability_of_improvement", "separable_from_trpo",
        "seconds", "steps_per_second", "trials", "scores",
    } <= set(line)  # fmt: skip
    assert line["ci_low"] <= line["iqm"] <= line["ci_high"]
    assert line["trials"] == {"run": 2, "pruned": 0, "failed": 0}
    assert line["seconds"] == 2.0
    assert line["steps_per_second"] == 10_000.0
    assert set(line["probability_of_improvement"]["trpo"]) == {"value", "ci_low", "ci_high"}
    runs = line["scores"]["CartPole-v1"]
    assert [entry["seed"] for entry in runs] == [seed["training"] for seed in content["protocol"]["seeds"]["test"]]
    protocol = content["protocol"]
    assert protocol["budget"]["test_seeds"] == 3
    assert protocol["environments"] == {"CartPole-v1": 20_000}
    assert protocol["normalisation"]["scales"]["CartPole-v1"]["reference"] == 475
    assert protocol["versions"]["stable-baselines3"]
    assert protocol["search_spaces"]["trpo"]["CartPole-v1"]["target_kl"] == "[0.001, 0.1] log"
    assert protocol["registered_configurations"]["ppo"]["CartPole-v1"] == (
        registered_entry("ppo", "CartPole-v1") | {"n_timesteps": 20_000}
    )


def test_scores_are_normalised_with_the_table_and_kept_raw(ranked: tuple[Ranking, Any]) -> None:
    runs = ranked[0].lines[-1].scores["CartPole-v1"]
    assert [run["normalised"] for run in runs] == pytest.approx([0.2] * 3)
    assert [run["raw"] for run in runs] == pytest.approx([113.08] * 3)


def breaking(*where: tuple[str, str], seeds: int = 99, is_fault: bool = False) -> Any:
    """Runs of which the first test runs of some (algorithm, environment) fail."""
    order = [seed.training for seed in study_seeds(three_seeds()).test]

    def one(cell: Cell) -> CellResult:
        is_test = cell.evaluation.checkpoints > 1
        if (cell.algorithm, cell.environment) in where and is_test and order.index(cell.seed) < seeds:
            return failed_result("ValueError: no good (its/file.py:7)", is_fault=is_fault)
        return run(cell)

    return one


PAIR = {"algorithms": ["ppo", "trpo"]}
TWO = {"environments": {"CartPole-v1": {"steps": 20_000}, "Acrobot-v1": {"steps": 20_000}}}


@pytest.mark.usefixtures("few_resamples")
def test_a_failed_run_beside_finished_ones_counts_with_the_floor_and_is_told(tmp_path: Path) -> None:
    ranking, tracks = make(tmp_path, untuned(**PAIR), breaking(("ppo", "CartPole-v1"), seeds=2))
    ppo = ranking.lines[-1]
    assert (ppo.algorithm, ppo.iqm.value, ppo.failed_test_runs) == ("ppo", pytest.approx((2 * FLOOR + 0.2) / 3), 2)
    assert "2 test runs of ppo failed and count with the floor." in ranking.warnings
    assert (ranking.not_run, ranking.unranked) == ([], [])
    assert "failed: ValueError: no good (its/file.py:7)" in ranking_md(ranking)
    write_results(tmp_path, ranking, tracks)
    json.loads((tmp_path / "ranking.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.usefixtures("few_resamples")
def test_an_algorithm_of_which_no_test_run_finished_is_not_ranked_but_named(tmp_path: Path) -> None:
    ranking, tracks = make(tmp_path, three_seeds(**PAIR), breaking(("ppo", "CartPole-v1")))
    assert [line.algorithm for line in ranking.lines] == ["trpo"]
    assert ranking.verdict.startswith("trpo ranks first")
    assert ranking.verdict.endswith("Not ranked: ppo.")
    assert [tested.algorithm for tested in ranking.unranked] == ["ppo"]
    told = "Not run: ppo on CartPole-v1, all 3 test runs failed: ValueError: no good (its/file.py:7)"
    assert told in ranking.warnings
    assert not any("floor" in warning for warning in ranking.warnings)
    assert ranking.lines[0].probability_of_improvement["ppo"] is None
    write_results(tmp_path, ranking, tracks)
    (record,) = json.loads((tmp_path / "ranking.json").read_text())["not_run"]
    assert record == {
        "algorithm": "ppo", "environment": "CartPole-v1", "stage": "test", "runs": 3, "failed": 3, "faults": 0,
        "error": "ValueError: no good (its/file.py:7)",
    }  # fmt: skip
    assert told in ranking_md(ranking)
    assert "| ppo | failed: ValueError" in ranking_md(ranking)
    rows = list(csv.DictReader(io.StringIO(ranking_csv(ranking))))
    assert [(row["algorithm"], row["rank"], row["not_run"]) for row in rows] == [("trpo", "1", ""), ("ppo", "", told)]
    assert "test: all runs failed" in best_yml(ranking.protocol, tracks)


@pytest.mark.usefixtures("few_resamples")
def test_a_fault_of_this_package_is_no_low_score(tmp_path: Path) -> None:
    """One of three runs: the others would be ranked with a floor that the algorithm did not earn."""
    ranking, _ = make(tmp_path, untuned(**PAIR), breaking(("ppo", "CartPole-v1"), seeds=1, is_fault=True))
    assert [line.algorithm for line in ranking.lines] == ["trpo"]
    fault = "1 of 3 test runs failed by what looks like a fault of sb3_ppo_variants: ValueError: no good"
    assert any(f"Not run: ppo on CartPole-v1, {fault}" in warning for warning in ranking.warnings)


@pytest.mark.usefixtures("few_resamples")
def test_a_fault_of_this_package_that_tuning_met_is_told(tmp_path: Path) -> None:
    def faulty(cell: Cell) -> CellResult:
        broken = cell.algorithm == "ppo" and cell.evaluation.checkpoints == 1
        return failed_result("TypeError: oh (its/file.py:7)", is_fault=True) if broken else run(cell)

    ranking, _ = make(tmp_path, three_seeds(**PAIR), faulty)
    assert [line.algorithm for line in ranking.lines] == ["trpo", "ppo"]
    told = r"4 runs that chose the configuration of ppo failed by what looks like a fault .*: TypeError: oh \(its/file"
    assert any(re.search(told, warning) for warning in ranking.warnings)


@pytest.mark.usefixtures("few_resamples")
def test_nothing_is_ranked_where_nothing_finished(tmp_path: Path) -> None:
    where = [("ppo", "CartPole-v1"), ("trpo", "CartPole-v1")]
    ranking, tracks = make(tmp_path, untuned(**PAIR), breaking(*where))
    assert (ranking.lines, ranking.environments, ranking.not_separable_from_first) == ([], [], [])
    assert ranking.verdict == "No algorithm is ranked: no test run finished."
    write_results(tmp_path, ranking, tracks)
    assert [row["algorithm"] for row in csv.DictReader((tmp_path / "ranking.csv").open())] == ["ppo", "trpo"]
    page = write_report(tmp_path).read_text()
    assert "No algorithm is ranked: no test run finished." in page
    assert "its/file.py:7" in page


@pytest.mark.usefixtures("few_resamples")
def test_who_has_not_run_on_one_environment_is_not_ranked_on_all(tmp_path: Path) -> None:
    ranking, _ = make(tmp_path, three_seeds(**PAIR, **TWO), breaking(("ppo", "Acrobot-v1")))
    assert [line.algorithm for line in ranking.lines] == ["trpo"]
    assert ranking.environments == ["CartPole-v1", "Acrobot-v1"]
    assert [run["status"] for run in ranking.unranked[0].scores["CartPole-v1"]] == ["ok"] * 3
    assert [line.algorithm for line in ranking.one_for_all] == ["trpo"]


@pytest.mark.usefixtures("few_resamples")
def test_an_environment_on_which_nobody_has_run_counts_for_none(tmp_path: Path) -> None:
    where = [("ppo", "Acrobot-v1"), ("trpo", "Acrobot-v1")]
    ranking, tracks = make(tmp_path, untuned(**PAIR, **TWO), breaking(*where))
    (tmp_path / "alone").mkdir()
    alone, _ = make(tmp_path / "alone", untuned(**PAIR))
    assert ranking.environments == ["CartPole-v1"]
    assert [(line.algorithm, line.iqm) for line in ranking.lines] == [
        (line.algorithm, line.iqm) for line in alone.lines
    ]
    assert not any("floor" in warning for warning in ranking.warnings)
    assert ranking.equal_seconds["Acrobot-v1"] is None
    write_results(tmp_path, ranking, tracks)
    assert "Acrobot-v1 counts for no algorithm" in write_report(tmp_path).read_text()


@pytest.mark.usefixtures("few_resamples")
def test_each_may_have_run_somewhere_and_nobody_everywhere(tmp_path: Path) -> None:
    where = [("ppo", "Acrobot-v1"), ("trpo", "CartPole-v1")]
    ranking, _ = make(tmp_path, untuned(**PAIR, **TWO), breaking(*where))
    assert ranking.verdict == "No algorithm is ranked: no algorithm has run on every environment."


@pytest.mark.usefixtures("few_resamples")
def test_a_configuration_for_all_that_does_not_run_is_missing_in_that_view_alone(tmp_path: Path) -> None:
    winner: list[str] = []

    def picky(cell: Cell) -> CellResult:
        """On Acrobot only the configuration that is tested first runs: the one that was tuned for it."""
        entry = canonical_json(cell.entry)
        if (cell.algorithm, cell.environment) == ("ppo", "Acrobot-v1") and cell.evaluation.checkpoints > 1:
            winner[:] = winner or [entry]
            if entry not in winner:
                return failed_result("ValueError: no good (its/file.py:7)")
        return finished(-100 * random.Random(entry + cell.environment).random(), steps=cell.steps)  # noqa: S311

    ranking, _ = make(tmp_path, three_seeds(**PAIR, **TWO), picky)
    assert {line.algorithm for line in ranking.lines} == {"ppo", "trpo"}
    assert [line.algorithm for line in ranking.one_for_all] == ["trpo"]
    assert [record.stage for record in ranking.not_run] == ["one for all: test"]
    assert any("with one configuration for all environments, all 3 test" in warning for warning in ranking.warnings)


@pytest.mark.usefixtures("few_resamples")
def test_who_was_left_out_is_told(tmp_path: Path) -> None:
    of = untuned(**PAIR)
    decisions = coordinate(tmp_path, run=run, of=of)
    ranking = make_ranking(
        decisions, protocol_of("mine", of), of.seed, {"rpo": "cannot run on CartPole-v1: no Gaussian"}
    )
    assert "Left out: rpo cannot run on CartPole-v1: no Gaussian" in ranking.warnings
    write_results(tmp_path, ranking, decisions.tracks)
    page = write_report(tmp_path).read_text()
    assert "rpo was left out, it cannot run on CartPole-v1: no Gaussian" in page


@pytest.mark.usefixtures("few_resamples")
def test_fewer_than_ten_test_seeds_are_warned_about(ranked: tuple[Ranking, Any], tmp_path: Path) -> None:
    assert ranked[0].warnings[0].startswith("Only 3 test seeds: the intervals are too narrow")
    assert "Only 3 test seeds" in ranking_md(ranked[0])
    ten = three_seeds(algorithms=["ppo"], budget={**three_seeds().budget.model_dump(), "trials": 0, "test_seeds": 10})
    assert make(tmp_path, ten)[0].warnings == []


def test_one_test_seed_is_ranked_without_intervals(tmp_path: Path) -> None:
    one = three_seeds(algorithms=["ppo", "trpo"], budget={**three_seeds().budget.model_dump(), "test_seeds": 1})
    ranking, tracks = make(tmp_path, one)
    write_results(tmp_path, ranking, tracks)
    line = json.loads((tmp_path / "ranking.json").read_text())["ranking"][0]
    assert (line["algorithm"], line["ci_low"], line["ci_high"]) == ("trpo", None, None)
    assert ranking.lines[1].separable_from_trpo is False


def test_best_yml_holds_valid_entries_with_their_origin(ranked: tuple[Ranking, Any]) -> None:
    text = best_yml(ranked[0].protocol, ranked[1])
    entries = yaml.safe_load(text)
    assert set(entries) == set(LEVELS)
    for algorithm, environments in entries.items():
        for env_id, entry in environments.items():
            Experiment(algorithm, env_id, entry)
            assert entry["n_timesteps"] == 20_000
    for track in ranked[1]:
        assert entries[track.pair.algorithm][track.pair.env_id] == track.winner.entry
    assert (
        "# the registered configuration; runs of 20000 steps\n  # tuning: normalised score 0.200 over 1 seeds" in text
    )
    assert "# validation: normalised score 0.200 over 1 seeds" in text
    assert "# test: mean return 113.08 over 3 seeds" in text
    assert "stable-baselines3 2" in text


def test_ranking_csv_is_one_row_per_algorithm_with_every_seed(ranked: tuple[Ranking, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(ranking_csv(ranked[0]))))
    assert [row["algorithm"] for row in rows] == ["kl_stop_ppo", "trpo", "ppo", "clip_ppo"]
    seeds = [name for name in rows[0] if name.startswith("CartPole-v1 seed ")]
    assert len(seeds) == 3
    assert float(rows[2][seeds[0]]) == pytest.approx(113.08)
    assert rows[1]["improvement_over_trpo"] == ""


def test_ranking_md_is_a_table_people_can_read(ranked: tuple[Ranking, Any]) -> None:
    text = ranking_md(ranked[0])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows[:6]} == {18}
    assert rows[2].startswith("| 1 | kl_stop_ppo | 1.0")
    assert "## Protocol" in text


def test_a_folder_keeps_to_one_protocol(tmp_path: Path) -> None:
    first = protocol_of("mine", three_seeds())
    pin_protocol(tmp_path, first)
    pin_protocol(tmp_path, first)
    budget = {**three_seeds().budget.model_dump(), "trials": 9}
    with pytest.raises(ValueError, match=r"another protocol \(budget.trials: 2 then, 9 now\): give another --out"):
        pin_protocol(tmp_path, protocol_of("mine", three_seeds(budget=budget)))
    with pytest.raises(ValueError, match=r"algorithms: \['ppo', 'trpo'.* then, \['ppo'\] now"):
        pin_protocol(tmp_path, protocol_of("mine", three_seeds(algorithms=["ppo"])))
    with pytest.raises(ValueError, match=r"\(seed: 0 then, 1 now\)"):
        pin_protocol(tmp_path, protocol_of("mine", three_seeds(seed=1)))
    newer = {**first, "versions": {**first["versions"], "torch": "9.9"}}
    with pytest.raises(ValueError, match=r"versions.torch: .* then, 9.9 now"):
        pin_protocol(tmp_path, newer)


def test_a_protocol_that_cannot_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "protocol.json").write_text("{")
    with pytest.raises(ValueError, match=r"protocol.json is not readable"):
        pin_protocol(tmp_path, protocol_of("mine", three_seeds()))


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (None, "-"),
        (statistics.Estimate(0.125, None, None), "0.12"),
        (statistics.Estimate(-0.004, -0.006, -0.001), "0.00 [-0.01, 0.00]"),
        (statistics.Estimate(-0.25, -1.0, 0.0049), "-0.25 [-1.00, 0.00]"),
    ],
)
def test_intervals_are_written_with_two_digits_and_no_negative_zero(
    estimate: statistics.Estimate | None, text: str
) -> None:
    assert interval_text(estimate) == text
