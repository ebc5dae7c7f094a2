"""Do the baselines on arrays give the figures of SB3's and sb3-contrib's classes, and in what time?

For each environment of a study, each baseline and each configuration (the registered one, and others drawn from the
study's search space), one run of the class itself and one as ``rank`` trains it, with the same seed. Both are the same
run until a rounding difference flips an action, or puts a sample on the other side of a kink; from there on they are
two runs of one algorithm. The table says in which rollout the parameters parted, how close they were until then, the
CPU seconds of training, and what the final policies score in the same episodes.

How soon rounding parts two runs is no property of the arrays: TRPO's conjugate gradients, in single precision, magnify
a last bit a thousandfold. So the class is held against itself as well: a third run, in which every second advantage and
return is moved to the next number of single precision, is followed until it has parted from the first.

Runs that the CSV file has are not made again, so the command may be stopped at any time.
"""

import argparse
import csv
import io
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from reporting import footer, machine, markdown, one_thread, positive, versions

os.environ.update(one_thread())  # before NumPy and torch make their thread pools

import numpy as np
import optuna
import torch
from sb3_ppo_variants.tuning.decisions.proposals import propose
from sb3_ppo_variants.tuning.runs.cell import Evaluation, LearningCurve, trained_class, whole_rollouts
from sb3_ppo_variants.tuning.study.study_file import Study, load_study
from stable_baselines3.common.callbacks import BaseCallback

from sb3_ppo_variants.entries.entry import Entry
from sb3_ppo_variants.registry import get_algorithm

ALGORITHMS = ("ppo", "trpo")
FOLLOWED = 256
"""Parameters that are followed, evenly spread over the policy: all of them in every rollout would not fit in memory."""
PARTED = 1e-3
"""Difference, relative to the parameters' root mean square, that is more than rounding."""


@dataclass(frozen=True)
class Row:
    """A configuration run by the class, and on arrays; everything as text.

    :param configuration: "registered", or the number of a draw
    :param engine: what ran on arrays: "compiled", "numpy", or "torch" where the class had to
    :param parted: number of the first update after which the parameters differ by more than rounding; empty if none
    :param difference: the largest before it, relative to the parameters' root mean square
    :param parted_class: as ``parted``, of the class against itself with other last bits
    """

    environment: str
    algorithm: str
    configuration: str
    seed: str
    steps: str
    updates: str
    engine: str
    seconds_class: str
    seconds_arrays: str
    parted: str
    difference: str
    parted_class: str
    score_class: str
    score_arrays: str

    @property
    def key(self) -> tuple[str, ...]:
        """What was run."""
        return self.environment, self.algorithm, self.configuration, self.seed, self.steps


@dataclass(frozen=True)
class Trained:
    """One run: its engine, CPU seconds, score, and the followed parameters after each update, shape (updates, n)."""

    engine: str
    seconds: float
    score: float
    followed: np.ndarray


