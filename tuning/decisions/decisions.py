"""All that a study decides, in one place: what its tracks decide alone, and what each algorithm's decide together."""

from dataclasses import dataclass, field

from ..study.protocol import study_seeds
from ..study.study_file import Study
from .one_for_all import OneForAll
from .pair import Pair
from .proposals import distributions
from .request import Request
from .study_db import open_storage
from .track import Track
from .trial_log import TrialLog
from .tuning import Tuning


@dataclass(eq=False)
class Decisions:
    """The decisions of a study.

    :param tracks: one for each (algorithm, environment), in the order of the study
    :param one_for_all: algorithm -> what its tracks decide together; empty where there is nothing
    """

    tracks: list[Track]
    one_for_all: dict[str, OneForAll]
    _track_of: dict[Pair, Track] = field(init=False)

    def __post_init__(self) -> None:
        self._track_of = {track.pair: track for track in self.tracks}

    @classmethod
    def of(cls, study: Study, prefix: str, url: str) -> "Decisions":
        """Open the Optuna studies and set up what has to be decided.

        :param study: a checked study
        :param prefix: of the names of the Optuna studies
        :param url: Optuna storage URL
        :raises ValueError: the storage cannot be opened
        """
        storage = open_storage(url)
        seeds = study_seeds(study)
        tracks = []
        for algorithm, env_id in study.pairs:
            space = study.space(algorithm, env_id)
            pair = Pair(algorithm, env_id, study, seeds, space, study.scale(env_id))
            log = TrialLog(storage, f"{prefix}/{algorithm}/{env_id}", distributions(space.parameters))
            tracks.append(Track(pair, Tuning(pair, log)))
        one_for_all = {}
        if study.seeks_one_for_all:
            for algorithm in study.algorithms:
                one_for_all[algorithm] = OneForAll([track for track in tracks if track.pair.algorithm == algorithm])
        return cls(tracks, one_for_all)

    @property
    def study(self) -> Study:
        """The study that is decided."""
        return self.tracks[0].pair.study

    @property
    def planned_runs(self) -> int:
        """Runs in all; fewer as trials are pruned."""
        together = sum(view.planned_runs for view in self.one_for_all.values())
        return sum(track.planned_runs for track in self.tracks) + together

    def track_of(self, pair: Pair) -> Track:
        """The track of ``pair``."""
        return self._track_of[pair]

    def advance(self, track: Track) -> list[Request]:
        """Decide whatever can be decided now that ``track`` knows more.

        :return: the runs that this asks for, each once
        """
        requests = track.advance()
        together = self.one_for_all.get(track.pair.algorithm)
        return requests if together is None else requests + together.advance()
