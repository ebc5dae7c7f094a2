"""Who takes part in a ranking: the algorithms and environments of which finished test runs say something."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..decisions.track import Track
from .records import not_run, run_records
from .results import NotRun


@dataclass(frozen=True)
class TakingPart:
    """What is ranked of a study.

    :param environments: on which some algorithm has run
    :param tracks: algorithm -> its tracks on these; without the algorithms that have not run on one of them
    :param not_run: who has not run where
    """

    environments: list[str]
    tracks: dict[str, list[Track]]
    not_run: list[NotRun]


def taking_part(by_algorithm: Mapping[str, Sequence[Track]]) -> TakingPart:
    """Find out who has run where.

    :param by_algorithm: algorithm -> its tracks, all decided
    """
    missing = {
        track.pair: record
        for own in by_algorithm.values()
        for track in own
        if (record := not_run(track.pair.algorithm, track.pair.env_id, run_records(track))) is not None
    }
    everything = [track for own in by_algorithm.values() for track in own]
    environments = list(dict.fromkeys(track.pair.env_id for track in everything if track.pair not in missing))
    counted = {
        algorithm: [track for track in own if track.pair.env_id in environments]
        for algorithm, own in by_algorithm.items()
    }
    tracks = {
        algorithm: own for algorithm, own in counted.items() if own and not any(track.pair in missing for track in own)
    }
    return TakingPart(environments, tracks, list(missing.values()))
