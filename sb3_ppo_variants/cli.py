"""The command line, ``ppo-variants``: each command is a small function that imports what it needs when it runs."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from sb3_ppo_variants.registry import Algorithm

app = typer.Typer(
    name="ppo-variants",
    help="PPO variants for Stable-Baselines3: list, tune and rank them.",
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

    from sb3_ppo_variants.registry import ALGORITHMS

    Console().print(_algorithm_table(list(ALGORITHMS.values())))


def _algorithm_table(algorithms: "list[Algorithm]") -> "Table":
    """Return one row per algorithm; environments that all of them share are named once, in the caption."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from sb3_ppo_variants.experiment import registered_envs

    envs = {algorithm.id: registered_envs(algorithm.id) for algorithm in algorithms}
    common = [env for env in envs[algorithms[0].id] if all(env in names for names in envs.values())]
    table = Table(
        caption=f"The {len(common)} environments: {', '.join(common)}. All others use the default config.",
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
        more = [env for env in envs[algorithm.id] if env not in common]
        configs = ", ".join([f"the {len(common)}", *more])
        table.add_row(*map(escape, (algorithm.id, algorithm.limits_step_by, own or "-", configs)))
    return table
