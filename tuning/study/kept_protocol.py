"""The protocol that a folder of results keeps, and the study that leads to it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_AS_IN_THE_FILE = ("budget", "evaluation", "sampler", "pruner", "seed", "registered_configurations")


def read_protocol(folder: Path) -> dict[str, Any]:
    """The protocol that a folder was begun with.

    :param folder: of a study's results
    :raises ValueError: there is none, or it cannot be read
    """
    path = folder / "protocol.json"
    try:
        protocol = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} has no protocol.json: give the folder of a study's results") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not readable ({error}): give another --out, or remove {folder}") from error
    if not isinstance(protocol, dict) or "algorithms" not in protocol:
        raise ValueError(f"{path} is not readable (no protocol): give another --out, or remove {folder}")
    return protocol


def kept_study(folder: Path) -> tuple[str, dict[str, Any]]:
    """The name of the study whose results a folder holds, published or under way, and the content of its study file.

    :param folder: with ``protocol.json`` or ``ranking.json``
    :raises ValueError: neither is there, or it cannot be read
    """
    protocol = read_protocol(folder) if (folder / "protocol.json").exists() else _published(folder)
    return protocol["study"], study_content(protocol, list(protocol["environments"]))


def _published(folder: Path) -> dict[str, Any]:
    path = folder / "ranking.json"
    try:
        protocol: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["protocol"]
    except FileNotFoundError:
        raise ValueError(f"{folder} has neither protocol.json nor ranking.json: give a study's results") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not readable ({error!r}): give the folder of a study's results") from error
    return protocol


def study_content(protocol: Mapping[str, Any], env_ids: Sequence[str]) -> dict[str, Any]:
    """The content of the study file that leads to this protocol, options of the command line included.

    :param protocol: of the study
    :param env_ids: its environments in their order, which the resampling depends on
    """
    content = {name: protocol[name] for name in _AS_IN_THE_FILE if name in protocol}
    own = protocol.get("configurations", {})
    content["algorithms"] = [{name: own[name]} if name in own else name for name in protocol["algorithms"]]
    content["environments"] = {
        env_id: {
            "steps": protocol["environments"][env_id],
            **_own_scale(protocol["normalisation"]["scales"][env_id]),
            **protocol.get("environment_settings", {}).get(env_id, {}),
        }
        for env_id in env_ids
    }
    return content


def _own_scale(scale: Mapping[str, Any]) -> dict[str, float]:
    if scale["source"] != "study file":
        return {}
    return {"random": scale["random"], "reference": scale["reference"]}
