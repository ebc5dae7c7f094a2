"""The protocol of a ranking: everything that decides its numbers, written down before the first run."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sb3_ppo_variants.registry import get_algorithm

from ..runs.cell import CELL_SCHEMA, canonical_json, package_versions
from ..runs.files import write_atomically
from .configurations import is_own
from .extension import differences, growth, listed, reduced, without_history
from .kept_protocol import read_protocol
from .rules import CANDIDATES, CONFIDENCE, FAILED_RUNS, N_PRUNING_STARTUP_TRIALS, N_STARTUP_TRIALS, RESAMPLES
from .scales import FLOOR, TABLE_VERSION
from .seeds import SeedSets, seed_sets
from .study_file import Study

BASELINES = (
    "algorithms of SB3 and sb3-contrib; where the variants' engine knows every part of a model, rollouts, PPO's update "
    "and the passes of TRPO's critic run on it, equal up to float rounding"
)
"""How they are trained."""


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
        **study.model_dump(exclude={"description", "environments", "registered_configurations"}),
        "algorithms": list(study.algorithms),
        "environments": {env_id: study.environments[env_id].steps for env_id in study.environments},
        "seeds": asdict(study_seeds(study)),
        "startup_trials": N_STARTUP_TRIALS,
        "pruning_startup_trials": N_PRUNING_STARTUP_TRIALS,
        "candidates": CANDIDATES,
        "chosen_by": "mean over the validation seeds",
        "actions_in_evaluation": "deterministic",
        "failed_runs": FAILED_RUNS,
        "baselines": BASELINES,
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
    settings = {env_id: each.settings for env_id, each in study.environments.items() if each.settings}
    if settings:
        protocol["environment_settings"] = settings
    if study.budget.checkpoint_every is not None:
        protocol["resets_at_checkpoints"] = "all environments of a run, seeded from its seed and the steps so far"
    plain: dict[str, Any] = json.loads(json.dumps(protocol, allow_nan=False))
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


def protocol_digest(protocol: Mapping[str, Any]) -> str:
    """Short name of a protocol, so that one database can hold many studies; an extended one keeps its first."""
    begun: str | None = protocol.get("begun_as")
    return begun or hashlib.sha256(canonical_json(protocol).encode()).hexdigest()[:12]


def pin_protocol(folder: Path, protocol: dict[str, Any]) -> dict[str, Any]:
    """Write the protocol into a folder, where it must be the one that the folder was begun with, or extend that.

    Algorithms, environments, validation and test seeds may be added: no run that was made loses its place by it.

    :param folder: where the results go
    :param protocol: of this command
    :return: the protocol, with what it was extended by and what it was begun as
    :raises ValueError: the folder holds results of another protocol; the message says what differs
    """
    path = folder / "protocol.json"
    if path.exists():
        earlier = read_protocol(folder)
        protocol = _extended(earlier, protocol, folder)
        if protocol == earlier:
            return protocol
    write_atomically(path, json.dumps(protocol, indent=1) + "\n")
    return protocol


def _extended(earlier: dict[str, Any], protocol: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``earlier`` where it says the same as ``protocol``, else ``protocol`` with the history of ``earlier``."""
    begun = without_history(earlier)
    # The run seeds follow from the study's seed and budget: naming them too would only bury the reason.
    found = (each for each in differences(begun, reduced(protocol, begun)) if not each[0].startswith("seeds."))
    shown = listed(found, "then", "now")
    if shown:
        registered = begun["registered_configurations"] != protocol["registered_configurations"]
        then = f"rank {folder} --out {folder}, for the configurations of then" if registered else "the options of then"
        raise ValueError(
            f"{folder} was begun with another protocol ({shown}): give another --out, {then}, or remove {folder}"
        )
    added = growth(protocol, begun)
    if not added:
        return earlier
    history = [*earlier.get("extensions", []), added]
    return {**protocol, "begun_as": protocol_digest(earlier), "extensions": history}
