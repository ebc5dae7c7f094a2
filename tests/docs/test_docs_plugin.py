"""The worked example: a package of its own, whose tests pass and whose variant every command knows."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from planted import importable, plant
from sitegen import pictures

from sb3_ppo_variants import registry
from sb3_ppo_variants.experiment import registered_envs

EXAMPLE = Path(__file__).parents[2] / "docs/examples/soft_clip_ppo"
FILES = ("soft_clip_ppo/__init__.py", "soft_clip_ppo/soft_clip_ppo.yml")


def test_the_registry_knows_the_example_and_its_hyperparameters(tmp_path: Path) -> None:
    files = {name: (EXAMPLE / name).read_text(encoding="utf-8") for name in FILES}
    plant(tmp_path, "soft_clip_ppo", {"soft_clip_ppo": "soft_clip_ppo:SoftClipPPO"}, files)
    assert 'soft_clip_ppo = "soft_clip_ppo:SoftClipPPO"' in (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")
    with importable(tmp_path):
        algorithm = registry.get_algorithm("soft_clip_ppo")
        assert algorithm.own_parameters == {"temperature": 4.0}
        assert registered_envs("soft_clip_ppo") == ["CartPole-v1"]
        model = algorithm.cls.from_zoo("CartPole-v1", seed=0, engine="auto")  # type: ignore[attr-defined]
        assert model.engine_in_use != "torch"
        assert model.learn(256).num_timesteps == 256


def test_its_slope_is_its_objectives() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        example = import_module("soft_clip_ppo")
    model = pictures.model_of(example.SoftClipPPO, temperature=2.0)
    drawn = pictures.curve(model, -1.0).slope * pictures.RATIOS
    batch = type("Arrays", (), {"ratio": pictures.RATIOS, "advantages": np.full_like(pictures.RATIOS, -1.0)})
    assert model._surrogate_slope(batch) == pytest.approx(drawn)


@pytest.mark.slow
def test_its_own_tests_pass_where_it_is_installed(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--no-build-isolation", "--target", tmp_path, EXAMPLE], check=True)
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLE / "tests"]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    done = subprocess.run(tests, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    listed = subprocess.run(
        [Path(sys.executable).with_name("ppo-variants"), "list"],
        env=environment | {"COLUMNS": "200"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "soft_clip_ppo" in listed.stdout
