"""Plug-ins in rl_zoo3's commands."""

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import rl_zoo3
from planted import ENTRIES, FILES, importable, plant
from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER
from zoo_helpers import command, refusal

from sb3_ppo_variants.registry import ALGORITHMS, FAMILIES, plugins
from sb3_ppo_variants.tuning_space import TuningSpace

BROKEN = "import no_such_module"
MY_TRPO = """
from sb3_contrib import TRPO
class MyTRPO(TRPO): pass
"""
IDS = [*ENTRIES, "my_trpo"]


@pytest.fixture
def soft_clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whole plug-ins and a broken one, which rl_zoo3 forgets afterwards."""
    folder = tmp_path_factory.mktemp("plugins")
    plant(folder, "soft-clip", ENTRIES, FILES)
    plant(folder, "thing", {"my_thing": "thing:Thing"}, {"thing.py": BROKEN})
    plant(folder, "other", {"my_trpo": "other:MyTRPO"}, {"other.py": MY_TRPO})
    with importable(folder), pytest.MonkeyPatch.context() as patch:
        for name in IDS:  # what is set here is taken away again, whatever register() makes of it
            patch.setitem(rl_zoo3.ALGOS, name, None)
            patch.setitem(HYPERPARAMS_SAMPLER, name, None)
            del rl_zoo3.ALGOS[name], HYPERPARAMS_SAMPLER[name]
        yield


@pytest.mark.usefixtures("soft_clip")
def test_optimize_searches_the_plug_ins_space_around_its_own_entry() -> None:
    few = ["-n", 64, "--eval-episodes", 1, "--no-optim-plots", "--n-evaluations", 1, "--n-trials", 1, "--seed", 1]
    storage = ["--storage", "sqlite:///study.db", "--study-name", "study"]
    command("optimize", "--algo", "soft_clip_ppo", "--env", "CartPole-v1", *few, *storage)
    (trial,) = optuna.load_study(storage=storage[1], study_name="study").trials
    assert trial.params.keys() == TuningSpace.of("soft_clip_ppo", "CartPole-v1", 64).parameters.keys()
    assert "tau" in trial.params


@pytest.mark.usefixtures("soft_clip")
def test_a_broken_plug_in_is_named_with_its_error() -> None:
    message = refusal("train", "--algo", "my_thing", "--env", "CartPole-v1")
    assert "The plug-in my_thing (thing:Thing of thing 1.5) cannot be used" in message
    assert "No module named 'no_such_module'" in message


@pytest.mark.usefixtures("soft_clip")
def test_what_only_our_loop_can_do_is_refused_to_a_class_without_it() -> None:
    message = refusal("train", "--resumable", "--algo", "my_trpo", "--env", "CartPole-v1")
    assert "my_trpo cannot be resumed, the variants can" in message


def test_no_plug_in_can_take_an_id_of_rl_zoo3(tmp_path: Path) -> None:
    zoos = sorted(rl_zoo3.ALGOS.keys() - ALGORITHMS.keys() - FAMILIES.keys())
    assert "sac" in zoos
    plant(tmp_path / "plugins", "thing", dict.fromkeys(zoos, "thing:Thing"), {"thing.py": BROKEN})
    with importable(tmp_path / "plugins"):
        assert [f"the id {plugin.id} is taken" in str(plugin.problem) for plugin in plugins()] == [True] * len(zoos)
