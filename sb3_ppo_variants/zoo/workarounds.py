"""What does not run in rl_zoo3 2.9 and its neighbours of autumn 2026, one small function each.

Each is a context manager that mends one thing while an rl_zoo3 command runs in this process.
"""

import argparse
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute, and put the old one back at the end."""
    missing = object()
    before = getattr(owner, name, missing)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextmanager
def own_subprocesses() -> Iterator[None]:
    """Start rl_zoo3's helpers through this package.

    rl_zoo3 2.9: record_training calls ``python -m rl_zoo3.record_video`` and benchmark calls ``python enjoy.py``. They
    know no variant, ``python`` need not be this one, and the second exists in rl_zoo3's repository only.
    """
    commands = {("-m", "rl_zoo3.record_video"): "record-video", ("enjoy.py",): "enjoy"}
    packages = _import_gym_packages()
    more = ["--gym-packages", *packages] if packages else []
    original = subprocess.call

    def call(arguments: Any, *args: Any, **kwargs: Any) -> int:
        for start, command in commands.items():
            if list(arguments[: len(start) + 1]) == ["python", *start]:
                rest = (getattr(argument, "gym_id", argument) for argument in arguments[len(start) + 1 :])
                arguments = [sys.executable, "-m", "sb3_ppo_variants", command, *rest, *more]
                break
        return original(arguments, *args, **kwargs)

    with replaced(subprocess, "call", call):
        yield


@contextmanager
def gym_packages() -> Iterator[None]:
    """Let a script know ``--gym-packages``, without which environments of one's own are not there.

    Of rl_zoo3 2.9's scripts only train and enjoy know it.
    """
    _import_gym_packages()
    yield


def _import_gym_packages() -> list[str]:
    """Take ``--gym-packages`` from the command line, import what it names and return the names."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, prog=sys.argv[0])
    parser.add_argument("--gym-packages", nargs="+", default=[])
    options, rest = parser.parse_known_args(sys.argv[1:])
    sys.argv = [sys.argv[0], *rest]
    for package in options.gym_packages:
        importlib.import_module(package)
    return list(options.gym_packages)


@contextmanager
def bundled_ffmpeg() -> Iterator[None]:
    """Run the ffmpeg that imageio-ffmpeg brings, and stop when it fails.

    rl_zoo3 2.9 and huggingface_sb3 3.2 type ``ffmpeg`` into a shell, where it need not be, and go on without a result.
    """
    original: Callable[[str], int] = os.system
    program = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()

    def system(command: str) -> int:
        if not command.startswith("ffmpeg "):
            return original(command)
        code = original(re.sub(r"^ffmpeg", lambda _: f'"{program}"', command))
        if code != 0:
            raise OSError(f"ffmpeg failed with code {code}; its folders must have no blanks in their names: {command}")
        return code

    with replaced(os, "system", system):
        yield


@contextmanager
def absolute_output_folder() -> Iterator[None]:
    """Give record_training the whole path of its output folder.

    rl_zoo3 2.9 tells ffmpeg of films in ``folder`` by a list that lies in it, where ``folder/film`` means another file.
    """
    flags = ("-o", "--output-folder")
    arguments = ["", *(word for argument in sys.argv for word in _flag_and_value(argument, flags))]
    sys.argv = [os.path.abspath(argument) if before in flags else argument for before, argument in pairwise(arguments)]
    yield


def _flag_and_value(argument: str, flags: tuple[str, ...]) -> list[str]:
    flag, equals, value = argument.partition("=")
    return [flag, value] if equals and flag in flags else [argument]


@contextmanager
def figures_in_files() -> Iterator[None]:
    """Save the figures of rl_zoo3.plots where no window can open, and stop where they are empty.

    rl_zoo3 2.9 draws them, shows nothing, says nothing, and most of its plots have no option for a file.
    """
    from matplotlib import pyplot as plt

    show = plt.show

    def save() -> None:
        figures = {plt.figure(number).get_label() or number: plt.figure(number) for number in plt.get_fignums()}
        if not any(axes.has_data() for figure in figures.values() for axes in figure.axes):
            raise ValueError(
                "There is nothing to plot: are there runs of this algorithm and environment in the folder, with more "
                "episodes than plot-train's window (-w), and evaluations (train's --eval-freq) for all-plots?"
            )
        if plt.get_backend().lower() != "agg":
            return show()
        for label, figure in figures.items():
            path = f"{re.sub(r'[^A-Za-z0-9]+', '-', str(label)).strip('-').lower()}.png"
            figure.savefig(path)
            print(f"Saved {path}, since no window can open here")
        return None

    with replaced(plt, "show", save):
        try:
            yield
        finally:
            plt.close("all")


