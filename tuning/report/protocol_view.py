"""A protocol in the forms that people read it in: as a study file, and as tables of the ranges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sb3_ppo_variants.tuning_space import SHARED

from ..ranking.entry_yaml import entry_yaml
from ..study.kept_protocol import study_content


def study_yaml(protocol: Mapping[str, Any], env_ids: Sequence[str]) -> str:
    """The study file that leads to this protocol, options of the command line included.

    Without the registered configurations, which are longer than all the rest: ``rank FOLDER`` has them.

    :param protocol: of the study
    :param env_ids: its environments in their order, which the resampling depends on
    """
    content = study_content(protocol, env_ids)
    return entry_yaml({name: value for name, value in content.items() if name != "registered_configurations"})


@dataclass(frozen=True)
class SearchedRange:
    """One row of the table of ranges.

    :param parameter: its name
    :param algorithm: whose own it is; empty for a shared one
    :param text: the range; one for each environment where they differ
    :param lacking: algorithms without this shared parameter
    """

    parameter: str
    algorithm: str
    text: str
    lacking: list[str]


def searched_ranges(protocol: Mapping[str, Any], env_ids: Sequence[str]) -> list[SearchedRange]:
    """What was tuned: the shared parameters, each once, then each algorithm's own.

    :param protocol: of the study
    :param env_ids: its environments in their order
    """
    spaces = protocol["search_spaces"]
    shared = []
    for name in SHARED:
        having = [algorithm for algorithm in spaces if any(name in spaces[algorithm][env_id] for env_id in env_ids)]
        if having:
            lacking = [algorithm for algorithm in spaces if algorithm not in having]
            shared.append(SearchedRange(name, "", _text(name, spaces[having[0]], env_ids), lacking))
    own = [
        SearchedRange(name, algorithm, _text(name, space, env_ids), [])
        for algorithm, space in spaces.items()
        for name in space[env_ids[0]]
        if name not in SHARED
    ]
    return [*shared, *own]


def _text(name: str, space: Mapping[str, Mapping[str, str]], env_ids: Sequence[str]) -> str:
    ranges = {env_id: space[env_id][name] for env_id in env_ids if name in space[env_id]}
    if len(set(ranges.values())) == 1:
        return next(iter(ranges.values()))
    return "; ".join(f"{env_id}: {text}" for env_id, text in ranges.items())
