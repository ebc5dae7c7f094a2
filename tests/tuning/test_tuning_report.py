"""The report as text: what it says of a study, of half a study, and of no study at all."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from finished_study import REASON, finished
from sb3_ppo_variants.tuning.ranking.ranking_json import read_ranking
from sb3_ppo_variants.tuning.report.checklist import checklist
from sb3_ppo_variants.tuning.report.figures import curve_figure, importance_figure, slice_figure
from sb3_ppo_variants.tuning.report.page import render, write_report
from sb3_ppo_variants.tuning.report.palette import looks
from sb3_ppo_variants.tuning.report.protocol_view import searched_ranges, study_yaml
from sb3_ppo_variants.tuning.report.trials import SearchedParameter, TunedPair
from sb3_ppo_variants.tuning.study.protocol import protocol_of
from sb3_ppo_variants.tuning.study.study_file import load_study
from typer.testing import CliRunner

from sb3_ppo_variants.cli import app
from sb3_ppo_variants.registry import ALGORITHMS


class Page(HTMLParser):
    """What a reader sees (no scripts, no styles), the rows of all tables, and all addresses."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.source = (folder / "report.html").read_text(encoding="utf-8")
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self._hidden = ""
        self._in_cell = False
        self.feed(self.source)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def figures(self) -> dict[str, Any]:
        found = re.search(r'id="figure-data">(.*?)</script>', self.source, re.DOTALL)
        assert found
        content: dict[str, Any] = json.loads(found.group(1))
        return content

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action") and value]
        if tag in ("script", "style"):
            self._hidden = tag
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")
        self._hidden = "" if tag == self._hidden else self._hidden

    def handle_data(self, data: str) -> None:
        if self._hidden:
            return
        self.words.append(data)
        if self._in_cell:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())


def page_of(folder: Path) -> Page:
    write_report(folder)
    return Page(folder)


def change(folder: Path, **content: Any) -> None:
    path = folder / "ranking.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | content))


def test_the_command_writes_one_page_that_says_everything_and_needs_no_network(finished_study: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(finished_study)])
    assert done.exit_code == 0, done.output
    assert done.output.strip() == str(finished_study / "report.html")
    page, ranking = Page(finished_study), read_ranking(finished_study)
    assert ranking["verdict"] in page.text
    assert all(warning in page.text for warning in ranking["warnings"])
    assert "1 test run of trpo failed and counts with the floor." in ranking["warnings"]
    for line in ranking["ranking"]:
        assert f"{line['iqm']:.2f} [{line['ci_low']:.2f}, {line['ci_high']:.2f}]" in page.text
        assert f"{line['area_under_curve']['value']:.2f} [" in page.text
        for env_id, runs in line["scores"].items():
            raw = {run["seed"]: "–" if run["raw"] is None else f"{run['raw']:.6g}" for run in runs}
            rows = [row for row in page.rows if row[:2] == [line["algorithm"], env_id] and len(row) == 6]
            assert {int(row[2]): row[3] for row in rows} == raw
    assert ["trpo", "Acrobot-v1", REASON] in [[*row[:2], row[-1]] for row in page.rows]
    assert "learning_rate" in page.text
    assert all(package in page.text for package in ranking["protocol"]["versions"])
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert page.tags.count("link") == 1, "the icon, which is data"
    assert len(page.source) < 6_000_000


def test_figures_of_every_kind_are_in_the_page(finished_study: Path) -> None:
    content = page_of(finished_study).figures()
    assert set(content["figures"]) == {
        "ranking", "improvement-trpo", "improvement-ppo", "profiles", "ranks", "curve-0", "curve-1",
        "importance-0", "importance-1",
    }  # fmt: skip
    assert [(slice["algorithm"], slice["environment"]) for slice in content["slices"]][:2] == [
        ("clip_ppo", "CartPole-v1"),
        ("clip_ppo", "Acrobot-v1"),
    ]
    for slice in content["slices"]:
        assert all(len(figure["data"][0]["x"]) == 10 for figure in slice["figures"])


def test_the_ring_in_a_slice_is_the_trial_that_was_tested(finished_study: Path) -> None:
    ranking = read_ranking(finished_study)
    content = page_of(finished_study).figures()
    for line in ranking["ranking"]:
        (rates,) = [
            figure
            for slice in content["slices"]
            if (slice["algorithm"], slice["environment"]) == (line["algorithm"], "CartPole-v1")
            for figure in slice["figures"]
            if figure["layout"]["xaxis"]["title"]["text"] == "learning_rate"
        ]
        trials, ring = rates["data"]
        chosen = line["best"]["CartPole-v1"]
        assert ring["x"] == [trials["x"][chosen["trial"]]]
        assert ring["y"] == [chosen["tuning_value"]]


