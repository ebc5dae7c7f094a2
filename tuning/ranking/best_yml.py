"""``best.yml``: the chosen configurations as zoo entries."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import yaml

from ..decisions.track import Track
from ..study.configurations import configuration_in, described
from .records import chosen, tested
from .wording import origin_text


def best_yml(protocol: Mapping[str, Any], tracks: Sequence[Track]) -> str:
    """Name in the study -> environment -> zoo entry, each with where it comes from."""
    text = f"# Chosen by the study {protocol['study']} (seed {protocol['seed']}). Versions: "
    text += ", ".join(f"{name} {version}" for name, version in protocol["versions"].items()) + ".\n"
    algorithm = ""
    for track in tracks:
        if track.pair.algorithm != algorithm:
            algorithm = track.pair.algorithm
            own = protocol.get("configurations", {}).get(algorithm)
            text += f"\n# {described(own)}\n{algorithm}:\n" if own else f"\n{algorithm}:\n"
        entry = yaml.safe_dump({track.pair.env_id: chosen(track).entry}, sort_keys=False, default_flow_style=False)
        lines = [f"# {line}" for line in _provenance(protocol, track)] + entry.splitlines()
        text += "".join(f"  {line}\n" for line in lines)
    return text


def _provenance(protocol: Mapping[str, Any], track: Track) -> list[str]:
    trial, budget = chosen(track), track.pair.study.budget
    scores = [result.score for result in tested(track) if result.score is not None]
    fixed = configuration_in(protocol, track.pair.algorithm)["hyperparameters"]
    lines = [origin_text(trial.number, budget.trials, fixed)]
    if trial.value is not None:
        lines.append(f"tuning: normalised score {trial.value:.3f} over {budget.tuning_seeds} seeds")
    if trial.validation_value is not None:
        lines.append(f"validation: normalised score {trial.validation_value:.3f} over {budget.validation_seeds} seeds")
    lines.append(
        f"test: mean return {fmean(scores):.6g} over {len(scores)} seeds" if scores else "test: all runs failed"
    )
    return [f"{lines[0]}; runs of {track.pair.steps} steps", *lines[1:]]
