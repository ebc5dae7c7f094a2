"""The command line, ``ppo-variants``: each command is a small function that imports what it needs when it runs."""

import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sb3_ppo_variants.zoo.commands import COMMANDS as ZOO_COMMANDS

if TYPE_CHECKING:
    from rich.table import Table

    from sb3_ppo_variants.registry import Algorithm
    from sb3_ppo_variants.tuning.study.study_file import StudyChoices

app = typer.Typer(
    name="ppo-variants",
    help="PPO variants for Stable-Baselines3: list, tune and rank them, train and watch them as with rl_zoo3.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; what a user got wrong ends as one line on stderr and exit code 2."""
    try:
        app()
    except ValueError as error:
        print(f"ppo-variants: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        from sb3_ppo_variants import __version__

        typer.echo(f"sb3-ppo-variants {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command("list")
def list_algorithms() -> None:
    """Show the algorithms: what limits the step, own parameters with defaults, environments with a config."""
    from rich.console import Console

    from sb3_ppo_variants.registry import algorithms

    console = Console()
    console.print(_algorithm_table(list(algorithms().values())))
    console.print(
        "Each variant has forms with the same own parameters and configs: maskable_<variant> for environments with "
        "action masks, recurrent_<variant> with an LSTM, maskable_recurrent_<variant> with both. Masks need discrete "
        "actions, so rpo has no masked form."
    )


def _algorithm_table(algorithms: "list[Algorithm]") -> "Table":
    """Return one row per algorithm; environments that most of ours have are named once, in the caption."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from sb3_ppo_variants.experiment import registered_envs

    envs = {algorithm.id: registered_envs(algorithm.id) for algorithm in algorithms}
    ours = [algorithm.id for algorithm in algorithms if algorithm.plugin is None]
    counts = Counter(env for name in ours for env in envs[name])
    common = [env for env, count in counts.items() if 2 * count > len(ours)]
    missing = {name: [env for env in common if env not in envs[name]] for name in ours}
    without = "".join(f" {name} has none for {', '.join(gaps)}." for name, gaps in missing.items() if gaps)
    table = Table(
        caption=f"The {len(common)} environments: {', '.join(common)}. All others use the default config.{without}",
        caption_justify="left",
        box=box.HORIZONTALS,
        show_lines=True,
        padding=(0, 1, 0, 0),
    )
    table.add_column("algorithm", no_wrap=True)
    table.add_column("what limits the step", min_width=15, overflow="fold")
    table.add_column("own parameters", no_wrap=True)
    table.add_column("configs", overflow="fold")
    for algorithm in algorithms:
        own = "\n".join(f"{name}={default}" for name, default in algorithm.own_parameters.items())
        names = envs[algorithm.id]
        has = len(set(common) & set(names))
        configs = [f"the {has}" if has == len(common) else f"{has}", *(env for env in names if env not in common)]
        if algorithm.plugin is not None and has < len(common):
            configs = names or ["the default"]
        table.add_row(*map(escape, (algorithm.id, algorithm.limits_step_by, own or "-", ", ".join(configs))))
    return table


@app.command()
def rank(
    study: Annotated[
        str,
        typer.Argument(
            help="A shipped study (quick, standard, cartpole, arm, classic, mujoco, critic, options, engines), a YAML "
            "file, or the folder of a study's results: the same study with the registered configurations of then."
        ),
    ],
    *,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.", show_default="runs/STUDY")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.", show_default="number of CPUs")] = None,
    dask: Annotated[
        str | None, typer.Option(help="Run on the workers of this Dask scheduler, such as tcp://10.0.0.1:8786.")
    ] = None,
    algos: Annotated[
        str | None, typer.Option(help="Rank these instead of the study's: ids with commas between, or all.")
    ] = None,
    envs: Annotated[
        str | None,
        typer.Option(help="Only these of its environments, commas between; of a folder, its shipped study's too."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the study's seed.")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="Optuna's sampler: tpe, gp or random.", show_default="the study's")
    ] = None,
    pruner: Annotated[
        str | None, typer.Option(help="Give trials up between their seeds: median or none.", show_default="the study's")
    ] = None,
    tune: Annotated[bool, typer.Option(help="Tune, or rank the registered configurations as they are.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print cells, steps and the estimated cost, and run nothing.")
    ] = False,
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage URL.", show_default="SQLite in the results' folder")
    ] = None,
) -> None:
    """Tune each algorithm, re-train its best configuration on held-out seeds, rank. The same command resumes.

    Exit codes: 0 ranked, 1 stopped, 2 something is wrong with what was typed, 3 no algorithm finished its runs.
    """
    if sys.platform == "win32":
        raise ValueError("rank runs on Linux and macOS; on Windows, run it inside WSL")
    try:
        from sb3_ppo_variants.tuning.runs.local_pool import import_ahead

        if dask is None and not dry_run:
            import_ahead()
        from sb3_ppo_variants.tuning.rank import preview
        from sb3_ppo_variants.tuning.rank import rank as run_study
    except ModuleNotFoundError as error:
        raise ValueError(f'rank needs {error.name}: pip install "sb3-ppo-variants[tuning]"') from error
    choices: StudyChoices = {
        "algorithms": _names(algos), "environments": _names(envs), "seed": seed,
        "sampler": sampler, "pruner": pruner, "tune": tune,
    }  # fmt: skip
    if dry_run:
        preview(study, workers=workers, dask=dask, **choices)
        return
    try:
        ranking = run_study(study, out=out, workers=workers, dask=dask, storage=storage, **choices)
    except KeyboardInterrupt:
        typer.echo("Stopped. Every finished run is saved; the same command goes on from there.", err=True)
        raise typer.Exit(130) from None
    except (OSError, BrokenExecutor) as error:
        typer.echo(f"ppo-variants: stopped: {error}. Every finished run is saved; the same command resumes.", err=True)
        raise typer.Exit(1) from error
    if not ranking.lines:
        raise typer.Exit(3)


_StudyFolder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder of a study's results, such as runs/quick.", show_default=False)
]


@app.command()
def report(folder: _StudyFolder) -> None:
    """Write report.html for a finished study: one page with figures and tables that needs no network."""
    with _tuning_extra("report"):
        from sb3_ppo_variants.tuning.report.page import write_report

        typer.echo(write_report(folder))


@app.command()
def plot(
    logs: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders of training logs, or of a study's results.", show_default=False),
    ],
    *,
    out: Annotated[Path, typer.Option(help="File to write: .png, .svg, .pdf or .html.")] = Path("curves.png"),
    window: Annotated[int, typer.Option(help="Episodes over which Monitor's returns are averaged.")] = 100,
) -> None:
    """Draw learning curves with bands over runs, from monitor.csv or TensorBoard files or a study's results."""
    with _tuning_extra("plot"):
        from sb3_ppo_variants.tuning.report.plot import plot as draw

        drawn = draw(logs, out, window=window)
    for label, runs in drawn.items():
        typer.echo(f"{label}: {runs} run{'s' if runs > 1 else ''}")
    typer.echo(out)


@app.command()
def compare(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR DIR...", help="Folders of finished studies.", show_default=False)
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the merged results.")] = Path("runs/compared"),
) -> None:
    """Merge studies whose protocols agree into one ranking, with the files that rank writes; nothing is run."""
    with _tuning_extra("compare"):
        from sb3_ppo_variants.tuning.compare import compare as merge

        ranking = merge(folders, out=out)
    if not ranking.lines:
        raise typer.Exit(code=3)


@app.command()
def dashboard(
    folder: _StudyFolder,
    *,
    port: Annotated[int, typer.Option(help="TCP port on this machine; 0 for any free one.")] = 8080,
) -> None:
    """Watch a study in optuna-dashboard, also while it runs; nothing is written. Ctrl-C ends it."""
    with _tuning_extra("dashboard"):
        from sb3_ppo_variants.tuning.report.dashboard import dashboard as serve

        try:
            serve(folder, port=port, announce=lambda url: typer.echo(f"{url} (Ctrl-C ends it)"))
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


@app.command()
def export(
    folder: _StudyFolder,
    *,
    to: Annotated[Path, typer.Option(help="Folder of the zoo entries.")] = Path("zoo_configs"),
    against: Annotated[
        Path | None,
        typer.Option(help="Results of the same study with --no-tune: leave out what scores no better in the mean."),
    ] = None,
) -> None:
    """Write the tuned values of a finished study as zoo entries that say where they come from."""
    with _tuning_extra("export"):
        from sb3_ppo_variants.tuning.ranking.export import export as write_entries

        exported = write_entries(folder, to, against=against)
    for path, env_ids in exported.written.items():
        typer.echo(f"{path}: {', '.join(env_ids)}")
    for reason in exported.skipped:
        typer.echo(f"Not exported: {reason}", err=True)


@contextmanager
def _tuning_extra(command: str) -> Iterator[None]:
    """Name the extra that a command needs; what the file system refused ends as one line and exit code 1."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(f'{command} needs {error.name}: pip install "sb3-ppo-variants[tuning]"') from error
    except OSError as error:
        typer.echo(f"ppo-variants: {error}", err=True)
        raise typer.Exit(1) from error


def _names(text: str | None) -> list[str] | None:
    """Split ``a,b``; None stays None."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _add_zoo_command(name: str, summary: str) -> None:
    """Add a command that hands all its options to rl_zoo3, ``--help`` included."""

    def command(context: typer.Context) -> None:
        from sb3_ppo_variants.zoo.commands import run

        run(name, context.args)

    app.command(
        name,
        help=summary,
        rich_help_panel="rl_zoo3's commands, with its options (needs the extra zoo)",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    )(command)


for _name, _command in ZOO_COMMANDS.items():
    _add_zoo_command(_name, _command.help)


@app.command()
def doctor() -> None:
    """Show versions, try every optional import, and say what to type where one fails."""
    from rich.console import Console

    from sb3_ppo_variants.doctor import examine, remedies, report, system

    findings = examine()
    typer.echo(system())
    Console().print(report(findings))
    for line in remedies(findings):
        typer.echo(line)
    if any(finding.is_broken for finding in findings):
        raise typer.Exit(1)