class Follow(BaseCallback):
    """Keeps some of the policy's parameters after each update."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[np.ndarray] = []

    def keep(self) -> None:
        """Add the parameters as they are now."""
        flat = np.concatenate([p.detach().numpy().ravel() for p in self.model.policy.parameters()])
        self.kept.append(flat[:: max(1, len(flat) // FOLLOWED)].copy())

    def _on_rollout_start(self) -> None:
        self.keep()

    def _on_step(self) -> bool:
        return True


class Nudge(Follow):
    """Moves the targets of a run by a last bit; ends it once it has parted from another.

    :param other: the followed parameters of the other run
    """

    def __init__(self, other: np.ndarray) -> None:
        super().__init__()
        self.other = other
        self.parted = False

    def _on_rollout_end(self) -> None:
        for name in ("advantages", "returns"):
            array = getattr(self.model.rollout_buffer, name)
            array[::2] = np.nextafter(array[::2], np.float32(np.inf))

    def _on_rollout_start(self) -> None:
        self.keep()
        self.parted = parting(self.other, np.array(self.kept))[0] is not None

    def _on_step(self) -> bool:
        return not self.parted


def main() -> None:
    """Run what is missing; write the CSV file after each row, and a table beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="standard", help="environments, steps and search spaces (standard)")
    parser.add_argument("--envs", nargs="*", help="only these of its environments")
    parser.add_argument("--steps", type=positive, help="training steps of a run (the study's)")
    parser.add_argument("--configurations", type=positive, default=5, help="of each baseline and environment (5)")
    parser.add_argument("--seed", type=int, default=0, help="of the runs and of the draws (0)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/baselines.csv", help="CSV file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = load_study(options.study, algorithms=list(ALGORITHMS), environments=options.envs or None)
    rows = read(options.out)
    for env_id in study.environments:
        steps = options.steps or study.environments[env_id].steps
        for algorithm in ALGORITHMS:
            for name, entry in configurations(study, algorithm, env_id, options):
                key = (env_id, algorithm, name, str(options.seed), str(steps))
                if key not in {row.key for row in rows}:
                    rows.append(compared(key, entry))
                    write(options.out, rows)
    write(options.out.with_suffix(".md"), rows)
    print(options.out.with_suffix(".md").read_text(encoding="utf-8"))


def configurations(
    study: Study, algorithm: str, env_id: str, options: argparse.Namespace
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the registered zoo entry, then those of equal draws for both baselines.

    :param study: the search spaces
    :param algorithm: id of a baseline
    :param env_id: one of the study's environments
    :param options: how many, and the seed
    """
    space = study.space(algorithm, env_id)
    yield "registered", dict(space.default)
    for number in range(1, options.configurations):
        drawn = propose(space.parameters, [], sampler="random", seed=1000 * options.seed + number)
        yield str(number), space.entry(drawn)


def compared(key: tuple[str, ...], entry: dict[str, Any]) -> Row:
    """Train twice, and compare.

    :param key: as :attr:`Row.key`
    :param entry: the zoo entry
    """
    environment, algorithm, configuration, seed, steps = key
    itself, arrays = (
        Entry(cls, environment, entry, algorithm) for cls in (get_algorithm(algorithm).cls, trained_class(algorithm))
    )
    theirs = trained(itself, int(seed), int(steps), Follow())
    ours = trained(arrays, int(seed), int(steps), Follow())
    nudged = trained(itself, int(seed), int(steps), Nudge(theirs.followed))
    parted, difference = parting(theirs.followed, ours.followed)
    parted_class, _ = parting(theirs.followed, nudged.followed)
    row = Row(
        *(environment, algorithm, configuration, seed, steps),
        updates=str(len(theirs.followed) - 1),
        engine=ours.engine,
        seconds_class=f"{theirs.seconds:.2f}",
        seconds_arrays=f"{ours.seconds:.2f}",
        parted="" if parted is None else str(parted),
        difference=f"{difference:.1e}",
        parted_class="" if parted_class is None else str(parted_class),
        score_class=f"{theirs.score:.6g}",
        score_arrays=f"{ours.score:.6g}",
    )
    print(", ".join(str(value) for value in vars(row).values()), flush=True)
    return row


def parting(one: np.ndarray, other: np.ndarray) -> tuple[int | None, float]:
    """Return after which update two runs differ by more than rounding, if any, and by how much before it at most.

    :param one: followed parameters after each update, shape (updates + 1, n)
    :param other: the same of the other run, or of its beginning
    """
    one = one[: len(other)]
    differences = np.abs(one - other).max(axis=1) / np.sqrt(np.square(one).mean(axis=1))
    parted = next((number for number, difference in enumerate(differences) if not difference < PARTED), None)
    return parted, float(differences[:parted].max())


def trained(entry: Entry, seed: int, steps: int, follow: Follow) -> Trained:
    """Train and evaluate as a cell of a study.

    :param entry: of the class itself, or of the class as ``rank`` trains it
    :param seed: of the run
    :param steps: at most
    :param follow: keeps parameters
    """
    evaluation = Evaluation(seed=seed + 10**6, episodes=10, checkpoints=1)
    env = entry.make_env(seed=seed)
    evaluation_env = entry.make_env(seed=evaluation.seed, n_envs=evaluation.episodes, training=False)
    model = entry.make_model(env, seed=seed, device="cpu", verbose=0)
    steps = whole_rollouts(steps, model)
    curve = LearningCurve(evaluation_env, evaluation, steps)
    started = time.process_time()
    model.learn(steps, callback=[curve, follow])
    seconds = time.process_time() - started
    follow.keep()
    curve.evaluate()
    env.close()
    evaluation_env.close()
    engine = getattr(model, "engine_in_use", "torch")
    return Trained(engine, seconds, float(np.mean(curve.returns)), np.array(follow.kept))


def read(path: Path) -> list[Row]:
    """Return the rows of a CSV file; none if it is not there.

    :param path: of the file
    """
    if not path.exists():
        return []
    return [Row(**row) for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())]


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write a file that is complete or not there: a table where it ends in ``.md``, else CSV.

    :param path: of the file
    :param rows: what it says
    """
    text = io.StringIO()
    if path.suffix == ".md":
        text.write(table(rows))
    else:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([field.name for field in fields(Row)])
        writer.writerows(list(vars(row).values()) for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(text.getvalue(), encoding="utf-8")
    os.replace(unfinished, path)


def table(rows: Sequence[Row]) -> str:
    """Return the rows, and what they were made on, in Markdown.

    :param rows: of the CSV file
    """
    header = ["run", "engine", "class, s", "arrays, s", "updates", "parted after", "difference before"]
    header += ["class from itself", "score, class", "score, arrays"]
    lines = [
        [
            f"{row.algorithm}, {row.environment}, {row.configuration}",
            row.engine,
            row.seconds_class,
            row.seconds_arrays,
            row.updates,
            row.parted or "never",
            row.difference,
            row.parted_class or "never",
            row.score_class,
            row.score_arrays,
        ]
        for row in rows
    ]
    theirs, ours = (sum(float(getattr(row, f"seconds_{side}")) for row in rows) for side in ("class", "arrays"))
    total = f"CPU seconds in all: {theirs:.0f} by the classes, {ours:.0f} on arrays."
    body = markdown(header, lines)
    return f"{body}\n\n{total}\n\n{footer(machine(), versions())}\n"


if __name__ == "__main__":
    main()
