"""Studies that grow, studies that are merged, and environments with settings of their own."""

import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import optuna
import pytest
import yaml
from finished_study import finished
from sb3_ppo_variants.tuning.compare import compare
from sb3_ppo_variants.tuning.decisions.decisions import Decisions
from sb3_ppo_variants.tuning.report.protocol_view import study_yaml
from sb3_ppo_variants.tuning.report.trials import read_trials
from sb3_ppo_variants.tuning.runs.cell import run_cell
from sb3_ppo_variants.tuning.study.extension import growth
from sb3_ppo_variants.tuning.study.plan import plan
from sb3_ppo_variants.tuning.study.protocol import pin_protocol, protocol_digest, protocol_of
from sb3_ppo_variants.tuning.study.study_file import Study, load_study
from tuning_helpers import SMALL_STUDY, without_times
from typer.testing import CliRunner

from sb3_ppo_variants.cli import app

ONE = {"CartPole-v1": 20_000}
TWO = {"CartPole-v1": 20_000, "Acrobot-v1": 40_000}
OWN_CRITIC = {"own_critic": {"algorithm": "clip_ppo", "hyperparameters": {"critic_epochs": 4}}}


def cells(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "cells").glob("*.json")}


def study_of(algorithms: list[Any], environments: dict[str, Any], **budget: int) -> Study:
    content = {
        "algorithms": algorithms,
        "environments": {env_id: {"steps": steps} for env_id, steps in environments.items()},
        "budget": {"trials": 1, "tuning_seeds": 1, "test_seeds": 5, **budget},
    }
    return Study.model_validate(content)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """One study of three algorithms on one environment, and the same in two parts; nobody may change them."""
    folder = tmp_path_factory.mktemp("parts")
    whole, left, right = folder / "whole", folder / "left", folder / "right"
    for place, name, algorithms in (
        (whole, "merged", ("ppo", "trpo", OWN_CRITIC)),
        (left, "left", ("ppo", "trpo")),
        (right, "right", ("ppo", OWN_CRITIC)),
    ):
        order = ("ppo", "trpo", "clip_ppo")
        finished(place, name=name, algorithms=algorithms, order=order, environments=ONE, trials=1)
    return whole, left, right


def test_an_extended_study_runs_only_what_is_new_and_says_that_it_was_extended(tmp_path: Path) -> None:
    finished(tmp_path, algorithms=("ppo",), environments=ONE, trials=1, test_seeds=2)
    before = cells(tmp_path)
    content = finished(
        tmp_path, algorithms=("ppo", OWN_CRITIC), environments=TWO, trials=1, test_seeds=3, validation_seeds=4
    )
    after = cells(tmp_path)
    assert before.items() <= after.items(), "a finished run was made again"
    protocol = content["protocol"]
    assert protocol["extensions"] == [
        {
            "algorithms": ["own_critic"], "environments": ["Acrobot-v1"],
            "validation_seeds": [3, 4], "test_seeds": [2, 3],
        }
    ]  # fmt: skip
    words = "algorithms own_critic; environments Acrobot-v1; validation_seeds 3 to 4; test_seeds 2 to 3"
    assert f"Extended after it was begun: {words}." in content["warnings"]
    (line,) = [line for line in content["ranking"] if line["algorithm"] == "ppo"]
    assert {env_id: len(runs) for env_id, runs in line["scores"].items()} == {"CartPole-v1": 3, "Acrobot-v1": 3}
    # Trials of then and now are in the same Optuna studies, which the report finds
    names = optuna.get_all_study_names(f"sqlite:///{tmp_path / 'study.db'}")
    assert len(names) == 4
    assert len(read_trials(tmp_path, protocol, [("ppo", "CartPole-v1")])["ppo", "CartPole-v1"].values) == 1


def test_what_is_asked_for_again_keeps_its_history_and_less_is_refused(tmp_path: Path) -> None:
    first = pin_protocol(tmp_path, protocol_of("s", study_of(["ppo"], ONE)))
    assert "extensions" not in first
    larger = protocol_of("s", study_of(["trpo", "ppo"], ONE))
    second = pin_protocol(tmp_path, larger)
    assert second["extensions"] == [{"algorithms": ["trpo"]}]
    assert protocol_digest(second) == protocol_digest(first)
    assert pin_protocol(tmp_path, larger) == second
    third = pin_protocol(tmp_path, protocol_of("s", study_of(["trpo", "ppo"], ONE, test_seeds=6)))
    assert third["extensions"] == [{"algorithms": ["trpo"]}, {"test_seeds": [5, 6]}]
    assert protocol_digest(third) == protocol_digest(first)
    for smaller, message in (
        (study_of(["ppo"], ONE, test_seeds=6), "algorithms: "),
        (larger_seeds(5), "budget.test_seeds: 6 then, 5 now"),
        (study_of(["trpo", "ppo"], ONE, test_seeds=6, tuning_seeds=2), "budget.tuning_seeds: 1 then, 2 now"),
        (study_of(["trpo", "ppo"], {"CartPole-v1": 9999}, test_seeds=6), "environments.CartPole-v1: 20000 then, 9999"),
    ):
        with pytest.raises(ValueError, match=f"begun with another protocol .{message}"):
            pin_protocol(tmp_path, protocol_of("s", smaller))
    assert json.loads((tmp_path / "protocol.json").read_text()) == third


