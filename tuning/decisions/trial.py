"""What is known of a trial: its configuration, its runs so far, what they say."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import fmean
from typing import Any, TypeVar

from sb3_ppo_variants.tuning_space import TuningSpace

Chosen = TypeVar("Chosen")


@dataclass(frozen=True, slots=True)
class Run:
    """What is kept of a run that only scores a configuration.

    :param normalised: its score; the floor when it failed
    :param raw: mean return; None when it failed
    :param reason: why it failed; empty when it did not
    :param is_fault: whether it failed by what looks like a fault of this package
    """

    normalised: float
    raw: float | None
    reason: str
    is_fault: bool = False

    @property
    def failed(self) -> bool:
        """Whether it gave no score."""
        return self.raw is None


@dataclass(slots=True)
class Trial:
    """One configuration and its runs; small, since a study keeps them all.

    :param number: from 0; 0 is the registered configuration
    :param params: the point of the search space
    :param space: the search space
    :param runs: of each tuning seed, None while it is not known
    :param medians: of the earlier trials after one run, after two, ...; empty where it cannot be pruned any more
    :param value: mean over all tuning seeds; None before, and when it was pruned
    :param pruned: whether it was given up before its last seed
    :param validation: of each validation seed, for a candidate
    :param asked: tuning runs that were requested
    """

    number: int
    params: dict[str, Any]
    space: TuningSpace
    runs: list[Run | None]
    medians: list[float] = field(default_factory=list)
    value: float | None = None
    pruned: bool = False
    validation: list[Run | None] = field(default_factory=list)
    asked: int = 0

    @property
    def entry(self) -> dict[str, Any]:
        """The zoo entry that is run."""
        return dict(self.space.default) if self.number == 0 else self.space.entry(self.params)

    @property
    def settled(self) -> bool:
        """Whether it needs no more tuning runs."""
        return self.value is not None or self.pruned

    @property
    def failed_runs(self) -> int:
        """Tuning runs that failed."""
        return sum(run is not None and run.failed for run in self.runs)

    @property
    def failed(self) -> bool:
        """Whether one of its runs failed."""
        return self.failed_runs > 0

    @property
    def has_finished_run(self) -> bool:
        """Whether its value rests on anything but failures."""
        return any(run is not None and not run.failed for run in self.runs)

    @property
    def reports(self) -> list[float]:
        """Mean of the first run, of the first two, ..."""
        known = [run.normalised for run in self.runs if run is not None]
        return [total / number for number, total in enumerate(accumulate(known), start=1)]

    @property
    def validation_value(self) -> float | None:
        """Mean over all validation seeds; None while it is not known, and where there was nothing to choose."""
        if not self.validation or None in self.validation:
            return None
        return fmean(run.normalised for run in self.validation if run is not None)


def best_of(candidates: Sequence[tuple[Chosen, float | None]]) -> Chosen | None:
    """The candidate of the highest value, the first of equals; None while a value is unknown, or without candidates.

    :param candidates: each with its value
    """
    values = [value for _, value in candidates if value is not None]
    if not values or len(values) < len(candidates):
        return None
    return candidates[values.index(max(values))][0]