def test_an_importance_from_few_trials_is_called_a_rough_hint(finished_study: Path) -> None:
    ranking = read_ranking(finished_study)
    pair = (ranking["ranking"][0]["algorithm"], "Acrobot-v1")

    def page(trials: int) -> str:
        tuned = TunedPair(
            numbers=list(range(trials)),
            values=[float(number) for number in range(trials)],
            params=[{"rate": number} for number in range(trials)],
            searched=[SearchedParameter("rate", "linear")],
            importances={"rate": 1.0},
        )
        return render(ranking, {pair: tuned})

    assert page(49).count("Fewer than 50 finished trials of an algorithm: a rough hint") == 1
    assert "a rough hint" not in page(50)


def test_intervals_and_percentages_are_never_torn_apart_by_the_end_of_a_line(finished_study: Path) -> None:
    source = page_of(finished_study).source
    shown = re.sub(
        r"<script.*?</script>|<style.*?</style>|<pre.*?</pre>|aria-label=\"[^\"]*\"", "", source, flags=re.DOTALL
    )
    assert not re.search(r"\[-?\d+\.\d\d, -?\d+\.\d\d\]|\d %", shown)
    assert re.search(r"\[-?\d+\.\d+,\N{NO-BREAK SPACE}-?\d", shown)


def test_thousands_of_trials_are_thinned_but_the_chosen_one_is_shown(finished_study: Path) -> None:
    ranking = read_ranking(finished_study)
    best = ranking["ranking"][0]["best"]["CartPole-v1"]
    best["trial"] = 4321
    pair = (ranking["ranking"][0]["algorithm"], "CartPole-v1")
    many = TunedPair(
        numbers=list(range(10_000)),
        values=[number / 10_000 for number in range(10_000)],
        params=[{"rate": number} for number in range(10_000)],
        searched=[SearchedParameter("rate", "linear")],
        importances=None,
    )
    page = render(ranking, {pair: many})
    found = re.search(r'id="figure-data">(.*?)</script>', page, re.DOTALL)
    assert found
    trials, ring = json.loads(found.group(1))["slices"][0]["figures"][0]["data"]
    assert len(trials["x"]) == 296
    assert trials["x"][:2] == [0, 34]
    assert ring["x"] == [4321]
    assert ring["y"] == [0.4321]


def test_names_and_reasons_are_text_and_not_markup(finished_study: Path) -> None:
    ranking = read_ranking(finished_study)
    protocol = ranking["protocol"] | {"study": "a<b>&c"}
    change(finished_study, verdict="<script>alert(1)</script> & so on", warnings=["<img src=x>"], protocol=protocol)
    page = page_of(finished_study)
    assert "<script>alert(1)</script> & so on" in page.text
    assert "a<b>&c" in page.text
    assert REASON in page.text
    assert "img" not in page.tags
    assert "b" not in page.tags
    assert page.tags.count("script") == 3


@pytest.mark.parametrize(("content", "words"), [(None, "has no study.db"), (b"not a database", "cannot be used")])
def test_without_trials_the_report_says_why_and_shows_the_rest(
    finished_study: Path, content: bytes | None, words: str
) -> None:
    (finished_study / "study.db").unlink()
    if content is not None:
        (finished_study / "study.db").write_bytes(content)
    page = page_of(finished_study)
    assert re.search(rf"Importance and slices are not shown: .*{words}", page.text)
    assert {name for name in page.figures()["figures"] if name.startswith("importance")} == set()
    assert read_ranking(finished_study)["verdict"] in page.text


def test_reading_the_trials_leaves_the_database_as_it_is(finished_study: Path) -> None:
    before = (finished_study / "study.db").read_bytes()
    write_report(finished_study)
    assert (finished_study / "study.db").read_bytes() == before
    assert sorted(path.name for path in finished_study.iterdir() if "study.db" in path.name) == ["study.db"]