def larger_seeds(number: int) -> Study:
    return study_of(["trpo", "ppo"], ONE, test_seeds=number)


def test_more_test_seeds_and_another_algorithm_are_growth_and_nothing_else_is() -> None:
    one, two = (protocol_of("s", study_of(["ppo"], ONE, test_seeds=number)) for number in (5, 7))
    assert growth(two, one) == {"test_seeds": [5, 7]}
    assert growth(one, two) == growth(one, one) == {}


def test_studies_in_parts_make_the_ranking_of_the_whole(parts: tuple[Path, Path, Path], tmp_path: Path) -> None:
    whole, left, right = parts
    out = tmp_path / "merged"
    result = CliRunner().invoke(app, ["compare", str(left), str(right), "--out", str(out)])
    assert result.exit_code == 0, result.output
    merged = json.loads((out / "ranking.json").read_text())
    assert without_times(merged) == without_times(json.loads((whole / "ranking.json").read_text()))
    for name in ("ranking.csv", "ranking.md", "best.yml", "report.html", "protocol.json", "study.db"):
        assert (out / name).is_file()
    assert "Ranking: merged" in result.output


def test_studies_that_do_not_agree_are_told_why(parts: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, left, right = parts
    other = shutil.copytree(right, tmp_path / "other")

    def refused(message: str, **changes: Any) -> None:
        content = json.loads((right / "protocol.json").read_text()) | changes
        (other / "protocol.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            compare([left, other], out=tmp_path / "out")
        assert not (tmp_path / "out").exists()

    protocol = json.loads((right / "protocol.json").read_text())
    refused(r"do not agree \(seed: 0 in .*left, 1 in .*other", seed=1)
    refused(r"do not agree \(budget.test_seeds: 5 in .*, 6 in", budget={**protocol["budget"], "test_seeds": 6})
    refused(r"do not agree \(environments.CartPole-v1: 20000 in .*, 9 in", environments={"CartPole-v1": 9})
    refused(r"do not agree \(versions.torch", versions={**protocol["versions"], "torch": "0.1"})
    searched = {name: {"CartPole-v1": {"gamma": "[0, 1]"}} for name in protocol["algorithms"]}
    own = {**searched, "ppo": protocol["search_spaces"]["ppo"]}
    refused(r"other was run with another installation than this one", search_spaces=own)
    registered = {name: {"CartPole-v1": {"n_steps": 1}} for name in protocol["algorithms"]}
    refused(r"do not agree \(registered_configurations.ppo", registered_configurations=registered)


def test_only_finished_studies_and_full_tables_are_merged(parts: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, left, right = parts
    half = shutil.copytree(right, tmp_path / "half")
    for path in (half / "cells").glob("*.json"):
        path.unlink()
    with pytest.raises(ValueError, match=r"clip_ppo on CartPole-v1, seed \d+, has not been run: finish the studies"):
        compare([left, half], out=tmp_path / "out")
    for env_id, algorithms, message in (
        ("Acrobot-v1", ["ppo"], "trpo on Acrobot-v1 was run in none of them"),
        ("Acrobot-v1", ["ppo", "trpo"], "one configuration for all environments takes runs that none of them made"),
    ):
        elsewhere = tmp_path / str(len(algorithms))
        elsewhere.mkdir()
        pin_protocol(elsewhere, protocol_of("s", study_of(algorithms, {env_id: 40_000}, trials=1)))
        like_left = {**json.loads((elsewhere / "protocol.json").read_text()), "sampler": "random"}
        (elsewhere / "protocol.json").write_text(json.dumps(like_left))
        with pytest.raises(ValueError, match=message):
            compare([left, elsewhere], out=tmp_path / "none")


def test_compare_takes_two_folders_of_studies_and_a_new_one(parts: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, left, right = parts
    with pytest.raises(ValueError, match="two or more studies, each once"):
        compare([left], out=tmp_path)
    with pytest.raises(ValueError, match="two or more studies, each once"):
        compare([left, right, left], out=tmp_path)
    with pytest.raises(ValueError, match="is one of the studies: give a new folder"):
        compare([left, right], out=left)
    with pytest.raises(ValueError, match=r"has no protocol.json"):
        compare([left, tmp_path], out=tmp_path / "out")


def loaded(folder: Path, environment: dict[str, Any], *algorithms: Any, env_id: str = "CartPole-v1") -> Study:
    content = yaml.safe_load(SMALL_STUDY) | {"environments": {env_id: {"steps": 2048, **environment}}}
    if algorithms:
        content["algorithms"] = list(algorithms)
    path = folder / "study.yml"
    path.write_text(yaml.safe_dump(content))
    return load_study(str(path))


def test_settings_of_an_environment_hold_for_every_algorithm_and_are_not_tuned(tmp_path: Path) -> None:
    wrapper = {"gymnasium.wrappers.RescaleObservation": {"min_obs": -1, "max_obs": 1}}
    settings = {"n_envs": 2, "normalize": {"norm_reward": False}, "env_wrapper": wrapper, "vec_env": "gymnasium"}
    own = {"own": {"algorithm": "clip_ppo", "hyperparameters": {"n_envs": 4}}}
    study = loaded(tmp_path, settings, "ppo", own)
    space = study.space("ppo", "CartPole-v1")
    entry = space.entry(space.default_params)
    assert {name: entry[name] for name in settings} == settings == {name: space.default[name] for name in settings}
    assert "normalize" not in space.parameters
    assert study.space("own", "CartPole-v1").default["n_envs"] == 4
    protocol = protocol_of("s", study)
    assert protocol["environment_settings"] == {"CartPole-v1": settings}
    assert Study.model_validate(yaml.safe_load(study_yaml(protocol, ["CartPole-v1"]))).pairs == study.pairs
    again = Study.model_validate(yaml.safe_load(study_yaml(protocol, ["CartPole-v1"])))
    assert again.environments["CartPole-v1"].settings == settings
    assert "environment_settings" not in protocol_of("s", loaded(tmp_path, {}))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"env_kwargs": {"sutton_barto_reward": True}}, "env_kwargs make another task of it: give its random"),
        ({"env_kwargs": {"nonsense": 1}, "random": 0.0, "reference": 1.0}, "cannot be made with env_kwargs .*nonsense"),
        ({"env_wrapper": "nowhere.Wrapper"}, "env_wrapper in the ppo entry .* cannot be imported"),
        ({"n_envs": 0}, "environments.CartPole-v1.n_envs"),
        ({"frame_stack": 1.5}, "environments.CartPole-v1.frame_stack"),
        ({"normalize": {"norm_rewards": True}}, "Unknown key 'norm_rewards' .* did you mean norm_reward"),
        ({"vec_env": "sync"}, "vec_env in the ppo entry .* must be gymnasium"),
        ({"n_envs": 4096}, "CartPole-v1: steps is 2048, but one rollout of ppo's configuration takes"),
    ],
)
def test_whatever_is_wrong_with_a_setting_is_said(tmp_path: Path, environment: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        loaded(tmp_path, environment)
    assert "\n" not in str(caught.value)


def test_an_environment_with_arguments_brings_its_own_returns(tmp_path: Path) -> None:
    own = {"env_kwargs": {"sutton_barto_reward": True}, "random": -1.0, "reference": 0.0}
    study = loaded(tmp_path, own)
    assert study.space("trpo", "CartPole-v1").default["env_kwargs"] == {"sutton_barto_reward": True}
    assert study.scale("CartPole-v1").normalise(-0.5) == 0.5


MY_ENVS = """
import gymnasium
from sb3_ppo_variants.testing import MULTI_DISCRETE, VECTOR, MaskedSpaceEnv

def make(size):
    assert size == 3
    return MaskedSpaceEnv(VECTOR, MULTI_DISCRETE)

gymnasium.register("OfMine-v0", entry_point=make)
"""


def test_an_environment_of_a_users_module_is_ranked_with_masks_memory_and_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "my_envs.py").write_text(MY_ENVS)
    monkeypatch.syspath_prepend(tmp_path)
    env_id = "my_package.my_envs:OfMine-v0"
    short = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "critic_epochs": 2}
    mine = {"mine": {"algorithm": "maskable_recurrent_spo", "hyperparameters": short}}
    settings = {"env_kwargs": {"size": 3}, "n_envs": 2, "random": 0.0, "reference": 1.0}
    study = loaded(tmp_path, settings, mine, env_id=env_id)
    decisions = Decisions.of(study, "test", f"sqlite:///{tmp_path / 'study.db'}")
    (track,) = decisions.tracks
    cell = track.pair.test_cell(dict(track.pair.space.default), track.pair.seeds.test[0])
    result = run_cell(cell.model_copy(update={"steps": 64}))
    assert (result.status, result.reason) == ("ok", "")
    gymnasium.registry.pop("OfMine-v0")


def test_tuned_studies_of_different_environments_merge_where_nobody_seeks_one_configuration_for_all(
    tmp_path: Path,
) -> None:
    alone: dict[str, Any] = {"one_for_all": False, "trials": 1, "tuning_seeds": 1, "test_seeds": 3}
    for name, environments in (("left", ONE), ("right", {"Acrobot-v1": 40_000}), ("out", TWO)):
        place = tmp_path / ("whole" if name == "out" else name)
        made = finished(place, name=name, algorithms=("ppo", "spo"), environments=environments, **alone)
        assert made["one_for_all"] is None
    compare([tmp_path / "left", tmp_path / "right"], out=tmp_path / "out")
    merged, whole = (json.loads((tmp_path / name / "ranking.json").read_text()) for name in ("out", "whole"))
    assert without_times(merged) == without_times(whole)
    assert plan(study_of(["ppo"], TWO, **alone))[0].one_for_all == 0
