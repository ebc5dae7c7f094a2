"""train --resumable and train --resume FOLDER: runs of the variants that can be killed and taken up again."""

import argparse
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sb3_ppo_variants.zoo.resumable_folder import read_arguments
from sb3_ppo_variants.zoo.workarounds import replaced


@contextmanager
def resumable_runs() -> Iterator[None]:
    """Take our two options from the command line, and let rl_zoo3's train do what they say.

    :raises ValueError: if a folder holds no such run, or there are options beside it
    """
    parser = argparse.ArgumentParser(prog=sys.argv[0], add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)
    own = parser.add_argument_group("options of ppo-variants, before those of rl_zoo3")
    own.add_argument(
        "--resumable",
        nargs="?",
        type=int,
        const=0,
        metavar="STEPS",
        help="keep the run so that it can be resumed, at least every STEPS environment steps (default: a twentieth of "
        "the run); its environments are reset each time",
    )
    own.add_argument(
        "--resume",
        type=Path,
        metavar="FOLDER",
        help="go on with the run of this folder, such as logs/spo/CartPole-v1_1, to the end that it would have had",
    )
    options, rest = parser.parse_known_args(sys.argv[1:])
    if {"-h", "--help"} & {*rest}:
        print(parser.format_help())
    if options.resume is not None:
        if rest or options.resumable is not None:
            raise ValueError("--resume takes all options from the run that it goes on with: leave the others out.")
        every, rest = read_arguments(options.resume)
    elif options.resumable is not None:
        every, rest = options.resumable, _with_seed(rest)
    else:
        yield
        return
    sys.argv = [sys.argv[0], *rest]
    import rl_zoo3.train

    from sb3_ppo_variants.zoo.resumable_experiment import ResumableExperiment

    experiment = partial(ResumableExperiment, every=every, arguments=rest, folder=options.resume)
    with replaced(rl_zoo3.train, "ExperimentManager", experiment):
        yield


def _with_seed(arguments: list[str]) -> list[str]:
    """Draw the run's seed here where none is given: rl_zoo3 would draw another one at the resume."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--seed", type=int, default=-1)
    options, _ = parser.parse_known_args(arguments)
    return arguments if options.seed >= 0 else [*arguments, "--seed", str(secrets.randbits(31))]
