"""register(): explicit, idempotent, careful; and what works without rl_zoo3."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import rl_zoo3
import rl_zoo3.enjoy
import rl_zoo3.exp_manager
import rl_zoo3.hyperparams_opt
import rl_zoo3.train
from stable_baselines3 import PPO

from sb3_ppo_variants.registry import FAMILIES, VARIANTS
from sb3_ppo_variants.zoo import register
from sb3_ppo_variants.zoo.manager import ExperimentManager, ZooExperimentManager

ALGOS = rl_zoo3.ALGOS
SAMPLERS = rl_zoo3.hyperparams_opt.HYPERPARAMS_SAMPLER
OURS = {**VARIANTS, **FAMILIES}
ZOOS_SAMPLERS = {
    "ppo": rl_zoo3.hyperparams_opt.sample_ppo_params,
    "trpo": rl_zoo3.hyperparams_opt.sample_trpo_params,
}


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """rl_zoo3 as it is installed, whatever earlier tests did."""
    for name in OURS:
        monkeypatch.delitem(ALGOS, name, raising=False)
        monkeypatch.delitem(SAMPLERS, name, raising=False)
    for name, sampler in ZOOS_SAMPLERS.items():
        monkeypatch.setitem(SAMPLERS, name, sampler)
    for place in (rl_zoo3.exp_manager, rl_zoo3.train):
        monkeypatch.setattr(place, "ExperimentManager", ZooExperimentManager)
    for name in ("ALGOS", "create_test_env"):
        monkeypatch.setattr(rl_zoo3.enjoy, name, getattr(rl_zoo3, name))


def state() -> list[Any]:
    managers = [rl_zoo3.exp_manager.ExperimentManager, rl_zoo3.train.ExperimentManager]
    callbacks = [rl_zoo3.exp_manager.EvalCallback, rl_zoo3.exp_manager.TrialEvalCallback]
    return [dict(ALGOS), dict(SAMPLERS), managers, callbacks, rl_zoo3.enjoy.ALGOS, rl_zoo3.enjoy.create_test_env]


@pytest.mark.usefixtures("unregistered")
def test_every_variant_and_form_is_known_beside_the_zoos_algorithms() -> None:
    zoos, zoos_samplers = dict(ALGOS), dict(SAMPLERS)
    register()
    assert dict(ALGOS) == zoos | {name: algorithm.cls for name, algorithm in OURS.items()}
    assert len(OURS) == 4 * len(VARIANTS) - 2  # RPO shifts a Gaussian, and masks are for choices
    assert ALGOS["ppo"] is PPO
    assert set(SAMPLERS) == set(zoos_samplers) | set(OURS)
    untouched = zoos_samplers.keys() - ZOOS_SAMPLERS
    assert {name: SAMPLERS[name] for name in untouched} == {name: zoos_samplers[name] for name in untouched}
    assert rl_zoo3.train.ExperimentManager is ExperimentManager


@pytest.mark.usefixtures("unregistered")
def test_what_is_registered_later_is_known_to_enjoy(monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    monkeypatch.setitem(ALGOS, "foreign", Foreign)
    assert rl_zoo3.enjoy.ALGOS["foreign"] is Foreign
    assert list(rl_zoo3.enjoy.ALGOS) == list(ALGOS)


@pytest.mark.usefixtures("unregistered")
def test_registering_twice_changes_nothing() -> None:
    register()
    once = state()
    register()
    assert state() == once


class Foreign(PPO):
    """Somebody else's algorithm."""


class ForeignManager(ZooExperimentManager):
    """Somebody else's manager."""


FOREIGN: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "ALGOS['spo']": lambda patch: patch.setitem(ALGOS, "spo", Foreign),
    "HYPERPARAMS_SAMPLER['spo']": lambda patch: patch.setitem(SAMPLERS, "spo", print),
    "HYPERPARAMS_SAMPLER['ppo']": lambda patch: patch.setitem(SAMPLERS, "ppo", print),
    "rl_zoo3.enjoy.create_test_env": lambda patch: patch.setattr(rl_zoo3.enjoy, "create_test_env", print),
    "rl_zoo3.train.ExperimentManager": lambda patch: patch.setattr(rl_zoo3.train, "ExperimentManager", ForeignManager),
}


@pytest.mark.usefixtures("unregistered")
@pytest.mark.parametrize("place", FOREIGN)
def test_a_foreign_entry_is_named_and_nothing_is_changed(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FOREIGN[place](monkeypatch)
    before = state()
    with pytest.raises(ValueError, match="not this package's") as error:
        register()
    assert place in str(error.value)
    assert state() == before


WITHOUT_RL_ZOO3 = """
import sys

class Blocker:
    asked = False

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "rl_zoo3":
            Blocker.asked = True
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())

from sb3_ppo_variants import SPO
from sb3_ppo_variants.cli import main
from sb3_ppo_variants.zoo import register

print("asked for on import:", Blocker.asked)

def run(*arguments):
    sys.argv = ["ppo-variants", *arguments]
    try:
        main()
    except SystemExit as error:
        print(arguments[0], "ended with", error.code)

SPO("MlpPolicy", "CartPole-v1", n_steps=64).learn(64)
run("list")
print("asked for by what needs none:", Blocker.asked)
for command in ("train", "optimize", "enjoy", "push-to-hub", "plot-train"):
    run(command, "--help")
try:
    register()
except ImportError as error:
    print(error, file=sys.stderr)
"""


@pytest.mark.end_to_end
def test_without_rl_zoo3_the_rest_works_and_its_commands_say_what_to_type() -> None:
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_RL_ZOO3], capture_output=True, text=True, timeout=120, check=False
    )
    install = 'rl_zoo3: pip install "sb3-ppo-variants[zoo]"'
    commands = ["train", "optimize", "enjoy", "push-to-hub", "plot-train"]
    refusals = [f"ppo-variants: {command} needs {install}" for command in commands]
    assert process.stderr.splitlines() == [*refusals, f"rl_zoo3's commands need {install}"]
    lines = process.stdout.splitlines()
    assert "trust_region_ppo" in process.stdout
    assert lines[0] == "asked for on import: False"
    assert lines[-7:-5] == ["list ended with 0", "asked for by what needs none: False"]
    assert lines[-5:] == [f"{command} ended with 2" for command in commands]
