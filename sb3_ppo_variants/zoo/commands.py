"""rl_zoo3's scripts as commands: its options unchanged, the variants beside its own algorithms."""

import argparse
import importlib
import runpy
import sys
import sysconfig
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from difflib import get_close_matches
from traceback import walk_tb
from types import TracebackType

import gymnasium as gym
import yaml

from sb3_ppo_variants.registry import IMPOSSIBLE, get_algorithm, plugins
from sb3_ppo_variants.update_parts.errors import NonFiniteUpdateError
from sb3_ppo_variants.zoo import INSTALL, idle_options, rendering, resuming, workarounds

Workaround = Callable[[], AbstractContextManager[None]]

# Whose errors of these kinds are about what was typed, in a message that says enough
_USER_ERRORS = (
    ValueError,
    AssertionError,
    ImportError,
    NotImplementedError,
    OSError,
    gym.error.Error,
    yaml.YAMLError,
    NonFiniteUpdateError,
)
_PACKAGES = (
    "rl_zoo3",
    "sb3_ppo_variants",
    "stable_baselines3",
    "sb3_contrib",
    "gymnasium",
    "huggingface_hub",
    "huggingface_sb3",
    "optuna",
    "yaml",
)
_HTTP_PACKAGES = ("httpx", "httpx2", "requests")  # what huggingface_hub has used so far
_HINTS = {
    "No model found": "was it trained, and did its run come to its end? --exp-id N chooses another run",
    "empty sequence": "it needs two runs or more of each algorithm on each environment in what all-plots saved",
    "optunahub": "pip install optunahub",
    "install rliable": "it has to fit to pandas: ppo-variants doctor says what to type",
}
_STDLIB = ("<frozen", sysconfig.get_path("stdlib"))


@dataclass(frozen=True)
class Command:
    """A script of rl_zoo3.

    :param help: one line
    :param module: the script
    :param function: what of it to call; None: it has no function and runs as a program
    :param workarounds: what has to be mended around it
    :param needs: modules that it needs late or does not declare; without them it stops before any work
    :param first_arguments: arguments before the user's
    :param films: whether it draws frames in memory
    :param required: options that it crashes without, each in its short and its long form
    """

    help: str
    module: str
    function: str | None = None
    workarounds: tuple[Workaround, ...] = ()
    needs: tuple[str, ...] = ()
    first_arguments: tuple[str, ...] = ()
    films: bool = False
    required: tuple[tuple[str, str], ...] = ()


_PLOTS = (workarounds.without_broken_rliable, workarounds.figures_in_files)
_PLOTS_NEED = ("seaborn", "matplotlib", "pandas", "scipy")

