"""Studies for all tests that read one."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import storages  # noqa: F401 -- quick databases
from finished_study import finished
from once import made_once
from sb3_ppo_variants.tuning.ranking import power
from tuning_helpers import SMALL_STUDY
from typer.testing import CliRunner

from sb3_ppo_variants.cli import app


@pytest.fixture(scope="session", autouse=True)
def _few_simulations() -> Iterator[None]:
    """Each report simulates two hundred studies for one sentence; what it says is tested where it is made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(power, "_STUDIES", 10)
        yield


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished study that nobody may change."""

    def make(folder: Path) -> None:
        finished(folder / "made_up", trials=10, failing=("trpo", "Acrobot-v1"))

    return made_once(tmp_path_factory, "finished_once", make) / "made_up"


@pytest.fixture
def finished_study(finished_once: Path, tmp_path: Path) -> Path:
    """Folder of a finished study, to do with as one likes."""
    return Path(shutil.copytree(finished_once, tmp_path / "made_up", ignore=shutil.ignore_patterns("cells")))


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of seconds, as a file."""
    path = tmp_path_factory.mktemp("study") / "small.yml"
    path.write_text(SMALL_STUDY)
    return path


@pytest.fixture(scope="session")
def ranked_once(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder and output of ``study``, ranked by the command with one worker and nothing in its way."""

    def rank(folder: Path) -> None:
        done = CliRunner().invoke(app, ["rank", str(study), "--out", str(folder / "out"), "--workers", "1"])
        assert done.exit_code == 0, done.output
        (folder / "stdout").write_text(done.stdout, "utf-8")

    folder = made_once(tmp_path_factory, "ranked_once", rank)
    return folder / "out", (folder / "stdout").read_text("utf-8")


@pytest.fixture
def ranked(ranked_once: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of that folder, to do with as one likes."""
    return Path(shutil.copytree(ranked_once[0], tmp_path / "ranked"))
