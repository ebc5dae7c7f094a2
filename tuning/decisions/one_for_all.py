"""One configuration of an algorithm for all environments: how much of its rank does tuning for each of them buy?

The candidates of an algorithm are the point of its search space nearest to its registered ``default`` entry, and the
winner of each environment. Each candidate meets the validation seeds of every environment; the best mean of the
normalised score over environments is chosen and meets the test seeds. Runs that tuning has made already (a winner on
its own environment) are not made again. What a study file does not tune, such as ``n_envs`` and wrappers, stays as it
is registered for each environment, and a rollout that leaves an environment less than four updates is shortened.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any

from sb3_ppo_variants.experiment import registered_entry
from sb3_ppo_variants.tuning_space import TuningSpace

from ..runs.cell import Cell, CellResult
from .pair import Pair
from .request import Request
from .track import Track
from .trial import Run, best_of


@dataclass
class Candidate:
    """A point of the search space and its validation runs.

    :param origin: where it comes from
    :param params: the point
    :param validation: of each environment and validation seed, None while it is not known
    """

    origin: str
    params: dict[str, Any]
    validation: list[list[Run | None]]

    @property
    def value(self) -> float | None:
        """Mean over environments of the mean over seeds; None while a run is missing."""
        means = []
        for runs in self.validation:
            known = [run.normalised for run in runs if run is not None]
            if len(known) < len(runs):
                return None
            means.append(fmean(known))
        return fmean(means)


@dataclass
class OneForAll:
    """The view over all environments of one algorithm; asks for nothing before every track has its winner.

    :param tracks: of the algorithm, one for each environment, at least two
    """

    tracks: Sequence[Track]
    candidates: list[Candidate] = field(default_factory=list)
    test_results: list[list[CellResult | None]] = field(default_factory=list)

    @property
    def planned_runs(self) -> int:
        """Runs that it has asked for or may still ask for, those that are there already included."""
        budget = self.tracks[0].pair.study.budget
        candidates = len(self.candidates) or len(self.tracks) + 1
        return len(self.tracks) * (candidates * budget.validation_seeds + budget.test_seeds)

    @property
    def chosen(self) -> Candidate | None:
        """The candidate of the highest value, the first of equals; None while unknown."""
        return best_of([(candidate, candidate.value) for candidate in self.candidates])

    def advance(self) -> list[Request]:
        """Decide whatever can be decided now.

        :return: the runs that this asks for, each once
        """
        requests: list[Request] = []
        if not self.candidates and all(track.winner is not None for track in self.tracks):
            requests += self._begin_validation()
        if self.chosen is not None and not self.test_results:
            requests += self._begin_test(self.chosen)
        return requests

    def validation(self, track: Track, candidate: Candidate) -> list[Run | None]:
        """Validation runs of ``candidate`` on the track's environment."""
        return candidate.validation[list(self.tracks).index(track)]

    def tested(self, track: Track) -> list[tuple[Cell, CellResult]]:
        """Finished test runs of the chosen candidate on the track's environment."""
        if self.chosen is None or not self.test_results:
            return []
        entry = self.entry(track.pair, self.chosen.params)
        results = self.test_results[list(self.tracks).index(track)]
        return [
            (track.pair.test_cell(entry, seed), result)
            for seed, result in zip(track.pair.seeds.test, results, strict=True)
            if result is not None
        ]

    def entry(self, pair: Pair, params: dict[str, Any]) -> dict[str, Any]:
        """``params`` as a zoo entry of the pair's environment."""
        return pair.space.entry(pair.space.nearest(params))

    def _begin_validation(self) -> list[Request]:
        first = self.tracks[0].pair
        fixed = first.study.algorithms[first.algorithm].hyperparameters
        default = registered_entry(first.space.algorithm.id, "default") | fixed
        points = {"registered default": TuningSpace(first.space.algorithm, default, first.steps, fixed).default_params}
        for track in self.tracks:
            if track.winner is not None and track.winner.params not in points.values():
                points[f"winner on {track.pair.env_id}"] = track.winner.params
        seeds = first.seeds.validation
        self.candidates = [
            Candidate(origin, params, [[None] * len(seeds) for _ in self.tracks]) for origin, params in points.items()
        ]
        return [
            Request(
                "one for all: validation",
                number,
                track.pair,
                track.pair.scoring_cell(self.entry(track.pair, candidate.params), seed),
                partial(self._receive_validation, track.pair, candidate.validation[place], index),
            )
            for number, candidate in enumerate(self.candidates)
            for place, track in enumerate(self.tracks)
            for index, seed in enumerate(seeds)
        ]

    def _receive_validation(self, pair: Pair, runs: list[Run | None], index: int, result: CellResult) -> None:
        runs[index] = pair.run(result)

    def _begin_test(self, chosen: Candidate) -> list[Request]:
        self.test_results = [[None] * len(track.pair.seeds.test) for track in self.tracks]
        return [
            Request(
                "one for all: test",
                index,
                track.pair,
                track.pair.test_cell(self.entry(track.pair, chosen.params), seed),
                partial(self._receive_test, self.test_results[place], index),
            )
            for place, track in enumerate(self.tracks)
            for index, seed in enumerate(track.pair.seeds.test)
        ]

    def _receive_test(self, results: list[CellResult | None], index: int, result: CellResult) -> None:
        results[index] = result