COMMANDS: Mapping[str, Command] = {
    "train": Command(
        "Train an agent: hyperparameters by environment, logs and models in logs/. --resumable; --resume FOLDER.",
        "train",
        "train",
        workarounds=(resuming.resumable_runs,),
    ),
    "optimize": Command(
        "Tune hyperparameters with rl_zoo3's optimiser: train with -optimize.",
        "train",
        "train",
        needs=("pandas",),
        first_arguments=("-optimize",),
    ),
    "enjoy": Command(
        "Watch a trained agent (models of train: add -f logs).",
        "enjoy",
        "enjoy",
        workarounds=(workarounds.hub_errors,),
        needs=("requests",),
    ),
    "record-video": Command(
        "Film a trained agent.",
        "record_video",
        workarounds=(workarounds.action_masks, workarounds.gym_packages),
        needs=("moviepy",),
        films=True,
    ),
    "record-training": Command(
        "Film an agent at every checkpoint of its training.",
        "record_training",
        workarounds=(
            workarounds.own_subprocesses,
            workarounds.bundled_ffmpeg,
            workarounds.absolute_output_folder,
        ),
        needs=("moviepy", "imageio_ffmpeg"),
        films=True,
    ),
    "push-to-hub": Command(
        "Upload a trained agent, its video and its model card to the Hugging Face hub.",
        "push_to_hub",
        workarounds=(
            workarounds.action_masks,
            workarounds.gym_packages,
            workarounds.hub_metadata,
            workarounds.bundled_ffmpeg,
        ),
        needs=("moviepy", "imageio_ffmpeg"),
        films=True,
    ),
    "load-from-hub": Command(
        "Download a trained agent from the Hugging Face hub.",
        "load_from_hub",
        workarounds=(workarounds.hub_errors,),
        needs=("requests",),
    ),
    "benchmark": Command(
        "Evaluate every trained agent of a folder.",
        "benchmark",
        workarounds=(workarounds.own_subprocesses, workarounds.environment_names, workarounds.hub_errors),
        needs=("requests", "pandas", "matplotlib"),
    ),
    "plot-train": Command("Plot training curves.", "plots.plot_train", "plot_train", _PLOTS, _PLOTS_NEED),
    "all-plots": Command(
        "Plot evaluations of several runs.",
        "plots.all_plots",
        "all_plots",
        _PLOTS,
        _PLOTS_NEED,
        required=(("-a", "--algos"), ("-e", "--env"), ("-f", "--exp-folders")),
    ),
    "plot-from-file": Command(
        "Plot what all-plots saved.",
        "plots.plot_from_file",
        "plot_from_file",
        _PLOTS,
        _PLOTS_NEED,
        required=(("-i", "--input"),),
    ),
}


def run(name: str, arguments: Sequence[str]) -> None:
    """Run a command of rl_zoo3 in this process.

    :param name: one of :data:`COMMANDS`
    :param arguments: rl_zoo3's own options
    :raises ValueError: if something is not installed, or what was typed makes no sense to rl_zoo3
    """
    command = COMMANDS[name]
    sys.argv = [f"ppo-variants {name}", *command.first_arguments, *arguments]
    try:
        _check_installed(name, command)
        from sb3_ppo_variants.zoo import register  # with it come PyTorch and SB3: not for those who ask for help

        register()
    except ImportError as error:
        raise ValueError(str(error)) from error
    _check_options(command, arguments)
    _check_company(name, arguments)
    try:
        with ExitStack() as stack:
            for workaround in command.workarounds:
                stack.enter_context(workaround())
            _call(command)
    except (NameError, SyntaxError) as error:
        if not _is_evaluated_text(error.__traceback__):
            raise
        raise ValueError(
            f"{error}: -params and --env-kwargs take name:value, and rl_zoo3 evaluates the value as Python, so text "
            "needs quotes inside the shell's, as in -params engine:\"'auto'\"."
        ) from error
    except Exception as error:
        if not _is_about_input(error):
            raise
        raise ValueError(f"{error}{_hint(name, arguments, error)}") from error


def _hint(name: str, arguments: Sequence[str], error: Exception) -> str:
    """Say what is missing most often."""
    if _defined_in(error) == "sqlalchemy":
        return " (--storage takes a URL such as sqlite:///study.db, or a file such as study.log)"
    if _defined_in(error) in _HTTP_PACKAGES:
        return " (the Hugging Face hub could not be reached)"
    if isinstance(error, ModuleNotFoundError) and "--gym-packages" in arguments:
        return f" (if it lies in this folder: python -m sb3_ppo_variants {name} ...)"
    options = {"enjoy": "-f", "record-video": "-f", "record-training": "-f", "benchmark": "--log-dir"}
    if name in options and not any(argument.startswith(("-f", "--f", "--log-dir")) for argument in arguments):
        # These scripts of rl_zoo3 look into rl-trained-agents, its own models
        return f" (what ppo-variants train saved is in logs: add {options[name]} logs)"
    return next((f" ({hint})" for words, hint in _HINTS.items() if words in str(error)), "")


def _call(command: Command) -> None:
    module = f"rl_zoo3.{command.module}"
    if command.function is None:
        with warnings.catch_warnings():  # enjoy imports load_from_hub, and runpy warns of what is imported already
            warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
            runpy.run_module(module, run_name="__main__")
    else:
        getattr(importlib.import_module(module), command.function)()


