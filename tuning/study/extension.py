"""Which protocols go together: a study that was extended later, and studies that are merged."""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

_GROWING = ("validation_seeds", "test_seeds")
"""Of the budget: a longer set of seeds begins with the shorter one. More tuning seeds would change every trial."""

_BY_NAME = ("configurations", "search_spaces", "registered_configurations", "critics")
_BY_ENVIRONMENT = ("environments", "environment_settings")
_HISTORY = ("begun_as", "extensions")

_MAX_LISTED = 5


def without_history(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, whatever was asked for before.

    :param protocol: of a study
    """
    return {key: value for key, value in protocol.items() if key not in _HISTORY}


def part_of(protocol: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The algorithms, environments and versions of ``protocol`` that ``other`` has too, in the order of ``other``.

    :param protocol: of a study
    :param other: likewise
    """
    part = deepcopy(without_history(protocol))
    names, env_ids = other["algorithms"], other["environments"]
    part["algorithms"] = [name for name in names if name in protocol["algorithms"]]
    for key in _BY_NAME:
        if key in part:
            part[key] = {name: _of(part[key][name], env_ids, key) for name in names if name in part[key]}
    for key in _BY_ENVIRONMENT:
        if key in part:
            part[key] = {env_id: part[key][env_id] for env_id in env_ids if env_id in part[key]}
    scales = part["normalisation"]["scales"]
    part["normalisation"]["scales"] = {env_id: scales[env_id] for env_id in env_ids if env_id in scales}
    part["versions"] = {name: value for name, value in part["versions"].items() if name in other["versions"]}
    return {key: value for key, value in part.items() if value != {} or key in other}


def _of(content: Mapping[str, Any], env_ids: Mapping[str, Any], key: str) -> dict[str, Any]:
    if key == "configurations":
        return dict(content)
    return {env_id: content[env_id] for env_id in env_ids if env_id in content}


def reduced(protocol: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """``protocol`` without what it has beyond ``earlier``: equal to that one where it extends it.

    :param protocol: of this command
    :param earlier: of a study that was begun
    """
    part = part_of(protocol, earlier)
    for count in _GROWING:
        part["budget"][count] = min(part["budget"][count], earlier["budget"][count])
    for name, seeds in part["seeds"].items():
        part["seeds"][name] = seeds[: len(earlier["seeds"][name])] if f"{name}_seeds" in _GROWING else seeds
    return part


def growth(protocol: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """What ``protocol`` has beyond ``earlier``: algorithms, environments, numbers of seeds then and now.

    :param protocol: of this command
    :param earlier: of a study that was begun
    """
    found: dict[str, Any] = {}
    for key in ("algorithms", "environments"):
        added = [name for name in protocol[key] if name not in earlier[key]]
        if added:
            found[key] = added
    for count in _GROWING:
        then, now = earlier["budget"][count], protocol["budget"][count]
        if now > then:
            found[count] = [then, now]
    return found


def growth_text(extension: Mapping[str, Any]) -> str:
    """``algorithms spo; test_seeds 5 to 10``.

    :param extension: a :func:`growth`
    """
    parts = [f"{key} {', '.join(extension[key])}" for key in ("algorithms", "environments") if key in extension]
    parts += [f"{key} {extension[key][0]} to {extension[key][1]}" for key in _GROWING if key in extension]
    return "; ".join(parts)


def differences(earlier: Any, now: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each place where two protocols differ, with what stands there.

    :param earlier: plain JSON values
    :param now: likewise
    :param where: names the place of both
    """
    if isinstance(earlier, dict) and isinstance(now, dict):
        for name in [*earlier, *(name for name in now if name not in earlier)]:
            place = f"{where}.{name}" if where else name
            yield from differences(earlier.get(name), now.get(name), place)
    elif earlier != now:
        yield where, earlier, now


def listed(found: Iterable[tuple[str, Any, Any]], left: str, right: str) -> str:
    """``seed: 0 then, 1 now; ...``, the first few :func:`differences`; empty where there is none.

    :param found: the differences
    :param left: where or when the first of two values holds
    :param right: where or when the second does
    """
    lines = [f"{where}: {_short(one)} {left}, {_short(other)} {right}" for where, one, other in found]
    more = [f"and {len(lines) - _MAX_LISTED} more"] if len(lines) > _MAX_LISTED else []
    return "; ".join([*lines[:_MAX_LISTED], *more])


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
