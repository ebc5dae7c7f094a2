"""Plug-ins built, installed and met by the real commands, a broken one always beside them."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from once import made_once
from planted import ENTRIES, FILES

from sb3_ppo_variants.plugins import GROUP

pytestmark = pytest.mark.end_to_end

BROKEN = {
    "needs_more": "broken_plugin.needs_more:Thing",
    "no_algorithm": "broken_plugin:Thing",
    "clip_ppo": "broken_plugin:Thing",
}
BROKEN_FILES = {"broken_plugin/__init__.py": "Thing = 3\n", "broken_plugin/needs_more.py": "import no_such_module\n"}
STUDY = {
    "algorithms": ["soft_clip_ppo", "ppo"],
    "environments": {"CartPole-v1": {"steps": 256}},
    "budget": {"trials": 1, "tuning_seeds": 1, "validation_seeds": 1, "test_seeds": 2},
    "evaluation": {"episodes": 1, "checkpoints": 1},
}


def write_project(folder: Path, name: str, entries: dict[str, str], files: dict[str, str]) -> Path:
    package = next(iter(files)).partition("/")[0]
    lines = [
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"',
        f'[project]\nname = "{name}"\nversion = "1.5"',
        f'[project.entry-points."{GROUP}"]',
        *(f'{entry} = "{value}"' for entry, value in entries.items()),
        f'[tool.setuptools]\npackages = ["{package}"]',
        f'[tool.setuptools.package-data]\n{package} = ["*.yml"]',
    ]
    for file, text in {**files, "pyproject.toml": "\n".join(lines)}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two distributions, a whole and a broken one, that pip has built and installed there."""

    def install(root: Path) -> None:
        projects = [
            write_project(root / "soft", "soft-clip", ENTRIES, FILES),
            write_project(root / "broken", "broken-plugin", BROKEN, BROKEN_FILES),
        ]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        no_network = ["--no-deps", "--no-index", "--no-build-isolation"]
        subprocess.run([*pip, *no_network, "--target", root / "target", *projects], check=True)

    return made_once(tmp_path_factory, "plugins", install) / "target"


def command(installed: Path, cwd: Path, *arguments: str, code: int = 0) -> str:
    """Run the console script as a user does, and return what it printed."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ppo-variants")), *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def row(text: str, name: str) -> str:
    return " ".join(next(line for line in text.splitlines() if name in line).split())


def test_doctor_names_the_whole_and_the_broken_ones(installed: Path, tmp_path: Path) -> None:
    text = command(installed, tmp_path, "doctor", code=1)
    assert row(text, "plug-in soft_clip_ppo") == "plug-in soft_clip_ppo soft_clip:SoftClipPPO 1.5 ok"
    assert row(text, "plug-in other_clip_ppo").endswith("1.5 ok")
    assert "ModuleNotFoundError: No module named 'no_such_module'" in row(text, "plug-in needs_more")
    assert "3 is no subclass of SB3's OnPolicyAlgorithm" in row(text, "plug-in no_algorithm")
    assert "the id clip_ppo is taken" in row(text, "plug-in clip_ppo")
    assert "plug-in needs_more: pip install --upgrade broken-plugin, or pip uninstall broken-plugin" in text
    assert "sb3_ppo_variants.zoo.register() - ok" in row(text, "register()")


def test_list_shows_the_whole_ones(installed: Path, tmp_path: Path) -> None:
    text = command(installed, tmp_path, "list")
    assert "soft clip" in row(text, " soft_clip_ppo ")
    assert "needs_more" not in text


@pytest.mark.slow  # tests/zoo/test_zoo_plugins.py does so with what is not installed
def test_train_uses_the_files_hyperparameters(installed: Path, tmp_path: Path) -> None:
    command(installed, tmp_path, "train", "--algo", "soft_clip_ppo", "--env", "CartPole-v1", "--eval-freq", "-1")
    with zipfile.ZipFile(tmp_path / "logs/soft_clip_ppo/CartPole-v1_1/CartPole-v1.zip") as archive:
        saved = json.loads(archive.read("data"))
    assert (saved["tau"], saved["n_steps"], saved["num_timesteps"]) == (3.0, 64, 256)


@pytest.mark.slow
def test_rank_tunes_and_ranks_it_in_processes_of_its_own(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "study.yml").write_text(yaml.safe_dump(STUDY))
    command(installed, tmp_path, "rank", "study.yml", "--out", "out", "--workers", "1")
    ranking = json.loads((tmp_path / "out/ranking.json").read_text())
    (line,) = [line for line in ranking["ranking"] if line["algorithm"] == "soft_clip_ppo"]
    assert [run["status"] for run in line["scores"]["CartPole-v1"]] == ["ok", "ok"]
    assert line["best"]["CartPole-v1"]["entry"]["tau"] == 3.0
    # Another version is another protocol, so that results of two versions are never ranked together
    assert ranking["protocol"]["versions"]["soft-clip"] == "1.5"
    assert "broken-plugin" not in ranking["protocol"]["versions"]