def _check_installed(name: str, command: Command) -> None:
    for module in ("rl_zoo3", *command.needs):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ImportError(f"{name} needs {error.name}: {INSTALL}") from error


def _check_options(command: Command, arguments: Sequence[str]) -> None:
    """Refuse what rl_zoo3 answers with all of its algorithms or a missing file, or MuJoCo by ending the process."""
    from rl_zoo3 import ALGOS

    for names in command.required:
        if not any(argument.startswith(names) for argument in arguments) and not {"-h", "--help"} & {*arguments}:
            raise ValueError(f"{sys.argv[0].removeprefix('ppo-variants ')} needs {' or '.join(names)}; -h explains it.")
    parser = argparse.ArgumentParser(add_help=False, prog=sys.argv[0])
    parser.add_argument("--algo")
    parser.add_argument("--env")
    parser.add_argument("--gym-packages", nargs="+")
    parser.add_argument("--no-render", action="store_true")
    options, _ = parser.parse_known_args(arguments)
    if options.algo is not None:
        if options.algo in {*IMPOSSIBLE, *(plugin.id for plugin in plugins())}:
            get_algorithm(options.algo)  # says why one cannot be used
        _check_known("algorithm", options.algo, ALGOS, "ppo-variants list shows ours, beside rl_zoo3's.")
    if options.env is not None and options.gym_packages is None and command.module != "load_from_hub":
        _check_known("environment", options.env, gym.registry, "is the package that registers it installed?")
    if command.module == "enjoy" and not options.no_render:
        rendering.check_window(options.env)
    elif command.films:
        rendering.prepare_film(options.env)


def _check_company(name: str, arguments: Sequence[str]) -> None:
    """Refuse options that contradict each other, and say which of them do nothing beside the others."""
    from rl_zoo3 import ALGOS
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    idle_options.refuse_contradictions(name, arguments)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--algo", default="ppo")
    algo = ALGOS.get(parser.parse_known_args(arguments)[0].algo)
    off_policy = algo is not None and issubclass(algo, OffPolicyAlgorithm)
    for line in idle_options.idle_options(name, arguments, off_policy=off_policy):
        print(f"ppo-variants {name}: {line}", file=sys.stderr)


def _check_known(what: str, name: str, known: Collection[str], otherwise: str) -> None:
    if name not in known:
        near = get_close_matches(name, known, n=3) or get_close_matches(name.lower(), known, n=3)  # a class's name
        hint = f"did you mean {' or '.join(near)}?" if near else otherwise
        raise ValueError(f"Unknown {what} {name!r}: {hint}")


def _is_about_input(error: Exception) -> bool:
    """Tell whether an error's message is about what was typed and says enough: a bug keeps its traceback."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    if isinstance(error, TypeError):  # gymnasium's, where an environment does not know an argument of --env-kwargs
        return frames[-1].f_globals.get("__name__") == "gymnasium.envs.registration"
    if _defined_in(error) in (*_HTTP_PACKAGES, "sqlalchemy"):  # no network, no such --storage
        return True
    others = (frame for frame in reversed(frames) if not _is_stdlib(frame.f_code.co_filename))
    raised_in = next((str(frame.f_globals.get("__package__")).partition(".")[0] for frame in others), "")
    return isinstance(error, _USER_ERRORS) and bool(str(error)) and raised_in in _PACKAGES


def _defined_in(error: Exception) -> str:
    return type(error).__module__.partition(".")[0]


def _is_stdlib(filename: str) -> bool:
    return filename.startswith(_STDLIB) and "site-packages" not in filename


def _is_evaluated_text(traceback: TracebackType | None) -> bool:
    """Tell whether the error was raised by the text of an option, which rl_zoo3.utils.StoreDict evaluates."""
    return any(
        frame.f_globals.get("__name__") == "rl_zoo3.utils" and frame.f_code.co_name == "__call__"
        for frame, _ in walk_tb(traceback)
    )
