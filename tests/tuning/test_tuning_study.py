"""Study files: one clear line for whatever is wrong, before any work."""

from pathlib import Path

import gymnasium
import pytest
import yaml
from sb3_ppo_variants.tuning.study.costs import SPEEDS
from sb3_ppo_variants.tuning.study.study_file import Study, load_study, shipped_studies
from tuning_helpers import SMALL_STUDY

from sb3_ppo_variants.experiment import registered_entry
from sb3_ppo_variants.registry import ALGORITHMS


def write(path: Path, **changes: object) -> str:
    """The small study with some keys changed, None removing one; dots go deeper."""
    content = yaml.safe_load(SMALL_STUDY)
    for key, value in changes.items():
        *parents, name = key.split("__")
        inside = content
        for parent in parents:
            inside = inside.setdefault(parent, {})
        if value is None:
            del inside[name]
        else:
            inside[name] = value
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.yml"


def test_the_shipped_studies_are_these() -> None:
    assert shipped_studies() == [
        "arm",
        "cartpole",
        "classic",
        "critic",
        "engines",
        "mujoco",
        "options",
        "quick",
        "standard",
    ]
    quick = load_study("quick")
    assert list(quick.environments) == ["CartPole-v1"]
    assert {"ppo", "trpo"} < set(quick.algorithms)
    classic = load_study("classic")
    assert len(classic.environments) == 5
    assert classic.budget.test_seeds >= 10
    mujoco = load_study("mujoco")
    assert set(mujoco.environments) == {
        "Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Swimmer-v5", "Reacher-v5", "InvertedDoublePendulum-v5",
    }  # fmt: skip
    assert mujoco.budget.test_seeds >= 10


def test_the_study_of_the_critic_compares_each_variant_with_itself() -> None:
    study = load_study("critic")
    assert (study.budget.trials, study.budget.test_seeds) == (0, 10)
    for algorithm in ("clip_ppo", "kl_stop_ppo", "trust_region_ppo"):
        joint, own, fresh = (
            study.space(f"{algorithm}{name}", "Hopper-v5").default for name in ("", "_own_critic", "_own_critic_fresh")
        )
        critic = {"critic_epochs": 20, "critic_learning_rate": 0.001, "critic_batch_size": 128}
        assert own == {**joint, **critic}
        assert fresh == {**own, "recompute_advantages": "epoch"}
    trpo = study.space("trpo", "Hopper-v5").default
    assert (trpo["n_critic_updates"], trpo["learning_rate"], trpo["batch_size"]) == (20, 0.001, 128)


def test_the_study_of_the_engines_differs_in_nothing_else() -> None:
    study = load_study("engines")
    assert (study.budget.trials, study.budget.test_seeds) == (0, 10)
    for env_id in study.environments:
        registered = registered_entry("clip_ppo", env_id) | {"n_timesteps": study.environments[env_id].steps}
        for engine in ("torch", "numpy", "compiled"):
            assert study.space(f"clip_ppo_{engine}", env_id).default == {**registered, "engine": engine}


@pytest.mark.parametrize("name", ["quick", "cartpole", "classic", "mujoco", "standard"])
def test_shipped_studies_accept_every_registered_algorithm(name: str) -> None:
    assert list(load_study(name, algorithms=["all"]).algorithms) == list(ALGORITHMS)