def test_one_algorithm_with_one_seed_has_numbers_without_intervals(tmp_path: Path) -> None:
    finished(tmp_path, algorithms=("clip_ppo",), environments={"CartPole-v1": 20_000}, test_seeds=1)
    page = page_of(tmp_path)
    figures = page.figures()["figures"]
    assert set(figures) == {"ranking", "profiles", "ranks", "curve-0"}
    assert "trpo was not ranked beside another algorithm" in page.text
    assert "ppo was not ranked beside another algorithm" in page.text
    assert "No The baselines TRPO and PPO were treated like everybody else. Not in this study: trpo, ppo" in page.text
    assert "No At least 10 test seeds" in page.text
    assert "where there are fewer than 10 finished trials: all" in page.text
    (row,) = [row for row in page.rows if row[:2] == ["1", "clip_ppo"]]
    assert re.fullmatch(r"\d\.\d\d", row[2])
    assert len(figures["profiles"]["data"]) == 1, "no band"


def test_a_study_without_tuning_says_so_and_states_no_search(tmp_path: Path) -> None:
    finished(tmp_path, trials=0, test_seeds=2)
    page = page_of(tmp_path)
    assert {name for name in page.figures()["figures"] if "importance" in name} == set()
    assert page.figures()["slices"] == []
    assert "Nothing was tuned: every algorithm ran with its registered configuration" in page.text
    assert "No The configurations were tuned with equal budgets" in page.text
    assert "Not part of this study: it takes tuning and more than one environment" in page.text
    assert "Search space" not in page.text


def test_one_configuration_for_all_stands_beside_tuning_for_each(finished_study: Path) -> None:
    page, ranking = page_of(finished_study), read_ranking(finished_study)
    tuned = {line["algorithm"]: line["iqm"] for line in ranking["ranking"]}
    for line in ranking["one_for_all"]:
        interval = f"{line['iqm']:.2f} [{line['ci_low']:.2f}, {line['ci_high']:.2f}]"
        mean, other = f"{line['mean']:.2f}", f"{tuned[line['algorithm']]:.2f}"
        assert [str(line["rank"]), line["algorithm"], interval, mean, other] in page.rows
        assert f"From {line['origin']}" in page.text


def test_without_trpo_the_report_compares_with_ppo_alone(tmp_path: Path) -> None:
    finished(tmp_path, algorithms=("clip_ppo", "ppo"), environments={"CartPole-v1": 20_000}, test_seeds=3)
    page = page_of(tmp_path)
    assert {name for name in page.figures()["figures"] if "improvement" in name} == {"improvement-ppo"}
    assert "Not in this study: trpo" in page.text


def test_a_single_checkpoint_is_drawn_as_a_point(finished_study: Path) -> None:
    ranking = read_ranking(finished_study)
    runs = [{**run, "points": run["points"][-1:]} for run in ranking["curves"]["CartPole-v1"]["ppo"]]
    figure = curve_figure({"ppo": runs}, {"random": 0.0, "reference": 500.0}, looks(["ppo"]))
    assert [trace["mode"] for trace in figure["data"]] == ["lines", "markers"]


def test_a_learning_curve_is_the_interquartile_mean_of_the_runs_that_have_one() -> None:
    runs = [{"seed": seed, "points": [{"steps": 10, "score": score}]} for seed, score in enumerate((0, 1, 2, 100))]
    figure = curve_figure(
        {"ppo": [*runs, {"seed": 9, "points": []}]}, {"random": 0.0, "reference": 1.0}, looks(["ppo"])
    )
    band, line = figure["data"]
    assert line["x"] == [10]
    assert line["y"] == [1.5]
    assert min(band["y"]) < 1.5 < max(band["y"])


def test_runs_without_a_curve_are_counted_beside_the_figure(finished_study: Path) -> None:
    assert page_of(finished_study).text.count("Failed runs have no curve and are missing here: 1 of trpo") == 1


def test_parameters_stand_in_the_order_of_their_importance() -> None:
    figure = importance_figure({"ppo": {"gamma": 0.1, "rate": 0.6}, "trpo": {"rate": 0.2, "damping": 0.7}})
    (tiles,) = figure["data"]
    assert tiles["y"] == ["rate", "damping", "gamma"]
    assert tiles["z"] == [[0.6, 0.2], [None, 0.7], [0.1, None]]
    assert tiles["text"] == [["60", "20"], ["", "70"], ["10", ""]]


def test_a_logarithmic_axis_of_less_than_a_decade_has_round_numbers() -> None:
    clip = SearchedParameter("clip_range", "log")
    figure = slice_figure(clip, [0.06, 0.1, 0.42], [0.1, 0.2, 0.3], chosen=None, look=looks(["spo"])["spo"])
    assert figure["layout"]["xaxis"]["tickvals"] == pytest.approx([0.05, 0.1, 0.2, 0.5])


