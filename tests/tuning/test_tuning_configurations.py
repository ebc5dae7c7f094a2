"""Configurations of one algorithm ranked against each other, under names of their own."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from finished_study import finished
from sb3_ppo_variants.tuning.decisions.decisions import Decisions
from sb3_ppo_variants.tuning.decisions.proposals import propose
from sb3_ppo_variants.tuning.ranking.export import export
from sb3_ppo_variants.tuning.report.checklist import checklist
from sb3_ppo_variants.tuning.report.page import write_report
from sb3_ppo_variants.tuning.report.protocol_view import study_yaml
from sb3_ppo_variants.tuning.runs.cell import Cell
from sb3_ppo_variants.tuning.study.protocol import protocol_of
from sb3_ppo_variants.tuning.study.study_file import Study, load_study
from tuning_helpers import SMALL_STUDY
from typer.testing import CliRunner

from sb3_ppo_variants.cli import app
from sb3_ppo_variants.experiment import Experiment, registered_entry
from sb3_ppo_variants.registry import ALGORITHMS
from sb3_ppo_variants.search_space import Choice, Parameter
from sb3_ppo_variants.tuning_space import TuningSpace

OWN_CRITIC = {"algorithm": "clip_ppo", "hyperparameters": {"critic_epochs": 4, "critic_learning_rate": 0.001}}
JOINT_CRITIC = {"algorithm": "clip_ppo", "hyperparameters": {}}
TRPO = {"algorithm": "trpo", "hyperparameters": {"n_critic_updates": 20}}
ENTRIES = ({"joint_critic": JOINT_CRITIC}, {"own_critic": OWN_CRITIC}, {"trpo": TRPO}, "ppo")


def study_of(*entries: Any, **changes: Any) -> Study:
    return Study.model_validate({**yaml.safe_load(SMALL_STUDY), "algorithms": list(entries), **changes})


def written(folder: Path, *entries: Any) -> str:
    path = folder / "study.yml"
    environments = {"CartPole-v1": {"steps": 4096}}  # room for a rollout of every registered configuration
    content = {**yaml.safe_load(SMALL_STUDY), "environments": environments, "algorithms": list(entries)}
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished, tuned study of four configurations of three algorithms; nobody may change it."""
    folder = tmp_path_factory.mktemp("configurations") / "ablation"
    finished(folder, name="ablation", algorithms=ENTRIES, environments={"CartPole-v1": 20_000}, trials=1)
    return folder


def test_a_configuration_has_its_algorithm_and_its_values_on_top_of_the_registered_ones() -> None:
    study = study_of(*ENTRIES)
    assert list(study.algorithms) == ["joint_critic", "own_critic", "trpo", "ppo"]
    space = study.space("own_critic", "CartPole-v1")
    registered = registered_entry("clip_ppo", "CartPole-v1") | {"n_timesteps": 1024}
    assert space.algorithm.id == "clip_ppo"
    assert space.default == {**registered, **OWN_CRITIC["hyperparameters"]}
    assert study.space("joint_critic", "CartPole-v1").default == registered
    assert study.space("trpo", "CartPole-v1").default["n_critic_updates"] == 20


