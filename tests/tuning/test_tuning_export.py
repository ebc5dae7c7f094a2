"""``ppo-variants export``: tuned values as zoo entries."""

import json
import os
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from finished_study import finished
from sb3_ppo_variants.tuning.ranking.export import export
from sb3_ppo_variants.tuning.ranking.ranking_json import read_ranking
from typer.testing import CliRunner

from sb3_ppo_variants.cli import app
from sb3_ppo_variants.entries import zoo_files
from sb3_ppo_variants.experiment import Experiment
from sb3_ppo_variants.registry import get_algorithm

BY_HAND = """\
# Our own values.

default: &default
  n_timesteps: 1000000   # a long time
  policy: MlpPolicy

# Measured last summer
CartPole-v1:
  <<: *default
  # not sure about this one
  n_steps: 16

# Copied from a paper, section 4
MountainCar-v0:
  <<: *default
  n_envs: 0x10    # sixteen
  policy_kwargs: {net_arch: [64,64],   activation_fn: 'tanh'}

# The end
"""


def entries(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def chosen(folder: Path, algorithm: str) -> dict[str, Any]:
    (line,) = [line for line in read_ranking(folder)["ranking"] if line["algorithm"] == algorithm]
    return {env_id: best["entry"] for env_id, best in line["best"].items()}


def change(folder: Path, alter: Any) -> None:
    """Rewrite ranking.json, as of the same day."""
    path = folder / "ranking.json"
    day = path.stat().st_mtime
    content = json.loads(path.read_text())
    alter(content)
    path.write_text(json.dumps(content))
    os.utime(path, (day, day))


def test_the_command_writes_a_file_for_each_algorithm_with_the_chosen_values(
    finished_study: Path, tmp_path: Path
) -> None:
    to = tmp_path / "zoo"
    done = CliRunner().invoke(app, ["export", str(finished_study), "--to", str(to)])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in to.iterdir()) == ["clip_ppo.yml", "ppo.yml", "trpo.yml"]
    assert f"{to / 'trpo.yml'}: CartPole-v1, Acrobot-v1" in done.output.replace("\n", "")
    for algorithm in ("clip_ppo", "ppo", "trpo"):
        assert entries(to / f"{algorithm}.yml") == chosen(finished_study, algorithm)


def test_by_default_the_entries_go_to_zoo_configs(
    finished_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["export", str(finished_study)]).exit_code == 0
    assert (tmp_path / "zoo_configs" / "ppo.yml").is_file()


