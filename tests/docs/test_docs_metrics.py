"""The page of logged metrics and the code name the same keys."""

import ast
from pathlib import Path
from typing import Any

import pytest
from sitegen import metrics
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger

from sb3_ppo_variants.registry import VARIANTS

PACKAGE = Path(__file__).parents[2] / "sb3_ppo_variants"
ROOMS = ("train/", "rollout/", "time/", "eval/")


def keys_in_the_source() -> set[str]:
    """Every string constant of the package that is a whole key of a log, the conformance suite aside."""
    constants = {
        node.value
        for path in PACKAGE.rglob("*.py")
        if "testing" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text for text in constants if text.startswith(ROOMS) and text not in ROOMS}


def logged(cls: type[Any], steps: int = 64, **options: Any) -> set[str]:
    """The keys that a short run records; an episode ends after 200 steps."""
    keys: set[str] = set()

    class Spy(Logger):
        def record(self, key: str, value: Any, exclude: Any = None) -> None:
            keys.add(key)
            super().record(key, value, exclude)

    model = cls("MlpPolicy", "Pendulum-v1", n_steps=64, batch_size=32, n_epochs=1, device="cpu", **options)
    model.set_logger(Spy(None, []))
    model.learn(steps)
    return keys


def test_every_key_in_the_source_has_a_meaning() -> None:
    found = keys_in_the_source()
    assert len(found) > 20
    assert sorted(found - metrics.meanings().keys()) == []


def test_every_key_that_a_run_logs_has_a_meaning_and_none_is_made_up() -> None:
    run: set[str] = set()
    for variant in VARIANTS.values():
        run |= logged(variant.cls)
    run |= logged(VARIANTS["kl_stop_ppo"].cls, max_kl=1e-9, clip_range_vf=0.2)
    run |= logged(VARIANTS["clip_ppo"].cls, 256, critic_epochs=1)
    documented = metrics.meanings().keys()
    assert sorted(run - documented) == []
    # Of the environment or of a callback, and of a distribution without a closed form
    elsewhere = {"rollout/success_rate", "eval/mean_reward", "eval/mean_ep_length", "eval/success_rate", "train/kl_k3"}
    assert sorted(documented - run - elsewhere - keys_in_the_source()) == []


def test_sb3s_own_keys_are_those_of_sb3() -> None:
    """What the page calls SB3's is what SB3's PPO logs."""
    sb3 = logged(PPO, 256, clip_range_vf=0.2)
    ours = {
        key for key, text in metrics.meanings().items() if text.startswith("SB3's:") and not key.startswith("eval/")
    }
    assert sorted(ours - sb3 - {"rollout/success_rate"}) == []


@pytest.mark.parametrize("key", list(metrics.meanings()))
def test_every_entry_says_what_to_do_where_it_names_a_range(key: str) -> None:
    (entry,) = [group[key] for group in metrics.metrics().values() if key in group]
    assert set(entry) <= {"means", "unit", "healthy", "else"}
    assert entry["means"].endswith(".")
