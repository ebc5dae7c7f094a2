"""Every random number of a study comes from here: run seeds, sampler seeds, bootstrap streams.

Nothing depends on Python's ``hash``, on the clock or on the order in which work is done.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

SEED_STRIDE = 1024
"""A vectorised environment gives its i-th copy ``seed + i``: seeds this far apart never share a copy's seed."""

_N_SLOTS = 2**31 // SEED_STRIDE // 4
_MAX_SEEDS = 10_000


@dataclass(frozen=True)
class RunSeed:
    """Seeds of one training run and of the episodes that evaluate it."""

    training: int
    evaluation: int


@dataclass(frozen=True)
class SeedSets:
    """Run seeds by purpose; no number occurs twice."""

    tuning: tuple[RunSeed, ...]
    validation: tuple[RunSeed, ...]
    test: tuple[RunSeed, ...]


def seed_sets(seed: int, *, tuning: int, validation: int, test: int) -> SeedSets:
    """Draw the run seeds of a study from one :class:`numpy.random.SeedSequence`.

    Each purpose has its own child sequence, and a longer set starts with the shorter one: more test
    seeds later leave the first ones, and the tuning seeds, as they were.

    :param seed: seed of the study, >= 0
    :param tuning: number of seeds that score a trial
    :param validation: number of seeds that choose among the best configurations
    :param test: number of seeds that are reported
    :raises ValueError: negative seed, negative size, or a set of more than 10,000 seeds
    """
    sizes = (tuning, validation, test)
    if seed < 0 or min(sizes) < 0:
        raise ValueError(f"seed and sizes must be >= 0, got seed={seed}, sizes={sizes}")
    if max(sizes) > _MAX_SEEDS:
        raise ValueError(f"a set may have at most {_MAX_SEEDS} seeds, got {max(sizes)}")
    children = np.random.SeedSequence(seed).spawn(len(sizes))
    sets = SeedSets(*map(_draw, children, sizes, range(len(sizes))))
    _assert_disjoint(sets)
    return sets


def stream_seed(seed: int, *labels: str | int) -> int:
    """Seed in ``[0, 2**32)`` of the random stream called ``labels`` in the study of seed ``seed``.

    :param seed: seed of the study
    :param labels: what the stream is for, such as ``("sampler", "CartPole-v1", 7)``
    """
    text = "\x1f".join(str(part) for part in (seed, *labels))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _draw(sequence: np.random.SeedSequence, size: int, purpose: int) -> tuple[RunSeed, ...]:
    """Distinct multiples of the stride; the slot's remainder modulo 4 keeps the purposes apart."""
    rng = np.random.Generator(np.random.PCG64(sequence))
    slots: dict[int, None] = {}
    while len(slots) < 2 * size:
        slots.setdefault(int(rng.integers(_N_SLOTS)) * 4 + purpose)
    numbers = [slot * SEED_STRIDE for slot in slots]
    return tuple(
        RunSeed(training, evaluation) for training, evaluation in zip(numbers[::2], numbers[1::2], strict=True)
    )


def _assert_disjoint(sets: SeedSets) -> None:
    numbers = [
        number
        for runs in (sets.tuning, sets.validation, sets.test)
        for run in runs
        for number in (run.training, run.evaluation)
    ]
    if len(set(numbers)) != len(numbers):
        raise AssertionError(f"seeds of training, evaluation and purposes overlap: {sorted(numbers)}")
