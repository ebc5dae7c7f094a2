"""What a user gets from the wheel: built from the sdist, installed beside nothing of this repository."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterable
from email.message import Message
from email.parser import Parser
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from once import made_once
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sb3_ppo_variants

pytestmark = pytest.mark.end_to_end

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = {  # directory in the repository -> where the wheel has it
    "sb3_ppo_variants": "sb3_ppo_variants",
    "tuning": "sb3_ppo_variants/tuning",
    "zoo_configs": "sb3_ppo_variants/zoo_configs",
}
WHICH_ENGINE = """
from sb3_ppo_variants import ClipPPO
from sb3_ppo_variants.engines.kernels.extension import native
model = ClipPPO("MlpPolicy", "CartPole-v1", n_steps=64, engine="auto").learn(64)
print(model.engine_in_use, native and native.__file__.rpartition("/")[2])
"""
EXTRAS = {"tuning", "zoo", "dask", "mujoco", "box2d", "docs", "test", "all"}


def run(*command: object, cwd: Path, **extra_env: str) -> str:
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "SB3_PPO_VARIANTS_KERNELS")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env | extra_env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources: an old build/ or egg-info in the repository must not feed the new wheel."""
    copy = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copytree(REPOSITORY / "native", copy / "native")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    return copy


@pytest.fixture(scope="module")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with the sdist and the wheel that `python -m build` makes from it."""

    def build(out: Path) -> None:
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, tree, cwd=out)

    return made_once(tmp_path_factory, "dist", build)


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it."""
    return made_once(tmp_path_factory, "env", lambda root: install(new_environment(root), wheel))


def install(root: Path, what: Path, *options: str, **extra_env: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", root / "bin" / "python", "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", *options, what, cwd=root, **extra_env)


def new_environment(root: Path) -> Path:
    """An environment that borrows the dependencies of the running one.

    A line in a .pth file adds a directory but does not read that directory's own .pth files, so the
    editable installation of the running environment stays out.
    """
    venv.create(root, with_pip=False, symlinks=True)
    (site_packages,) = root.glob("lib/python*/site-packages")
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    blocker = "import os, sys\nsys.modules.update(dict.fromkeys(os.environ.get('BLOCKED', '').split()))\n"
    (site_packages / "sitecustomize.py").write_text(blocker)
    return root


def direct_requirements(lines: Iterable[str], *extras: str) -> set[str]:
    requirements = map(Requirement, lines)
    return {
        canonicalize_name(requirement.name)
        for requirement in requirements
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)
    }


@pytest.fixture(scope="module")
def only_in_extras(metadata: Message) -> str:
    """Modules that are installed here but that nothing in the core's requirements brings."""
    core: set[str] = set()
    found = direct_requirements(metadata.get_all("Requires-Dist", []), "")
    while found:
        core |= found
        found = set().union(*(direct_requirements(requires(name) or [], "") for name in found)) - core
    return " ".join(
        module
        for module, distributions in packages_distributions().items()
        if core.isdisjoint(map(canonicalize_name, distributions)) and module not in SOURCES
    )


def files_to_ship(tree: Path) -> set[str]:
    return {
        f"{target}/{path.relative_to(tree / source).as_posix()}"
        for source, target in SOURCES.items()
        for path in (tree / source).rglob("*")
        if path.suffix in {".py", ".yml", ".typed", ".j2", ".css", ".js"}
    }


