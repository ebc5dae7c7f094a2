"""One finished study for all tests that read one."""

import shutil
from pathlib import Path

import pytest
from finished_study import finished


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished study that nobody may change."""
    folder = tmp_path_factory.mktemp("finished") / "made_up"
    finished(folder, trials=10, failing=("trpo", "Acrobot-v1"))
    return folder


@pytest.fixture
def finished_study(finished_once: Path, tmp_path: Path) -> Path:
    """Folder of a finished study, to do with as one likes."""
    return Path(shutil.copytree(finished_once, tmp_path / "made_up", ignore=shutil.ignore_patterns("cells")))
