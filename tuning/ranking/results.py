"""A ranking as data: its lines, and what belongs to all of them."""

from dataclasses import dataclass
from typing import Any

from .statistics import Estimate, Profile

REFERENCES = ("trpo", "ppo")
"""Algorithms that every other is compared with."""


@dataclass(frozen=True)
class Tested:
    """What was run of an algorithm, ranked or not.

    :param algorithm: algorithm id, or the name of a configuration
    :param trials: run, pruned and failed, over all environments
    :param failed_test_runs: over all environments
    :param scores: environment -> test runs: seed, status, raw and normalised score, cell key
    :param best: environment -> the chosen trial: number, tuning value, validation value (None where there was
        nothing to choose), entry
    """

    algorithm: str
    trials: dict[str, int]
    failed_test_runs: int
    scores: dict[str, list[dict[str, Any]]]
    best: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class NotRun:
    """An algorithm that has no score on an environment: no test run finished, or this package broke one.

    :param algorithm: algorithm id, or the name of a configuration
    :param environment: environment id
    :param stage: "test", or "one for all: test" where only that view lacks it
    :param runs: test runs
    :param failed: of them
    :param faults: of these, by what looks like a fault of this package
    :param error: the first fault, else the first failure, with file and line
    """

    algorithm: str
    environment: str
    stage: str
    runs: int
    failed: int
    faults: int
    error: str


@dataclass(frozen=True)
class Ranked(Tested):
    """One line of the ranking. Scores are normalised unless called raw.

    :param rank: from 1; equal IQM and mean share a rank
    :param iqm: interquartile mean of the test runs, with its interval
    :param mean: mean of the test runs
    :param area_under_curve: IQM of the areas under the test runs' learning curves
    :param score_at_equal_seconds: IQM of the scores that the test runs had after ``equal_seconds`` of
        :class:`Ranking`; None where some environment has no finished run
    :param rank_probabilities: share of the resamplings in which it is first, second, ...
    :param probability_of_improvement: over trpo and over ppo; None where that is the algorithm itself
        or was not ranked
    :param difference_from_trpo: IQM minus TRPO's
    :param holm_p_value_vs_trpo: of that difference, corrected for the number of algorithms compared with TRPO
    :param separable_from_trpo: whether the interval of that difference excludes 0
    :param difference_from_ppo: IQM minus PPO's
    :param separable_from_ppo: whether the interval of that difference excludes 0
    :param seconds: mean training time of a test run
    :param steps_per_second: training steps of all test runs over their training time
    """

    rank: int
    iqm: Estimate
    mean: float
    area_under_curve: Estimate
    score_at_equal_seconds: Estimate | None
    rank_probabilities: list[float]
    probability_of_improvement: dict[str, Estimate | None]
    difference_from_trpo: Estimate | None
    holm_p_value_vs_trpo: float | None
    separable_from_trpo: bool | None
    difference_from_ppo: Estimate | None
    separable_from_ppo: bool | None
    seconds: float | None
    steps_per_second: float | None


@dataclass(frozen=True)
class RankedForAll:
    """One line of the view with one configuration for all environments.

    :param algorithm: algorithm id, or the name of a configuration
    :param rank: from 1; equal IQM and mean share a rank
    :param iqm: interquartile mean of the test runs, with its interval
    :param mean: mean of the test runs
    :param origin: where the configuration comes from
    :param params: the point of the search space
    :param scores: environment -> test runs, as in :class:`Ranked`
    """

    algorithm: str
    rank: int
    iqm: Estimate
    mean: float
    origin: str
    params: dict[str, Any]
    scores: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Ranking:
    """A finished study.

    :param protocol: everything that decided the numbers
    :param verdict: the outcome in one sentence
    :param lines: best first; empty where no algorithm has run on every environment that counts
    :param environments: that count: those on which some algorithm has run
    :param unranked: algorithms that have not run on one of these
    :param not_run: who has not run where, and why
    :param left_out: algorithm -> why it cannot run, in a study of all algorithms
    :param not_separable_from_first: algorithms of lower ranks for which the interval of the first one's lead covers 0
    :param one_for_all: likewise with one configuration of each algorithm for all environments; None in a study
        without tuning, which has nothing to choose from
    :param profiles: algorithm -> performance profile over ``taus``
    :param taus: normalised scores
    :param equal_seconds: environment -> the shortest of the algorithms' median training times of a test run: what
        every algorithm had; None where no run finished
    :param curves: environment -> algorithm -> test runs: seed and points of the learning curve, raw scores
    :param failures: every failed run that a decision or a number rests on
    :param warnings: what a reader must know before quoting a number
    """

    protocol: dict[str, Any]
    verdict: str
    lines: list[Ranked]
    environments: list[str]
    unranked: list[Tested]
    not_run: list[NotRun]
    left_out: dict[str, str]
    not_separable_from_first: list[str]
    one_for_all: list[RankedForAll] | None
    taus: list[float]
    profiles: dict[str, Profile]
    equal_seconds: dict[str, float | None]
    curves: dict[str, dict[str, list[dict[str, Any]]]]
    failures: list[dict[str, Any]]
    warnings: list[str]