def test_wheel_holds_the_package_and_nothing_else(tree: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    dist_info = f"sb3_ppo_variants-{sb3_ppo_variants.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"sb3_ppo_variants", dist_info}
    # Also catches a new subpackage or data file that pyproject.toml does not list.
    expected = files_to_ship(tree) | {"sb3_ppo_variants/_kernels.abi3.so"}
    assert {name for name in names if name.startswith("sb3_ppo_variants/")} == expected
    assert f"{dist_info}/licenses/LICENSE" in names


def test_sdist_brings_all_that_the_wheel_needs(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "zoo_configs/ppo.yml", "tuning/studies/quick.yml"} <= names
    assert {"setup.py", *(f"native/{path.name}" for path in (REPOSITORY / "native").iterdir())} <= names


def test_one_wheel_serves_every_python_from_3_10(wheel: Path) -> None:
    python, abi, _platform = wheel.stem.split("-")[-3:]
    assert (python, abi) == ("cp310", "abi3")


def test_an_installation_without_a_compiler_goes_on_without_compiled_kernels(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = new_environment(tmp_path_factory.mktemp("no-compiler"))
    install(root, tree, "--no-build-isolation", CC="/bin/false")
    assert run(root / "bin" / "python", "-c", WHICH_ENGINE, cwd=root).split() == ["numpy", "None"]


def test_metadata_states_python_licence_and_extras(metadata: Message) -> None:
    assert metadata["Name"] == "sb3-ppo-variants"
    assert metadata["Version"] == sb3_ppo_variants.__version__
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "MIT"
    assert set(metadata.get_all("Provides-Extra", [])) == EXTRAS
    minors = {f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)}
    assert minors <= set(metadata.get_all("Classifier", []))


def test_constraints_pin_every_direct_requirement_that_make_installs(metadata: Message) -> None:
    """An unpinned torch would bring a CUDA build of several gigabytes."""
    pins = re.findall(r"^([\w.-]+)==\S+", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    installed_extras = ("", "tuning", "zoo", "mujoco", "box2d", "docs", "test")
    assert direct_requirements(metadata.get_all("Requires-Dist", []), *installed_extras) <= set(
        map(canonicalize_name, pins)
    )


def test_core_requirements_suffice_to_train_with_the_wheels_kernels_and_to_list(
    installed: Path, tmp_path: Path, only_in_extras: str
) -> None:
    assert {"optuna", "scipy", "mujoco", "pytest"} <= set(only_in_extras.split())
    python = installed / "bin" / "python"
    check = f"import sb3_ppo_variants.testing{WHICH_ENGINE}"
    assert run(python, "-c", check, cwd=tmp_path, BLOCKED=only_in_extras).split() == ["compiled", "_kernels.abi3.so"]
    table = run(installed / "bin" / "ppo-variants", "list", cwd=tmp_path, BLOCKED=only_in_extras, COLUMNS="200")
    for algorithm_id in ("adaptive_clip_ppo", "trust_region_ppo", "trpo"):
        assert algorithm_id in table
    assert "CartPole-v1" in table  # the shipped configs were found


def test_a_blocked_module_cannot_be_imported(installed: Path, tmp_path: Path) -> None:
    """Keeps the test above honest."""
    check = "try:\n    import optuna\nexcept ModuleNotFoundError:\n    print('blocked')"
    assert run(installed / "bin" / "python", "-c", check, cwd=tmp_path, BLOCKED="optuna") == "blocked\n"


def test_installed_configs_studies_and_harness_load_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    check = """
import importlib, pkgutil, sys
from importlib.resources import files
import yaml
import sb3_ppo_variants, sb3_ppo_variants.tuning
assert (files("sb3_ppo_variants") / "py.typed").is_file()
assert "CartPole-v1" in yaml.safe_load((files("sb3_ppo_variants.zoo_configs") / "ppo.yml").read_text())
assert yaml.safe_load((files("sb3_ppo_variants.tuning") / "studies" / "quick.yml").read_text())
for module in pkgutil.walk_packages(sb3_ppo_variants.__path__, "sb3_ppo_variants."):
    importlib.import_module(module.name)
for name, module in sorted(sys.modules.items()):
    if name.partition(".")[0] in ("sb3_ppo_variants", "tuning", "zoo_configs"):
        print(module.__file__)
"""
    files = run(installed / "bin" / "python", "-c", check, cwd=tmp_path).split()
    assert len(files) > 10
    assert [name for name in files if not Path(name).is_relative_to(installed)] == []