@pytest.mark.parametrize("name", ["quick", "cartpole", "classic", "mujoco", "critic", "engines", "standard"])
def test_the_cost_of_shipped_studies_is_known(name: str) -> None:
    assert set(load_study(name).environments) <= set(SPEEDS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algoritms": ["ppo"]}, "unknown key algoritms"),
        ({"budget__trails": 3}, "unknown key budget.trails"),
        ({"environments__CartPole-v1__stepz": 3}, "unknown key environments.CartPole-v1.stepz"),
        ({"algorithms": None}, "algorithms is missing"),
        ({"budget__trials": None}, "budget.trials is missing"),
        ({"budget__trials": -1}, "budget.trials: .* greater than or equal to 0 .got -1."),
        ({"budget__validation_seeds": 0}, "budget.validation_seeds"),
        ({"pruner": "hyperband"}, "pruner: .*'median' or 'none'"),
        ({"budget__tuning_seeds": -1}, "budget.tuning_seeds"),
        ({"budget__test_seeds": 2.5}, "budget.test_seeds"),
        ({"budget__test_seeds": "ten"}, "budget.test_seeds: .* .got 'ten'."),
        ({"budget__trials_in_flight": 0}, "budget.trials_in_flight"),
        ({"budget__time_limit": 0}, "budget.time_limit"),
        ({"budget__time_limit": float("nan")}, "budget.time_limit"),
        ({"evaluation__episodes": 0}, "evaluation.episodes"),
        ({"evaluation__checkpoints": 0}, "evaluation.checkpoints"),
        ({"environments__CartPole-v1__steps": True}, "environments.CartPole-v1.steps"),
        ({"environments__CartPole-v1__steps": 100}, "steps is 100, but one rollout"),
        ({"environments": {}}, "environments"),
        ({"environments__CartPol-v1": {"steps": 2000}}, "CartPol-v1 cannot be made: .*CartPole-v1"),
        ({"environments__MountainCar-v0": {"steps": 4096}}, "MountainCar-v0: no normalisation is known"),
        ({"environments__CartPole-v1__random": 1.0}, "CartPole-v1: give both random and reference"),
        (
            {"environments__CartPole-v1": {"steps": 2000, "random": 1.0, "reference": 0.0}},
            "reference must be above random",
        ),
        ({"algorithms": ["ppo", "tropo"]}, "'tropo'.*trpo"),
        ({"environments__CartPole-v1__steps": "1e5"}, r"steps: .*'1e5', which YAML reads as text: write 100000\)"),
        (
            {"environments__CartPole-v1__steps": 1.0e5},
            r"steps: .*100000.0, which YAML reads as a fraction: write 100000\)",
        ),
        ({"budget__time_limit": "1.5e-1"}, r"time_limit: .*write 0.15\)"),
        ({"algorithms": ["ClipPPO"]}, "Unknown algorithm 'ClipPPO': did you mean clip_ppo[?]"),
        ({"algorithms": ["TRPO"]}, "Unknown algorithm 'TRPO': did you mean trpo[?]"),
        ({"algorithms": ["RecurrentSPO"]}, "did you mean recurrent_spo[?]"),
        ({"algorithms": ["maskable_rpo"]}, "maskable_rpo is no algorithm: masks need discrete"),
        ({"environments__fault_environments:Raise-v0": {"steps": 2000}}, r"cannot be made: .*\(near: Raises-v0"),
        ({"algorithms": ["ppo", "ppo"]}, "an algorithm is named twice"),
        ({"algorithms": []}, "algorithms"),
        ({"sampler": "grid"}, "sampler: .*'tpe', 'gp' or 'random'"),
        ({"seed": -1}, "seed"),
    ],
)
def test_whatever_is_wrong_is_said_in_one_line(path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_study(write(path, **changes))
    assert str(caught.value).startswith(f"study {path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["algorithms: [ppo", "- a\n- b\n", "", "a: b: c\n\tx"])
def test_a_file_that_is_no_study_is_said_to_be_none(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ValueError, match=r"study .*: (not valid YAML|expected keys and values)") as caught:
        load_study(str(path))
    assert "\n" not in str(caught.value)


def test_a_key_given_twice_is_refused_with_its_lines(path: Path) -> None:
    path.write_text("seed: 1\nbudget:\n  trials: 3\n  test_seeds: 3\n  trials: 4\n")
    with pytest.raises(ValueError, match=rf"study {path}: line 5: trials is given twice, first in line 3"):
        load_study(str(path))


def test_an_environment_that_cannot_be_made_is_not_near_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(env_id: str) -> None:
        raise RuntimeError("no licence")

    monkeypatch.setattr(gymnasium, "make", make)
    with pytest.raises(ValueError, match=r"CartPole-v1 cannot be made: RuntimeError: no licence \(") as caught:
        load_study(write(path))
    assert "CartPole-v1" not in str(caught.value).partition("near: ")[2].split(", ")


def test_a_study_cannot_run_code(path: Path) -> None:
    path.write_text("seed: !!python/object/apply:os.getpid []\n")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_study(str(path))


def test_an_unknown_name_lists_the_shipped_studies(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"study quik: no such file or folder, and no shipped study of that name .arm, cartpole, classic, ",
    ):
        load_study("quik")
    (tmp_path / "binary.yml").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="cannot be read"):
        load_study(str(tmp_path / "binary.yml"))


def test_the_command_may_choose_algorithms_environments_and_seed(path: Path) -> None:
    name = write(path, **{"environments__Acrobot-v1": {"steps": 8192}})
    study = load_study(name, algorithms=["trpo"], environments=["Acrobot-v1"], seed=5)
    assert (list(study.algorithms), list(study.environments), study.seed) == (["trpo"], ["Acrobot-v1"], 5)
    study = load_study(name, sampler="gp", pruner="none", tune=False)
    assert (study.sampler, study.pruner, study.budget.trials) == ("gp", "none", 0)
    with pytest.raises(ValueError, match="sampler"):
        load_study(name, sampler="cmaes")
    with pytest.raises(ValueError, match="Pendulum-v1 is not one of its environments"):
        load_study(name, environments=["Pendulum-v1"])
    with pytest.raises(ValueError, match="seed"):
        load_study(name, seed=-1)
    with pytest.raises(ValueError, match="algorithms"):
        load_study(name, algorithms=[])


def test_an_environment_outside_the_table_brings_its_own_scale(path: Path) -> None:
    own = {"steps": 4096, "random": -200.0, "reference": -110.0}
    study = load_study(write(path, **{"environments__MountainCar-v0": own}), algorithms=["ppo"])
    assert study.scale("MountainCar-v0").normalise(-155.0) == pytest.approx(0.5)


def test_a_missing_simulator_is_named_with_its_remedy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gymnasium

    def make(env_id: str) -> None:
        raise gymnasium.error.DependencyNotInstalled("Box2D is not installed")

    monkeypatch.setattr(gymnasium, "make", make)
    with pytest.raises(ValueError, match=r"CartPole-v1: Box2D is not installed.*pip install .sb3-ppo-variants\[box2d"):
        load_study(write(path))


def test_pairs_cover_every_algorithm_on_every_environment() -> None:
    study = Study.model_validate(yaml.safe_load(SMALL_STUDY))
    assert study.pairs == [("ppo", "CartPole-v1"), ("trpo", "CartPole-v1")]
