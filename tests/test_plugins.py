"""Plug-ins: found, imported when they are asked for, and never anybody else's problem."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from planted import ENTRIES, FILES, importable, plant
from typer.testing import CliRunner

from sb3_ppo_variants import ClipPPO, cli
from sb3_ppo_variants.experiment import Experiment, registered_entry, registered_envs
from sb3_ppo_variants.plugins import find_plugins
from sb3_ppo_variants.registry import ALGORITHMS, algorithms, get_algorithm, plugins

HAS_DEFAULTS = """
from sb3_ppo_variants import ClipPPO
class Thing(ClipPPO): pass
"""
NEEDS_AN_ARGUMENT = """
from sb3_ppo_variants import ClipPPO
class Thing(ClipPPO):
    def __init__(self, policy, env, *, weight, **kwargs):
        super().__init__(policy, env, **kwargs)
"""
NOT_PPO = "from stable_baselines3 import A2C as Thing"
ANOTHER_TRPO = """
from sb3_contrib import TRPO
class Thing(TRPO): pass
"""
WITHOUT_ITS_FILE = """
from sb3_ppo_variants import ClipPPO
class Thing(ClipPPO):
    zoo_config = "thing:gone"
"""


@pytest.fixture
def soft_clip(tmp_path: Path) -> Iterator[None]:
    plant(tmp_path, "soft-clip", ENTRIES, FILES)
    with importable(tmp_path):
        yield


@pytest.mark.usefixtures("soft_clip")
def test_a_plug_in_is_imported_when_it_or_something_unknown_is_asked_for() -> None:
    for algorithm_id in ("clip_ppo", "recurrent_spo", "trpo"):
        get_algorithm(algorithm_id)
    ClipPPO.from_zoo("CartPole-v1").env.close()
    assert "soft_clip" not in sys.modules
    algorithm = get_algorithm("soft_clip_ppo")
    assert algorithm.cls is sys.modules["soft_clip"].SoftClipPPO
    assert algorithm.own_parameters == {"tau": 4.0}
    assert algorithm.own_search_space.keys() == {"tau"}
    assert list(algorithms()) == [*ALGORITHMS, "other_clip_ppo", "soft_clip_ppo"]
    with pytest.raises(ValueError, match="did you mean soft_clip_ppo"):
        get_algorithm("soft_clp_ppo")


@pytest.mark.usefixtures("soft_clip")
def test_a_plug_in_brings_its_hyperparameters() -> None:
    assert registered_envs("soft_clip_ppo") == ["CartPole-v1"]
    assert registered_entry("soft_clip_ppo", "CartPole-v1")["tau"] == 3.0
    assert registered_entry("soft_clip_ppo", "Acrobot-v1")["n_steps"] == 128
    assert Experiment.from_zoo("soft_clip_ppo", "CartPole-v1", n_steps=32).hyperparameters()["n_steps"] == 32
    cls = get_algorithm("soft_clip_ppo").cls
    model = cls.from_zoo("CartPole-v1")
    assert (model.tau, model.n_steps) == (3.0, 64)
    with pytest.raises(ValueError, match="'tua' in overrides"):
        cls.from_zoo("CartPole-v1", tua=1)


@pytest.mark.usefixtures("soft_clip")
def test_a_plug_in_without_a_file_has_its_nearest_ancestors_and_is_tuned_into_its_own() -> None:
    other = get_algorithm("other_clip_ppo")
    assert registered_entry("other_clip_ppo", "Pendulum-v1") == registered_entry("clip_ppo", "Pendulum-v1")
    assert other.cls.from_zoo("CartPole-v1").n_steps == ClipPPO.from_zoo("CartPole-v1").n_steps
    assert other.tuned_file == "other_clip_ppo.yml"
    assert get_algorithm("soft_clip_ppo").tuned_file == "soft_clip_ppo.yml"
    assert get_algorithm("recurrent_clip_ppo").tuned_file == "clip_ppo.yml"


@pytest.mark.usefixtures("soft_clip")
def test_list_shows_plug_ins_behind_its_own() -> None:
    text = CliRunner().invoke(cli.app, ["list"], env={"COLUMNS": "120"}).stdout
    assert text.index("trpo ") < text.index("other_clip_ppo") < text.index("soft_clip_ppo")
    row = next(line for line in text.splitlines() if "soft_clip_ppo" in line)
    assert "soft clip" in row
    assert "tau=4.0" in row
    assert row.split()[-1] == "CartPole-v1"
    assert "soft_clip_ppo has none for" not in text


@pytest.mark.parametrize(
    ("entry", "code", "problem"),
    [
        ("thing:Thing", "import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("thing:Thing", "raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("thing:Thing", "import sys; sys.exit(3)", "SystemExit: 3"),
        ("thing:Missing", HAS_DEFAULTS, "AttributeError"),
        ("thing:Thing", "Thing = print", "is no subclass of SB3's OnPolicyAlgorithm"),
        ("thing:Thing", "from stable_baselines3 import SAC as Thing", "is no subclass of SB3's OnPolicyAlgorithm"),
        ("thing:Thing", NEEDS_AN_ARGUMENT, "Thing has no default for weight"),
        ("thing:Thing", WITHOUT_ITS_FILE, "thing/gone.yml cannot be read"),
        ("thing:Thing", NOT_PPO, "A2C has no hyperparameters: let it say zoo_config"),
    ],
    ids=lambda value: value if str(value).isprintable() and len(value) > 20 else "",
)
def test_what_is_wrong_with_a_plug_in_is_said_and_breaks_nothing_else(
    entry: str, code: str, problem: str, tmp_path: Path
) -> None:
    plant(tmp_path, "thing", {"my_thing": entry}, {"thing/__init__.py": code})
    plant(tmp_path, "soft-clip", ENTRIES, FILES)
    with importable(tmp_path):
        broken = {plugin.id: plugin for plugin in plugins()}["my_thing"]
        assert broken.cls is None
        assert problem in str(broken.problem)
        assert "\n" not in str(broken.problem)
        assert list(algorithms()) == [*ALGORITHMS, "other_clip_ppo", "soft_clip_ppo"]
        with pytest.raises(ValueError, match=r"The plug-in my_thing \(thing:\w+ of thing 1\.5\) cannot be used: ") as e:
            get_algorithm("my_thing")
        assert problem in str(e.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- CartPole-v1", "thing/thing.yml must map each environment"),
        ("CartPole-v1: 3", "thing/thing.yml must map each environment"),
        ("{", "thing/thing.yml is not valid YAML"),
    ],
)
def test_a_file_that_holds_no_hyperparameters_is_a_problem_of_its_plug_in(
    text: str, problem: str, tmp_path: Path
) -> None:
    code = WITHOUT_ITS_FILE.replace("gone", "thing")
    plant(tmp_path, "thing", {"my_thing": "thing:Thing"}, {"thing/__init__.py": code, "thing/thing.yml": text})
    with importable(tmp_path):
        (broken,) = plugins()
        assert problem in str(broken.problem)


@pytest.mark.parametrize("name", ["clip_ppo", "recurrent_spo", "trpo", "sac", "all"])
def test_an_id_that_is_taken_stays_what_it_is(name: str, tmp_path: Path) -> None:
    plant(tmp_path, "thing", {name: "thing:Thing"}, {"thing.py": HAS_DEFAULTS})
    with importable(tmp_path):
        (broken,) = plugins()
        assert f"the id {name} is taken" in str(broken.problem)
        assert "thing" not in sys.modules
        assert list(algorithms()) == list(ALGORITHMS)


@pytest.mark.parametrize("name", ["MyPPO", "my-ppo", "a,b", "../x"])
def test_an_id_that_commands_and_files_cannot_hold_is_a_problem(name: str, tmp_path: Path) -> None:
    plant(tmp_path, "thing", {name: "thing:Thing"}, {"thing.py": HAS_DEFAULTS})
    with importable(tmp_path):
        (broken,) = plugins()
        assert "is not snake_case" in str(broken.problem)


def test_two_packages_with_one_id_are_both_refused(tmp_path: Path) -> None:
    plant(tmp_path, "thing", {"my_thing": "thing:Thing"}, {"thing.py": HAS_DEFAULTS})
    plant(tmp_path, "other", {"my_thing": "other:Thing"}, {"other.py": HAS_DEFAULTS})
    with importable(tmp_path):
        assert [plugin.cls for plugin in plugins()] == [None, None]
        with pytest.raises(ValueError, match="several packages have registered the id my_thing"):
            get_algorithm("my_thing")


def test_a_class_built_on_a_baseline_has_the_baselines_hyperparameters_and_no_engine(tmp_path: Path) -> None:
    plant(tmp_path, "thing", {"my_trpo": "thing:Thing"}, {"thing.py": ANOTHER_TRPO})
    with importable(tmp_path):
        algorithm = get_algorithm("my_trpo")
        assert algorithm.config == "trpo"
        assert registered_entry("my_trpo", "CartPole-v1") == registered_entry("trpo", "CartPole-v1")
        assert not algorithm.has_engines


def test_without_entry_points_there_are_no_plug_ins() -> None:
    assert find_plugins((), {}) == ()