def test_values_beside_none_are_categories() -> None:
    figure = slice_figure(
        SearchedParameter("dual_clip", "category"), [None, 3.0], [0.1, 0.2], chosen=None, look=looks(["spo"])["spo"]
    )
    assert figure["data"][0]["x"] == ["None", "3.0"]
    assert figure["layout"]["xaxis"]["type"] == "category"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "has no ranking.json: finish the study first"),
        ("{", "is not readable"),
        ("[]", "has schema version None"),
        ('{"schema_version": 1}', "has schema version 1, this release reads 3"),
    ],
)
def test_a_folder_without_a_usable_ranking_is_refused_with_the_remedy(
    tmp_path: Path, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "ranking.json").write_text(content)
    with pytest.raises(ValueError, match=words) as raised:
        write_report(tmp_path)
    assert "rank" in str(raised.value)
    assert not (tmp_path / "report.html").exists()


def test_a_ranking_that_lacks_something_leaves_the_earlier_report(finished_study: Path) -> None:
    write_report(finished_study)
    before = (finished_study / "report.html").read_bytes()
    ranking = read_ranking(finished_study)
    del ranking["curves"]
    (finished_study / "ranking.json").write_text(json.dumps(ranking))
    with pytest.raises(ValueError, match="lacks 'curves': run ppo-variants rank again"):
        write_report(finished_study)
    assert (finished_study / "report.html").read_bytes() == before


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder; give the folder of a study's results"):
        write_report(tmp_path / "nowhere")


def answers(ranking: dict[str, Any]) -> dict[str, bool]:
    return {answer.claim.split(",")[0]: answer.holds for answer in checklist(ranking)}


def test_the_checklist_answers_from_the_numbers(finished_study: Path) -> None:
    ranking = read_ranking(finished_study)
    sound = answers(ranking)
    assert {claim for claim, holds in sound.items() if not holds} == {"At least 10 test seeds"}

    seeds = ranking["protocol"]["seeds"]
    seeds["test"][0] = seeds["tuning"][0]
    ranking["ranking"][0]["trials"]["run"] += 1
    ranking["ranking"][1]["scores"]["CartPole-v1"].pop()
    ranking["protocol"]["search_spaces"]["trpo"]["CartPole-v1"]["gae_lambda"] = "[0, 1]"
    ranking["protocol"]["algorithms"] = ["clip_ppo", "ppo"]
    assert {claim for claim, holds in answers(ranking).items() if sound[claim] and not holds} == {
        "The seeds that chose a configuration are not the seeds that are reported",
        "Every algorithm had the same budget of trials",
        "Shared hyperparameters were searched in the same ranges",
        "The baselines TRPO and PPO were treated like everybody else",
        "Every run is reported",
    }


def test_the_study_file_in_the_report_leads_to_the_same_protocol(finished_study: Path, tmp_path: Path) -> None:
    protocol = read_ranking(finished_study)["protocol"]
    path = tmp_path / "made_up.yml"
    path.write_text(study_yaml(protocol, ["CartPole-v1", "Acrobot-v1"]))
    study = load_study(str(path))
    assert protocol_of("made_up", study) == protocol
    assert list(study.environments) == ["CartPole-v1", "Acrobot-v1"]


def test_shared_ranges_are_stated_once_and_own_ones_by_algorithm(finished_study: Path) -> None:
    protocol = read_ranking(finished_study)["protocol"]
    rows = {(row.algorithm, row.parameter): row for row in searched_ranges(protocol, ["CartPole-v1", "Acrobot-v1"])}
    assert rows["", "gae_lambda"].text == "[0.8, 1]"
    assert rows["", "n_epochs"].lacking == ["trpo"]
    assert rows["", "log2_rollout_size"].text == "CartPole-v1: [6..12]; Acrobot-v1: [6..13]"
    assert rows["trpo", "cg_damping"].text == "[0.001, 0.2] log"
    assert ("ppo", "gae_lambda") not in rows


def luminance(colour: str) -> float:
    """Relative luminance of sRGB, WCAG 2.2."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_algorithm_has_a_look_of_its_own_that_stands_out_on_both_pages() -> None:
    styles = looks(list(ALGORITHMS))
    assert len({(look.colour, look.dash) for look in styles.values()}) == len(ALGORITHMS)
    for algorithm, look in styles.items():
        assert 1.05 / (luminance(look.colour) + 0.05) >= 3, f"{algorithm} on white"
        if algorithm != "trpo":  # its black is turned light on a dark page
            assert (luminance(look.colour) + 0.05) / (luminance("#14171a") + 0.05) >= 3, f"{algorithm} on the dark page"
