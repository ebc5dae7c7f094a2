"""A study is repeated from the folder of its results: with the registered configurations of then."""

import json
import shutil
from pathlib import Path

import pytest
from finished_study import finished
from sb3_ppo_variants.tuning.compare import compare
from sb3_ppo_variants.tuning.rank import rank
from sb3_ppo_variants.tuning.study.protocol import pin_protocol, protocol_of
from sb3_ppo_variants.tuning.study.study_file import load_study, study_name
from tuning_helpers import SMALL_STUDY

OF_THEN = {"n_epochs": 3, "policy": "MlpPolicy", "n_envs": 1, "n_steps": 64, "learning_rate": 0.001}
OWN = {"small_steps": {"algorithm": "clip_ppo", "hyperparameters": {"clip_range": 0.05}}}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder that was begun when other values were registered."""
    content = {
        "algorithms": ["ppo", OWN],
        "environments": {"CartPole-v1": {"steps": 4096}},
        "budget": {"trials": 2, "tuning_seeds": 1, "test_seeds": 2},
        "registered_configurations": {name: {"CartPole-v1": OF_THEN} for name in ("ppo", "small_steps")},
    }
    (tmp_path / "mine.yml").write_text(json.dumps(content))
    folder = tmp_path / "runs"
    folder.mkdir()
    pin_protocol(folder, protocol_of("mine", load_study(str(tmp_path / "mine.yml"))))
    return folder


def published(kept: Path, folder: Path) -> Path:
    """The same as a published study has it: without protocol.json."""
    folder.mkdir()
    protocol = json.loads((kept / "protocol.json").read_text())
    (folder / "ranking.json").write_text(json.dumps({"protocol": protocol}))
    return folder


def test_a_folder_brings_its_registered_configurations_and_its_name(kept: Path, tmp_path: Path) -> None:
    for folder in (kept, published(kept, tmp_path / "published")):
        study = load_study(str(folder))
        assert study_name(str(folder)) == "mine"
        assert study.space("ppo", "CartPole-v1").default == {**OF_THEN, "n_timesteps": 4096}
        assert study.space("small_steps", "CartPole-v1").default["clip_range"] == 0.05
        assert protocol_of("mine", study) == json.loads((kept / "protocol.json").read_text())


def test_a_part_of_it_has_them_too_and_what_is_new_has_those_of_now(kept: Path) -> None:
    study = load_study(str(kept), algorithms=["spo", "small_steps"], tune=False)
    assert study.space("small_steps", "CartPole-v1").default["n_epochs"] == 3
    assert study.space("spo", "CartPole-v1").default != OF_THEN
    assert set(study.registered_configurations) == {"small_steps"}


def test_a_folder_goes_on_with_further_environments_of_its_shipped_study(tmp_path: Path) -> None:
    begun = load_study("standard", environments=["Acrobot-v1"], algorithms=["ppo"])
    then = {"ppo": {"Acrobot-v1": {**OF_THEN, "n_timesteps": 50000}}}
    pin_protocol(tmp_path, protocol_of("standard", begun.model_copy(update={"registered_configurations": then})))
    both = load_study(str(tmp_path), environments=["Acrobot-v1", "Hopper-v5"])
    shipped = load_study("standard", algorithms=["ppo"])
    assert both.environments == {env_id: shipped.environments[env_id] for env_id in ("Acrobot-v1", "Hopper-v5")}
    assert both.space("ppo", "Acrobot-v1").default == then["ppo"]["Acrobot-v1"]
    assert both.space("ppo", "Hopper-v5").default == shipped.space("ppo", "Hopper-v5").default
    assert pin_protocol(tmp_path, protocol_of("standard", both))["extensions"] == [{"environments": ["Hopper-v5"]}]
    assert list(load_study(str(tmp_path)).environments) == ["Acrobot-v1", "Hopper-v5"]
    with pytest.raises(ValueError, match="CartPole-v1 is not one of its environments"):
        load_study(str(tmp_path), environments=["CartPole-v1"])


def test_a_study_of_ones_own_has_no_further_environments(kept: Path) -> None:
    with pytest.raises(ValueError, match=r"Acrobot-v1 is not one of its environments \(CartPole-v1\)"):
        load_study(str(kept), environments=["Acrobot-v1"])


def test_a_folder_that_was_begun_with_others_says_how_to_go_on(kept: Path) -> None:
    changed = load_study(str(kept.parent / "mine.yml"))
    now = changed.model_copy(update={"registered_configurations": {}})
    with pytest.raises(
        ValueError, match=f"registered_configurations.* rank {kept} --out {kept}, for the configurations of then"
    ):
        pin_protocol(kept, protocol_of("mine", now))
    seeds = changed.model_copy(update={"seed": 5})
    with pytest.raises(ValueError, match=r"seed: 0 then, 5 now.*: give another --out, the options of then, or"):
        pin_protocol(kept, protocol_of("mine", seeds))


def test_what_names_nobody_of_the_study_is_refused(kept: Path, tmp_path: Path) -> None:
    protocol = json.loads((kept / "protocol.json").read_text())
    content = {"algorithms": ["ppo"], "environments": {"CartPole-v1": {"steps": 4096}}, "budget": protocol["budget"]}
    for entries, message in (
        ({"spo": {}}, r"registered_configurations: spo is not one of its algorithms \(ppo\)"),
        ({"ppo": {"Acrobot-v1": {}}}, r"Acrobot-v1 is not one of its environments \(CartPole-v1\)"),
        ({"ppo": {"CartPole-v1": {"n_step": 1}}}, "n_step"),
    ):
        (tmp_path / "s.yml").write_text(json.dumps({**content, "registered_configurations": entries}))
        with pytest.raises(ValueError, match=message):
            load_study(str(tmp_path / "s.yml"))


def test_a_folder_that_holds_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has neither protocol\.json nor ranking\.json: give a study's results"):
        load_study(str(tmp_path))
    for text in ("{", "[]", "{}"):
        (tmp_path / "ranking.json").write_text(text)
        with pytest.raises(ValueError, match=r"ranking\.json is not readable .*: give the folder of a study's results"):
            load_study(str(tmp_path))


def test_studies_of_then_are_merged(tmp_path: Path) -> None:
    for name in ("ppo", "spo"):
        finished(tmp_path / name, name=name, algorithms=(name,), environments={"CartPole-v1": 20_000}, trials=0)
        changed = json.loads((tmp_path / name / "protocol.json").read_text())
        entry = changed["registered_configurations"][name]["CartPole-v1"]
        entry["gamma"] = 0.123  # nobody has it registered now
        (tmp_path / name / "protocol.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match="has not been run"):  # the runs there are of other values
        compare([tmp_path / "ppo", tmp_path / "spo"], out=tmp_path / "out")
    protocol = json.loads((tmp_path / "out" / "protocol.json").read_text())
    assert {name: each["CartPole-v1"]["gamma"] for name, each in protocol["registered_configurations"].items()} == {
        "ppo": 0.123,
        "spo": 0.123,
    }


@pytest.mark.end_to_end
def test_a_repetition_trains_what_was_trained(tmp_path: Path) -> None:
    (tmp_path / "small.yml").write_text(SMALL_STUDY)
    first = rank(str(tmp_path / "small.yml"), out=tmp_path / "first", workers=1, tune=False)
    shutil.rmtree(tmp_path / "first" / "cells")
    changed = json.loads((tmp_path / "first" / "protocol.json").read_text())
    again = rank(str(tmp_path / "first"), out=tmp_path / "again", workers=1)
    assert json.loads((tmp_path / "again" / "protocol.json").read_text()) == changed
    assert [line.iqm for line in again.lines] == [line.iqm for line in first.lines]