def test_a_study_survives_being_written_and_read() -> None:
    study = study_of(*ENTRIES)
    assert study.model_dump()["algorithms"][1] == {"own_critic": OWN_CRITIC}
    assert Study.model_validate(study.model_dump()) == study


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"x": {"algorithm": "clip_pp", "hyperparameters": {}}}, r"'clip_pp'.*clip_ppo"),
        ({"x": {}}, "Unknown algorithm 'x'"),
        (
            {"x": {"algorithm": "clip_ppo", "hyperparameters": {"critic_epoch": 4}}},
            "'critic_epoch' in .* of x: did.*epochs",
        ),
        ({"x": {"algorithm": "trpo", "hyperparameters": {"clip_range": 0.2}}}, "Unknown key 'clip_range' in .* of x"),
        ({"x": {"algorithm": "clip_ppo", "hyperparameter": {}}}, "unknown key algorithms.x.hyperparameter"),
        ({"x": {"algorithm": "clip_ppo", "hyperparameters": [1]}}, "algorithms.x.hyperparameters: .* dictionary"),
        ({"x": None}, "algorithms.x"),
        ({"x": {}, "y": {}}, "expected an algorithm id, or own_name"),
        (7, "expected an algorithm id, or own_name.* got 7"),
        ({"ppo": {"algorithm": "ppo"}}, "named twice: ppo"),
        ({"spo": {"algorithm": "clip_ppo"}}, "spo means another algorithm"),
        ({"recurrent_spo": {"algorithm": "spo"}}, "recurrent_spo means another algorithm"),
        ({"all": {"algorithm": "spo"}}, "all means every algorithm"),
        ({"a/b": {"algorithm": "spo"}}, "'a/b' is no name"),
        ({"a,b": {"algorithm": "spo"}}, "'a,b' is no name"),
        ({"x": {"algorithm": "spo", "hyperparameters": {"n_timesteps": 9}}}, "another task: steps belongs to"),
        ({"x": {"algorithm": "spo", "hyperparameters": {"env_kwargs": {}}}}, "another task: env_kwargs belongs"),
        ({"x": {"algorithm": "spo", "hyperparameters": {"device": "cuda"}}}, "Unknown key 'device'"),
        ({"x": {"algorithm": "spo", "hyperparameters": {"seed": 1}}}, "Unknown key 'seed'"),
        ({"x": {"algorithm": "spo", "hyperparameters": {"gamma": "1e-3"}}}, "gamma of x must be a number, .*1.0e-3"),
        ({"x": {"algorithm": "spo", "hyperparameters": {"n_steps": 0.5}}}, "n_steps of x must be a whole number"),
        ({"x": {"algorithm": "spo", "hyperparameters": {"max_grad_norm": float("inf")}}}, "hyperparameters: plain"),
        ({"x": {"algorithm": "spo", "hyperparameters": {"learning_rate": "exp_1"}}}, "learning_rate in the x entry"),
        ({"x": {"algorithm": "spo", "hyperparameters": {"n_steps": 4096}}}, "one rollout of spo's .* takes"),
    ],
)
def test_whatever_is_wrong_with_a_configuration_is_said_in_one_line(tmp_path: Path, entry: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_study(written(tmp_path, "ppo", entry))
    assert str(caught.value).startswith("study ")
    assert "\n" not in str(caught.value)


def test_the_command_chooses_configurations_by_name(tmp_path: Path) -> None:
    name = written(tmp_path, *ENTRIES)
    chosen = load_study(name, algorithms=["own_critic", "spo"])
    assert list(chosen.algorithms) == ["own_critic", "spo"]
    assert chosen.algorithms["own_critic"].model_dump() == OWN_CRITIC
    everything = load_study(name, algorithms=["all"])
    assert list(everything.algorithms) == [*ALGORITHMS, "joint_critic", "own_critic"]
    assert everything.algorithms["trpo"].hyperparameters == {"n_critic_updates": 20}
    with pytest.raises(ValueError, match="'own_critc' is none of its algorithms: did you mean own_critic"):
        load_study(name, algorithms=["own_critc"])


def test_forms_with_masks_and_memory_have_configurations_too() -> None:
    form = {"both": {"algorithm": "maskable_recurrent_spo", "hyperparameters": {"critic_epochs": 2}}}
    space = study_of(form).space("both", "CartPole-v1")
    assert Experiment("maskable_recurrent_spo", "CartPole-v1", space.default).hyperparameters()["critic_epochs"] == 2


def test_the_limit_of_the_step_may_follow_a_schedule() -> None:
    falling = {"falling": {"algorithm": "trust_region_ppo", "hyperparameters": {"max_kl": "lin_0.02_0.005"}}}
    space = study_of(falling).space("falling", "CartPole-v1")
    max_kl = Experiment("trust_region_ppo", "CartPole-v1", space.default).hyperparameters()["max_kl"]
    assert (max_kl(1.0), max_kl(0.0)) == pytest.approx((0.02, 0.005))


FIXED = [
    {"learning_rate": "lin_0.001"},
    {"n_steps": 48},
    {"n_envs": 3},
    {"batch_size": 48},
    {"gamma": 0.9},
    {"gae_lambda": 0.5, "n_epochs": 7, "ent_coef": 0.0},
    {"normalize": {"norm_reward": False}},
    {"policy_kwargs": {"net_arch": [16], "log_std_init": -1}},
    {"policy_kwargs": {"activation_fn": "elu"}},
    {"desired_kl": 0.5},
    {"max_grad_norm": 9.0, "vf_coef": 0.1},
]


def ends_of(parameter: Parameter) -> tuple[Any, ...]:
    return parameter.options if isinstance(parameter, Choice) else (parameter.low, parameter.high)


@pytest.mark.parametrize("fixed", FIXED)
def test_what_is_fixed_is_in_every_trial_and_is_not_searched(fixed: dict[str, Any]) -> None:
    space = TuningSpace.of("adaptive_clip_ppo", "CartPole-v1", 50_000, fixed)
    free = TuningSpace.of("adaptive_clip_ppo", "CartPole-v1", 50_000)
    for seed in range(1):
        point = propose(space.parameters, [], sampler="random", seed=seed)
        entry = space.entry(point)
        Experiment("adaptive_clip_ppo", "CartPole-v1", entry)
        kwargs = entry["policy_kwargs"]
        assert {name: kwargs[name] for name in fixed.get("policy_kwargs", {})} == fixed.get("policy_kwargs", {})
        others = {name: value for name, value in fixed.items() if name != "policy_kwargs"}
        assert {name: entry[name] for name in others} == others
        # What a parameter decides differs between its ends; a parameter without effect would be searched in vain
        point["own_critic"] = True  # without which its passes and its rate decide nothing
        for name in space.parameters:
            ends = [
                space.entry(
                    {**point, name: propose({name: space.parameters[name]}, [], sampler="random", seed=n)[name]}
                )
                for n in range(12)
            ]
            assert any(end != ends[0] for end in ends), f"{name} decides nothing"
    assert list(space.default_params) == list(space.parameters)
    assert set(space.parameters) <= set(free.parameters)


def test_the_same_run_under_two_names_is_one_cell(tmp_path: Path) -> None:
    """A cell is what decides a run's outcome, which a name does not."""
    study = study_of("clip_ppo", {"as_it_is": {"algorithm": "clip_ppo"}}, {"own_critic": OWN_CRITIC})
    decisions = Decisions.of(study, "test", f"sqlite:///{tmp_path / 'study.db'}")
    plain, same, other = (
        track.pair.test_cell(dict(track.pair.space.default), track.pair.seeds.test[0]) for track in decisions.tracks
    )
    assert [track.pair.algorithm for track in decisions.tracks] == ["clip_ppo", "as_it_is", "own_critic"]
    assert plain.key == same.key != other.key
    assert other.algorithm == "clip_ppo"
    assert isinstance(other, Cell)


def test_the_name_stands_in_every_file_of_the_results(ranked: Path) -> None:
    content = json.loads((ranked / "ranking.json").read_text())
    assert {line["algorithm"] for line in content["ranking"]} == {"joint_critic", "own_critic", "trpo", "ppo"}
    assert content["protocol"]["configurations"] == {
        "joint_critic": JOINT_CRITIC,
        "own_critic": OWN_CRITIC,
        "trpo": TRPO,
    }
    (own,) = [line for line in content["ranking"] if line["algorithm"] == "own_critic"]
    best = own["best"]["CartPole-v1"]["entry"]
    assert (best["critic_epochs"], best["critic_learning_rate"]) == (4, 0.001)
    assert own["difference_from_trpo"] is not None, "fixed values do not make it another reference"
    assert "own_critic" in {row["algorithm"] for row in csv.DictReader((ranked / "ranking.csv").open())}
    words = "own_critic: clip_ppo with critic_epochs 4, critic_learning_rate 0.001"
    assert f"- {words}" in (ranked / "ranking.md").read_text()
    text = (ranked / "best.yml").read_text()
    assert "# clip_ppo with critic_epochs 4, critic_learning_rate 0.001\nown_critic:\n" in text
    assert yaml.safe_load(text)["own_critic"]["CartPole-v1"] == best
    page = write_report(ranked).read_text()
    assert words in page


def test_the_report_leads_back_to_the_study_and_says_what_was_given(ranked: Path) -> None:
    content = json.loads((ranked / "ranking.json").read_text())
    again = yaml.safe_load(study_yaml(content["protocol"], ["CartPole-v1"]))
    assert Study.model_validate(again).algorithms == study_of(*ENTRIES).algorithms
    content["protocol"]["critics"] |= {"own_critic": {"x": "joint"}, "joint_critic": {"x": "joint"}}
    (critics,) = [answer for answer in checklist(content) if "train its critic" in answer.claim]
    assert not critics.holds, "TRPO alone has a critic of its own then"
    (answer,) = [
        answer for answer in checklist(content) if "did not" in answer.claim or "others do not" in answer.claim
    ]
    assert not answer.holds
    assert "own_critic (clip_ppo with critic_epochs 4" in answer.evidence
    assert "trpo (trpo with n_critic_updates 20)" in answer.evidence


def test_protocols_of_studies_without_configurations_stay_as_they_were() -> None:
    protocol = protocol_of("small", study_of("ppo", "trpo"))
    assert protocol["algorithms"] == ["ppo", "trpo"]
    assert "configurations" not in protocol


def test_registered_configurations_keep_their_order() -> None:
    """A study that is made again from its folder has them from its protocol, and writes them to best.yml."""
    study = study_of("ppo")
    registered = study.space("ppo", "CartPole-v1").default
    assert list(registered) != sorted(registered)
    assert list(protocol_of("small", study)["registered_configurations"]["ppo"]["CartPole-v1"]) == list(registered)


def test_export_takes_the_best_configuration_of_an_algorithm_and_names_it(ranked: Path, tmp_path: Path) -> None:
    exported = export(ranked, tmp_path)
    content = json.loads((ranked / "ranking.json").read_text())
    names = [line["algorithm"] for line in content["ranking"] if line["algorithm"].endswith("critic")]
    (best,) = [line["best"] for line in content["ranking"] if line["algorithm"] == names[0]]
    assert sorted(path.name for path in exported.written) == ["clip_ppo.yml", "ppo.yml", "trpo.yml"]
    text = (tmp_path / "clip_ppo.yml").read_text()
    assert yaml.safe_load(text) == {"CartPole-v1": best["CartPole-v1"]["entry"]}
    assert f"ranked as {names[0]}, the registered configuration" in text
    assert exported.skipped == [f"{names[1]}: {names[0]}, of the same algorithm, ranks before it"]
    words = "the registered configuration with n_critic_updates 20"
    assert f": {words}, runs of 20000 steps" in (tmp_path / "trpo.yml").read_text()
    assert f"# {words}; runs of 20000 steps" in (ranked / "best.yml").read_text()


def test_a_dry_run_says_what_the_names_mean(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["rank", written(tmp_path, *ENTRIES), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "own_critic: clip_ppo with critic_epochs 4" in result.stdout
