"""doctor: versions, every import tried, what to type."""

import re
import sys
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sb3_ppo_variants import cli, doctor
from sb3_ppo_variants.engines.kernels import extension
from sb3_ppo_variants.zoo import rendering


@pytest.fixture(autouse=True)
def _nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a display no process is started to find out what else draws."""
    monkeypatch.setattr(rendering, "has_display", lambda: True)


def diagnosis() -> Result:
    return CliRunner().invoke(cli.app, ["doctor"], env={"COLUMNS": "160"})


def row(result: Result, name: str) -> list[str]:
    line = next(line for line in result.stdout.splitlines() if name in line)
    return re.split(r"\s{2,}", line.strip())


def break_module(name: str, code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)


def test_versions_and_states_of_what_is_there() -> None:
    result = diagnosis()
    assert result.exit_code == 0, result.stdout
    assert row(result, "stable_baselines3") == ["core", "stable_baselines3", version("stable_baselines3"), "ok"]
    assert row(result, "rl_zoo3.train") == ["zoo", "rl_zoo3.train", version("rl_zoo3"), "ok"]
    assert row(result, "register()")[-1] == "ok"
    assert sys.prefix in " ".join(result.stdout.split())


def test_every_part_that_is_optional_is_tried() -> None:
    """Whatever an extra of ours installs."""
    tops = {module.partition(".")[0] for modules in (doctor._CORE, *doctor._EXTRAS.values()) for module in modules}
    distributions = packages_distributions()
    tried = {canonical(name) for top in tops for name in distributions[top]}
    lines = [line.split(";") for line in requires("sb3-ppo-variants") or [] if "extra ==" in line]
    ours = [re.match(r"[\w.-]+", name) for name, marker in lines if re.search("tuning|zoo|dask|mujoco|box2d", marker)]
    assert {canonical(name.group()) for name in ours if name} <= tried


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_compiled_kernels_are_named_with_their_instructions_or_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_EXTRAS", {})
    if extension.why_not() is None:
        assert row(diagnosis(), "compiled kernels") == ["engine", "compiled kernels", extension.instructions(), "ok"]
    monkeypatch.setenv(extension.VARIABLE, "numpy")
    result = diagnosis()
    assert result.exit_code == 0
    assert "NumPy instead" in " ".join(row(result, "compiled kernels"))
    assert f"engine: unset {extension.VARIABLE}" in result.stdout
    monkeypatch.delenv(extension.VARIABLE)
    monkeypatch.setattr(extension, "native", None)
    result = diagnosis()
    assert result.exit_code == 0
    assert "not built" in " ".join(row(result, "compiled kernels"))
    assert "with a C compiler" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("module", "purpose", "typed"),
    [
        ("requests", "zoo", 'pip install "sb3-ppo-variants[zoo]"'),
        ("distributed", "dask", 'pip install "sb3-ppo-variants[dask]"'),
        ("minigrid", "MiniGrid", "pip install minigrid"),
    ],
)
def test_what_is_not_installed_is_no_fault_and_says_what_to_type(
    module: str, purpose: str, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(doctor, "_EXTRAS", {key: (module,) for key in doctor._EXTRAS if key == purpose})
    monkeypatch.setattr(doctor, "_CORE", ())
    result = diagnosis()
    assert result.exit_code == 0
    assert row(result, module)[-1] == "not installed"
    assert f"{purpose}: {typed}" in result.stdout


def only_seaborn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all that the doctor would try: importing that once is enough."""
    monkeypatch.setattr(doctor, "_EXTRAS", {"zoo": ("seaborn",)})
    monkeypatch.setattr(doctor, "_CORE", ())


def test_what_is_installed_and_broken_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_seaborn(monkeypatch)
    break_module("seaborn", "raise TypeError('made for another pandas')", tmp_path, monkeypatch)
    result = diagnosis()
    assert result.exit_code == 1
    assert row(result, "seaborn")[-1] == "TypeError: made for another pandas"
    assert "zoo: pip install --upgrade --force-reinstall seaborn" in result.stdout


def test_a_broken_extra_of_rl_zoo3_has_its_own_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_module("optunahub", "raise RuntimeError('broken')", tmp_path, monkeypatch)
    result = diagnosis()
    assert result.exit_code == 1
    assert "optimize --sampler auto: pip install optunahub" in result.stdout


def test_what_a_missing_module_of_another_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_seaborn(monkeypatch)
    break_module("seaborn", "import no_such_module", tmp_path, monkeypatch)
    result = diagnosis()
    assert result.exit_code == 1
    assert "no_such_module" in " ".join(row(result, "seaborn"))


def test_whether_mujoco_can_draw_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "has_display", lambda: False)
    monkeypatch.setenv("MUJOCO_GL", "nothing")
    result = diagnosis()
    assert row(result, "MuJoCo off screen")[-1] == "nothing draws"
    assert "apt-get install libegl1" in " ".join(result.stdout.split())