@contextmanager
def action_masks() -> Iterator[None]:
    """Give action masks to a script that runs as a program and plays; enjoy has them from ``register()``."""
    import rl_zoo3.utils

    with ExitStack() as stack:
        from sb3_ppo_variants.zoo.masks import names_for_playing  # with it comes SB3

        for name, value in names_for_playing().items():
            for owner in (rl_zoo3, rl_zoo3.utils):  # such a script imports from both, when it runs
                stack.enter_context(replaced(owner, name, value))
        yield


@contextmanager
def environment_names() -> Iterator[None]:
    """Let benchmark find the folders of environments with a slash in their name.

    rl_zoo3 2.9 looks for ``ALE/Pong-v5`` where it trained ``ALE-Pong-v5``.
    """
    import rl_zoo3.utils

    name_of = importlib.import_module("huggingface_sb3").EnvironmentName
    original = rl_zoo3.utils.get_trained_models

    def get_trained_models(log_folder: str) -> dict[str, tuple[str, str]]:
        return {model: (algo, name_of(env_id)) for model, (algo, env_id) in original(log_folder).items()}

    with replaced(rl_zoo3.utils, "get_trained_models", get_trained_models):
        yield


@contextmanager
def hub_metadata() -> Iterator[None]:
    """Give push_to_hub the function that it imports, and a model card with commands that work.

    rl_zoo3 2.9 imports ``generate_metadata``, which huggingface_sb3 3 renamed; it returns an object now, and writing
    that as YAML makes a card which the hub cannot read. The card's text names rl_zoo3's commands, unknown to variants.
    """
    import huggingface_hub.repocard

    hub = importlib.import_module("huggingface_sb3.push_to_hub")  # the package has a function of that name
    save = huggingface_hub.repocard.metadata_save

    def generate_metadata(*args: Any) -> dict[str, Any]:
        card: dict[str, Any] = hub._generate_metadata(*args).to_dict()
        return card

    def metadata_save(local_path: Any, data: dict[str, Any]) -> None:
        text = local_path.read_text(encoding="utf-8")
        local_path.write_text(_with_own_commands(text), encoding="utf-8")
        save(local_path, data)

    with (
        replaced(hub, "generate_metadata", generate_metadata),
        replaced(huggingface_hub.repocard, "metadata_save", metadata_save),
    ):
        yield


def _with_own_commands(card: str) -> str:
    card = re.sub(r"python -m rl_zoo3\.(\w+)", lambda match: f"ppo-variants {match[1].replace('_', '-')}", card)
    return card.replace("pip install rl_zoo3", 'pip install "sb3-ppo-variants[zoo]"')


@contextmanager
def hub_errors() -> Iterator[None]:
    """Let load_from_hub go on when a model has no VecNormalize statistics.

    rl_zoo3 2.9 waits for requests' HTTPError, huggingface_hub 1 and later raise httpx's.
    """
    from huggingface_hub.errors import HfHubHTTPError
    from requests.exceptions import HTTPError

    places = [importlib.import_module(name) for name in ("huggingface_sb3", "rl_zoo3.load_from_hub")]
    original = places[0].load_from_hub

    def load_from_hub(repo_id: str, filename: str) -> str:
        try:
            path: str = original(repo_id, filename)
        except HfHubHTTPError as error:
            raise HTTPError(str(error)) from error
        return path

    with ExitStack() as stack:
        for place in places:
            stack.enter_context(replaced(place, "load_from_hub", load_from_hub))
        yield


@contextmanager
def without_broken_rliable() -> Iterator[None]:
    """Hide an rliable that cannot be imported; the plots that need it say so.

    rl_zoo3 2.9 treats rliable as optional, but rliable 1.2 needs arch, which raises a TypeError under pandas 3.
    """
    try:
        importlib.import_module("rliable.library")
    except ImportError:
        pass
    except TypeError:
        for name in [name for name in sys.modules if name.partition(".")[0] in ("rliable", "arch")]:
            del sys.modules[name]
        modules: dict[str, Any] = sys.modules
        modules["rliable"] = None  # importing it is an ImportError from now on
    yield
