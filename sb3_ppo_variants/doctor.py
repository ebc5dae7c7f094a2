"""What ``ppo-variants doctor`` looks at: every import of the package, its extras and its plug-ins, tried one by one."""

import importlib
import platform
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions, version
from typing import TYPE_CHECKING

from sb3_ppo_variants.engines.kernels import extension

if TYPE_CHECKING:
    from rich.table import Table

    from sb3_ppo_variants.plugins import Plugin

_CORE = ("torch", "stable_baselines3", "sb3_contrib", "gymnasium", "numpy", "typer", "rich", "yaml")
_EXTRAS = {
    "tuning": ("optuna", "scipy", "pydantic", "pebble", "plotly", "jinja2", "optuna_dashboard"),
    "zoo": (
        "rl_zoo3.train",
        "huggingface_sb3",
        "requests",
        "pandas",
        "matplotlib",
        "seaborn",
        "scipy",
        "moviepy",
        "imageio_ffmpeg",
        "pygame",
    ),
    "dask": ("distributed",),
    "mujoco": ("mujoco",),
    "box2d": ("Box2D",),
}
# What no extra brings: what for -> modules, what to type
_OTHERS = {
    "Atari": (("ale_py", "cv2"), 'pip install "gymnasium[atari]" opencv-python'),
    "EnvPool": (("envpool",), "pip install envpool"),
    "MiniGrid": (("minigrid",), "pip install minigrid"),
    "TensorBoard": (("tensorboard",), "pip install tensorboard"),
    "progress bars": (("tqdm",), "pip install tqdm"),
    "train --track": (("wandb",), "pip install wandb"),
    "optimize --sampler auto": (("optunahub",), "pip install optunahub"),
    # rliable 1.2 imports arch, which breaks under pandas 3
    "plot-from-file -r": (("rliable.library",), 'pip install rliable "arch<8" "pandas<3"'),
}


@dataclass(frozen=True)
class Finding:
    """One import and how it went.

    :param purpose: what it is needed for
    :param module: what was imported
    :param version: of its distribution, or the instructions that kernels use; None where that is not known
    :param problem: in a few words, None if there is none
    :param mend: what to type, empty if nothing
    :param is_broken: True if it should work and does not; an extra that is not installed is not broken
    """

    purpose: str
    module: str
    version: str | None
    problem: str | None = None
    mend: str = ""
    is_broken: bool = False


def examine() -> list[Finding]:
    """Try every import and plug-in, the compiled kernels, whether rl_zoo3 takes the variants and MuJoCo can draw."""
    findings = [_try_import("core", module) for module in _CORE]
    findings.append(_try_kernels())
    for extra, modules in _EXTRAS.items():
        findings += [_try_import(extra, module, f'pip install "sb3-ppo-variants[{extra}]"') for module in modules]
    for purpose, (modules, install) in _OTHERS.items():
        findings += [_try_import(purpose, module, install) for module in modules]
    if not any(finding.problem for finding in findings if finding.module == "rl_zoo3.train"):
        findings.append(_try_registration())
    if not any(finding.problem for finding in findings if finding.module == "mujoco"):
        findings.append(_try_drawing())
    if not any(finding.problem for finding in findings if finding.purpose == "core"):
        findings += _plugin_findings()
    return findings


def report(findings: list[Finding]) -> "Table":
    """Lay the findings out as a table.

    :param findings: of :func:`examine`
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for column in ("for", "import", "version", "state"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        row = (finding.purpose, finding.module, finding.version or "-", finding.problem or "ok")
        table.add_row(*map(escape, row), style="red" if finding.is_broken else "dim" if finding.problem else None)
    return table


def remedies(findings: list[Finding]) -> list[str]:
    """Say what to type, one line per purpose.

    :param findings: of :func:`examine`
    """
    lines = [f"{finding.purpose}: {finding.mend}" for finding in findings if finding.mend]
    return list(dict.fromkeys(lines))


def system() -> str:
    """Name this package, Python and the machine in one line."""
    from sb3_ppo_variants import __version__

    python = f"Python {platform.python_version()} in {sys.prefix}"
    return f"sb3-ppo-variants {__version__}, {python}, {platform.system()} {platform.machine()}"


def _try_import(purpose: str, module: str, install: str | None = None) -> Finding:
    """Import a module; ``install`` is what to type if it is not there, None if it has to be."""
    top = module.partition(".")[0]
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name in (top, module) and install is not None:
            return Finding(purpose, module, None, "not installed", install)
        return _broken(purpose, module, error, install or "pip install --upgrade sb3-ppo-variants")
    except Exception as error:
        distribution = (_distributions().get(top) or [top])[0]
        reinstall = f"pip install --upgrade --force-reinstall {distribution}"
        return _broken(purpose, module, error, _OTHERS[purpose][1] if purpose in _OTHERS else reinstall)
    return Finding(purpose, module, _version(module))


def _try_kernels() -> Finding:
    purpose, module = "engine", "compiled kernels"
    reason = extension.why_not()
    if reason is None:
        return Finding(purpose, module, extension.instructions())
    mend = f"unset {extension.VARIABLE}"
    if extension.native is None:
        reinstall = "pip install --force-reinstall --no-deps --no-binary sb3-ppo-variants sb3-ppo-variants"
        mend = f"{reinstall}, with a C compiler (GCC or clang)"
    return Finding(purpose, module, None, f"NumPy instead: {reason}", mend)


def _try_registration() -> Finding:
    from sb3_ppo_variants.zoo import register

    purpose, module = "zoo", "sb3_ppo_variants.zoo.register()"
    try:
        register()
    except Exception as error:
        return _broken(purpose, module, error, 'pip install --upgrade "sb3-ppo-variants[zoo]"')
    return Finding(purpose, module, None)


def _try_drawing() -> Finding:
    from sb3_ppo_variants.zoo import rendering

    drawn_by = "display" if rendering.has_display() else rendering.off_screen_renderer()
    if drawn_by is None:
        return Finding("films", "MuJoCo off screen", None, "nothing draws", rendering.MEND)
    return Finding("films", "MuJoCo off screen", drawn_by)


def _plugin_findings() -> list[Finding]:
    from sb3_ppo_variants.registry import plugins

    return [_plugin_finding(plugin) for plugin in plugins()]


def _plugin_finding(plugin: "Plugin") -> Finding:
    purpose = f"plug-in {plugin.id}"
    if plugin.problem is None:
        return Finding(purpose, plugin.origin, plugin.version)
    mend = f"pip install --upgrade {plugin.distribution}, or pip uninstall {plugin.distribution}"
    return Finding(purpose, plugin.origin, plugin.version, plugin.problem, mend, is_broken=True)


def _broken(purpose: str, module: str, error: Exception, mend: str) -> Finding:
    problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Finding(purpose, module, _version(module), problem, mend, is_broken=True)


def _version(module: str) -> str | None:
    distributions = _distributions().get(module.partition(".")[0])
    return version(distributions[0]) if distributions else None


_distributions = cache(packages_distributions)  # it reads every installed package
