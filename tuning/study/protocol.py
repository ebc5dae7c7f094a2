"""The protocol of a ranking: everything that decides its numbers, written down before the first run."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sb3_ppo_variants.registry import get_algorithm

from ..runs.cell import CELL_SCHEMA, canonical_json, package_versions
from ..runs.files import write_atomically
from .configurations import is_own
from .rules import CANDIDATES, CONFIDENCE, N_PRUNING_STARTUP_TRIALS, N_STARTUP_TRIALS, RESAMPLES
from .scales import FLOOR, TABLE_VERSION
from .seeds import SeedSets, seed_sets
from .study_file import Study

_MAX_DIFFERENCES = 5


def study_seeds(study: Study) -> SeedSets:
    """The run seeds of a study."""
    budget = study.budget
    return seed_sets(study.seed, tuning=budget.tuning_seeds, validation=budget.validation_seeds, test=budget.test_seeds)


def protocol_of(name: str, study: Study) -> dict[str, Any]:
    """The protocol as plain JSON values.

    :param name: name of the study
    :param study: budgets and the rest
    """
    protocol = {
        "study": name,
        **study.model_dump(exclude={"description", "environments"}),
        "algorithms": list(study.algorithms),
        "environments": {env_id: study.environments[env_id].steps for env_id in study.environments},
        "seeds": asdict(study_seeds(study)),
        "startup_trials": N_STARTUP_TRIALS,
        "pruning_startup_trials": N_PRUNING_STARTUP_TRIALS,
        "candidates": CANDIDATES,
        "chosen_by": "mean over the validation seeds",
        "actions_in_evaluation": "deterministic",
        "normalisation": {
            "version": TABLE_VERSION,
            "floor": FLOOR,
            "scales": {env_id: asdict(study.scale(env_id)) for env_id in study.environments},
        },
        "statistics": {
            "confidence": CONFIDENCE,
            "bootstrap_resamples": RESAMPLES,
            "intervals": "expanded percentile bootstrap, stratified by environment",
            "p_values": "permutation within environments, Holm's correction",
        },
        "search_spaces": _by_pair(study, "parameters"),
        "registered_configurations": _by_pair(study, "default"),
        "critics": _by_pair(study, "critic"),
        "cell_schema": CELL_SCHEMA,
        "versions": package_versions() | _plugin_versions(study),
    }
    own = {name: each.model_dump() for name, each in study.algorithms.items() if is_own(name, each)}
    if own:
        protocol["configurations"] = own
    if study.budget.checkpoint_every is not None:
        protocol["resets_at_checkpoints"] = "all environments of a run, seeded from its seed and the steps so far"
    plain: dict[str, Any] = json.loads(canonical_json(protocol))
    return plain


def _plugin_versions(study: Study) -> dict[str, str]:
    plugins = (get_algorithm(configuration.algorithm).plugin for configuration in study.algorithms.values())
    return {plugin.distribution: plugin.version for plugin in plugins if plugin is not None}


def _by_pair(study: Study, attribute: str) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {algorithm: {} for algorithm in study.algorithms}
    for algorithm, env_id in study.pairs:
        content = getattr(study.space(algorithm, env_id), attribute)
        if attribute == "parameters":
            content = {name: str(parameter) for name, parameter in content.items()}
        table[algorithm][env_id] = content
    return table


def protocol_digest(protocol: dict[str, Any]) -> str:
    """Short name of a protocol, so that one database can hold many studies."""
    return hashlib.sha256(canonical_json(protocol).encode()).hexdigest()[:12]


def pin_protocol(folder: Path, protocol: dict[str, Any]) -> None:
    """Write the protocol into a new folder, or make sure that the folder was begun with the same one.

    :param folder: where the results go
    :param protocol: of this command
    :raises ValueError: the folder holds results of another protocol; the message says what differs
    """
    path = folder / "protocol.json"
    if not path.exists():
        write_atomically(path, json.dumps(protocol, indent=1) + "\n")
        return
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable ({error}): give another --out, or remove {folder}") from error
    # The run seeds follow from the study's seed and budget: naming them too would only bury the reason.
    differences = [line for line in _differences(earlier, protocol) if not line.startswith("seeds.")]
    if differences:
        shown = "; ".join(differences[:_MAX_DIFFERENCES])
        more = f"; and {len(differences) - _MAX_DIFFERENCES} more" if len(differences) > _MAX_DIFFERENCES else ""
        raise ValueError(
            f"{folder} was begun with another protocol ({shown}{more}): "
            f"give another --out, the options of then, or remove {folder}"
        )


def _differences(earlier: Any, now: Any, where: str = "") -> Iterator[str]:
    if isinstance(earlier, dict) and isinstance(now, dict):
        for name in [*earlier, *(name for name in now if name not in earlier)]:
            place = f"{where}.{name}" if where else name
            yield from _differences(earlier.get(name), now.get(name), place)
    elif earlier != now:
        yield f"{where}: {_short(earlier)} then, {_short(now)} now"


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