def test_from_zoo_builds_the_model_of_an_exported_entry(
    finished_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(finished_study, tmp_path / "zoo")
    monkeypatch.setattr(zoo_files, "resources", SimpleNamespace(files=lambda package: tmp_path / "zoo"))
    zoo_files._zoo_file.cache_clear()
    try:
        for algorithm in ("clip_ppo", "trpo"):
            entry = chosen(finished_study, algorithm)["CartPole-v1"]
            found = Experiment.from_zoo(algorithm, "CartPole-v1")
            assert found.entry == entry
            env = found.make_env(seed=0)
            model = found.make_model(env, seed=0)
            assert type(model) is get_algorithm(algorithm).cls
            assert model.n_steps == entry["n_steps"]
            assert model.gamma == entry["gamma"]
            env.close()
    finally:
        zoo_files._zoo_file.cache_clear()


def test_an_entry_says_where_it_comes_from(finished_study: Path, tmp_path: Path) -> None:
    def not_the_registered_one(content: Any) -> None:
        for line in content["ranking"]:
            line["best"]["CartPole-v1"]["trial"] = 7

    change(finished_study, not_the_registered_one)
    os.utime(finished_study / "ranking.json", (0, 86400 * 365))
    export(finished_study, tmp_path)
    ranking = read_ranking(finished_study)
    (line,) = [line for line in ranking["ranking"] if line["algorithm"] == "clip_ppo"]
    text = (tmp_path / "clip_ppo.yml").read_text()
    block = text[text.index("CartPole-v1:") : text.index("Acrobot-v1:")]
    comment = " ".join(row.strip().removeprefix("#").strip() for row in block.splitlines() if row.startswith("  #"))
    best, runs = line["best"]["CartPole-v1"], line["scores"]["CartPole-v1"]
    assert "Study made_up, seed 0, 1971-01-01" in comment
    assert "trial 7 of 10," in comment
    assert f"Tuning: normalised score {best['tuning_value']:.3f} over 1 seeds" in comment
    assert f"Validation: normalised score {best['validation_value']:.3f} over 3 seeds" in comment
    assert ", ".join(str(run["seed"]) for run in runs) in comment
    assert f"mean return {sum(run['raw'] for run in runs) / 5:.6g}" in comment
    assert f"stable-baselines3 {ranking['protocol']['versions']['stable-baselines3']}" in comment
    low, value, high = interval(comment)
    scores = sorted(run["normalised"] for run in runs)
    assert scores[0] - 5e-4 <= low < value < high <= scores[-1] + 5e-4


def interval(comment: str) -> tuple[float, float, float]:
    value, _, rest = comment.partition("normalised IQM ")[2].partition(" [")
    low, _, high = rest.partition("]")[0].partition(", ")
    return float(low), float(value), float(high)


def test_comments_and_entries_of_others_stay_byte_for_byte(finished_study: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip_ppo.yml"
    path.write_text(BY_HAND)
    export(finished_study, tmp_path)
    text = path.read_text()
    head, tail = BY_HAND.index("CartPole-v1:"), BY_HAND.index("\n# Copied from")
    assert text.startswith(BY_HAND[:head])
    assert BY_HAND[tail:].rstrip() in text
    assert "not sure about this one" not in text, "it was said of the old values"
    others = {name: entry for name, entry in entries(path).items() if name not in ("CartPole-v1", "Acrobot-v1")}
    assert others == {name: entry for name, entry in yaml.safe_load(BY_HAND).items() if name != "CartPole-v1"}
    assert {name: entries(path)[name] for name in ("CartPole-v1", "Acrobot-v1")} == chosen(finished_study, "clip_ppo")


def test_a_second_export_changes_nothing(finished_study: Path, tmp_path: Path) -> None:
    (tmp_path / "ppo.yml").write_text(BY_HAND)
    export(finished_study, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.glob("*.yml")}
    export(finished_study, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.yml")} == first


def test_the_shipped_files_take_an_export(finished_study: Path, tmp_path: Path) -> None:
    shipped = resources.files("sb3_ppo_variants.zoo_configs")
    for name in ("clip_ppo.yml", "ppo.yml", "trpo.yml"):
        (tmp_path / name).write_text(shipped.joinpath(name).read_text(encoding="utf-8"), encoding="utf-8")
    before = {path.name: entries(path) for path in tmp_path.glob("*.yml")}
    export(finished_study, tmp_path)
    for name, earlier in before.items():
        assert entries(tmp_path / name) == earlier | chosen(finished_study, name.removesuffix(".yml"))
        assert list(entries(tmp_path / name)) == list(earlier), "in their old order"


def test_a_configuration_whose_test_runs_all_failed_is_not_exported(finished_study: Path, tmp_path: Path) -> None:
    def fail(content: dict[str, Any]) -> None:
        for line in content["ranking"]:
            for run in line["scores"]["Acrobot-v1"] if line["algorithm"] == "ppo" else []:
                run |= {"raw": None, "status": "failed", "reason": "out of luck", "normalised": -1.0}

    change(finished_study, fail)
    done = CliRunner().invoke(app, ["export", str(finished_study), "--to", str(tmp_path / "zoo")])
    assert done.exit_code == 0
    assert "Not exported: ppo on Acrobot-v1: every test run failed (out of luck)" in done.stderr
    assert list(entries(tmp_path / "zoo" / "ppo.yml")) == ["CartPole-v1"]


def test_a_study_without_a_run_that_worked_exports_nothing(finished_study: Path, tmp_path: Path) -> None:
    def fail(content: dict[str, Any]) -> None:
        for runs in [runs for line in content["ranking"] for runs in line["scores"].values()]:
            for run in runs:
                run |= {"raw": None, "reason": "out of luck"}

    change(finished_study, fail)
    with pytest.raises(ValueError, match=r"has nothing to export: .*out of luck"):
        export(finished_study, tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_an_entry_that_could_not_be_loaded_is_refused(finished_study: Path, tmp_path: Path) -> None:
    def misspell(content: dict[str, Any]) -> None:
        content["ranking"][1]["best"]["Acrobot-v1"]["entry"]["learning_rat"] = 0.1

    change(finished_study, misspell)
    with pytest.raises(ValueError, match="did you mean learning_rate"):
        export(finished_study, tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


ANCHORED = """\
CartPole-v1: &mine
  policy: MlpPolicy
Acrobot-v1:
  <<: *mine
Pendulum-v1:
  <<: *mine
  n_envs: 4
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ANCHORED, "another entry is built on one that would be replaced"),
        ("a: [", "is not valid YAML"),
        ("- CartPole-v1\n", "is no file of zoo entries"),
        ("CartPole-v1: 3\n", "is no file of zoo entries"),
        ("{CartPole-v1: {policy: MlpPolicy}}\n", "is written in braces"),
        ("a: {}\n---\nb: {}\n", "is not valid YAML"),
    ],
)
def test_a_file_that_cannot_take_entries_is_refused_and_no_file_is_written(
    finished_study: Path, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "trpo.yml").write_text(text)
    with pytest.raises(ValueError, match=f"trpo.yml .*{words}"):
        export(finished_study, tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.glob("*.yml")} == {"trpo.yml": text}


def test_a_file_that_is_no_text_is_refused(finished_study: Path, tmp_path: Path) -> None:
    (tmp_path / "ppo.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"ppo\.yml is no text file"):
        export(finished_study, tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(finished_study: Path, tmp_path: Path) -> None:
    (tmp_path / "zoo").write_text("")
    with pytest.raises(ValueError, match="is a file: give the folder of the zoo entries"):
        export(finished_study, tmp_path / "zoo")


def test_two_algorithms_of_one_file_are_refused(finished_study: Path, tmp_path: Path) -> None:
    def rename(content: dict[str, Any]) -> None:
        for line in content["ranking"]:
            line["algorithm"] = {"ppo": "maskable_clip_ppo"}.get(line["algorithm"], line["algorithm"])

    change(finished_study, rename)
    with pytest.raises(ValueError, match=r"clip_ppo and (maskable_)?clip_ppo share the file clip_ppo\.yml"):
        export(finished_study, tmp_path)


def test_an_unfinished_study_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(tmp_path)])
    assert isinstance(done.exception, ValueError)
    assert "has no ranking.json: finish the study first" in str(done.exception)


def test_registered_configurations_are_called_so(tmp_path: Path) -> None:
    finished(tmp_path, algorithms=("ppo",), environments={"CartPole-v1": 20_000}, trials=0, test_seeds=1)
    export(tmp_path, tmp_path / "zoo")
    text = (tmp_path / "zoo" / "ppo.yml").read_text()
    assert "the registered configuration, runs of 20000 steps" in text
    assert "Tuning:" not in text
    assert "[" not in text.partition("normalised IQM")[2].partition(",")[0], "one seed has no interval"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A tuned study, and the same with the registered configurations."""
    tuned, registered = tmp_path / "tuned", tmp_path / "registered"
    for folder, trials in ((tuned, 3), (registered, 0)):
        finished(folder, algorithms=("ppo", "trpo"), environments={"CartPole-v1": 20_000}, trials=trials)
    return tuned, registered


def score(folder: Path, scores: dict[str, float]) -> None:
    """Let all test runs of an algorithm score the same."""

    def alter(content: dict[str, Any]) -> None:
        for line in content["ranking"]:
            for run in line["scores"]["CartPole-v1"]:
                run |= {"normalised": scores[line["algorithm"]]}

    change(folder, alter)


def test_only_what_is_better_than_the_registered_is_written_where_that_is_asked(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    tuned, registered = pair
    score(tuned, {"ppo": 0.9, "trpo": 0.7})
    score(registered, {"ppo": 0.8, "trpo": 0.7})
    to = tmp_path / "zoo"
    done = CliRunner().invoke(app, ["export", str(tuned), "--to", str(to), "--against", str(registered)])
    assert done.exit_code == 0, done.output
    assert [path.name for path in to.iterdir()] == ["ppo.yml"]
    assert "trpo on CartPole-v1: its mean test score, 0.700, is not above the 0.700 of the registered" in done.stderr
    text = (to / "ppo.yml").read_text()
    assert "# On these, normalised mean 0.900, 0.800 with the values that were registered." in text
    score(registered, {"ppo": 0.95, "trpo": 0.95})
    with pytest.raises(ValueError, match="has nothing to export"):
        export(tuned, to, against=registered)


def test_what_cannot_be_held_against_a_study_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    tuned, registered = pair
    with pytest.raises(ValueError, match="was tuned: give the results of the same study with rank --no-tune"):
        export(tuned, tmp_path / "zoo", against=tuned)
    protocols = {
        "test seeds: ": lambda protocol: protocol["seeds"]["test"].pop(),
        "environments.CartPole-v1: 20000 in the tuned study, 9": lambda protocol: protocol["environments"].update(
            {"CartPole-v1": 9}
        ),
        "versions.torch: ": lambda protocol: protocol["versions"].update(torch="1.0"),
    }
    path = registered / "ranking.json"
    text = path.read_text()
    for words, alter in protocols.items():
        content = json.loads(text)
        alter(content["protocol"])
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=f"cannot be held against the tuned study .*{words}"):
            export(tuned, tmp_path / "zoo", against=registered)
    content = json.loads(text)
    content["ranking"] = [line for line in content["ranking"] if line["algorithm"] != "trpo"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has no test runs of trpo"):
        export(tuned, tmp_path / "zoo", against=registered)
    assert not (tmp_path / "zoo").exists()
