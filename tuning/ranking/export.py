"""``ppo-variants export``: the tuned values of a finished study as zoo entries that say where they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from sb3_ppo_variants.experiment import Experiment
from sb3_ppo_variants.registry import get_algorithm

from ..runs.files import write_atomically
from ..study.configurations import configuration_in
from .entry_yaml import entry_yaml
from .part import iqm_on
from .ranking_json import RankingJson, read_ranking
from .registered import registered_scores
from .wording import origin_text

_PACKAGES = ("sb3-ppo-variants", "stable-baselines3", "sb3-contrib", "gymnasium", "torch", "numpy")


@dataclass(frozen=True)
class Exported:
    """What an export did.

    :param written: file -> environments whose entries it now has
    :param skipped: one line for each configuration that is not worth an entry
    """

    written: dict[Path, list[str]]
    skipped: list[str]


def export(folder: Path, to: Path, *, against: Path | None = None) -> Exported:
    """Write the chosen configurations of a finished study into ``<to>/<algorithm id>.yml``.

    An entry that a file has for the same environment is replaced, all other lines stay as they are, byte for byte. A
    second export of the same study changes nothing.

    :param folder: of the study's results
    :param to: folder of zoo entries; made when it is not there
    :param against: results of the same study without tuning: written is only what has a higher mean test score there
        than the registered configuration
    :raises ValueError: no finished study, an entry that cannot be loaded, a file that is no zoo file, nothing to
        export, or two studies that cannot be compared; no file is written then
    :raises OSError: the file system refused
    """
    ranking = read_ranking(folder)
    date = datetime.fromtimestamp((folder / "ranking.json").stat().st_mtime, tz=timezone.utc).date().isoformat()
    if to.exists() and not to.is_dir():
        raise ValueError(f"{to} is a file: give the folder of the zoo entries, such as zoo_configs")
    registered = None if against is None else registered_scores(against, ranking)
    skipped: list[str] = []
    blocks = _blocks(ranking, date, registered, skipped)
    if not blocks:
        raise ValueError(f"{folder} has nothing to export: {'; '.join(skipped)}")
    texts = {path: _with_blocks(path, own) for path, own in ((to / name, own) for name, own in blocks.items())}
    to.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        write_atomically(path, text)
    return Exported({to / name: list(own) for name, own in blocks.items()}, skipped)


@dataclass(frozen=True)
class _Block:
    """An entry, and its lines with the comment that says where it comes from."""

    entry: dict[str, Any]
    text: str


def _blocks(
    ranking: RankingJson, date: str, registered: Mapping[tuple[str, str], float] | None, skipped: list[str]
) -> dict[str, dict[str, _Block]]:
    """File name -> environment -> entry; of the configurations of one algorithm, that of the best rank."""
    blocks: dict[str, dict[str, _Block]] = {}
    owners: dict[str, tuple[str, str]] = {}
    for line in [*ranking["ranking"], *ranking["unranked"]]:
        name = line["algorithm"]
        algorithm = configuration_in(ranking["protocol"], name)["algorithm"]
        file = get_algorithm(algorithm).tuned_file
        owner, owned_by = owners.setdefault(file, (algorithm, name))
        if owner != algorithm:
            raise ValueError(f"{algorithm} and {owner} share the file {file}: rank them in two studies")
        if owned_by != name:
            skipped.append(f"{name}: {owned_by}, of the same algorithm, ranks before it")
            continue
        for env_id, best in line["best"].items():
            runs = line["scores"][env_id]
            before = None if registered is None else registered[name, env_id]
            if reason := _not_worth_an_entry(runs, before):
                skipped.append(f"{name} on {env_id}: {reason}")
                continue
            Experiment(algorithm, env_id, best["entry"])  # refuses what could not be loaded again
            comment = _provenance(ranking, date, line, env_id, before)
            body = "".join(f"  {row}\n" for row in [*comment, *entry_yaml(best["entry"]).splitlines()])
            blocks.setdefault(file, {})[env_id] = _Block(best["entry"], f"{env_id}:\n{body}")
    return blocks


def _not_worth_an_entry(runs: Sequence[Mapping[str, Any]], before: float | None) -> str:
    """Why the configuration of these test runs is not exported; empty where it is."""
    if any(run["is_fault"] for run in runs):
        return "not run, by what looks like a fault of sb3_ppo_variants"
    if all(run["raw"] is None for run in runs):
        return f"every test run failed ({runs[0]['reason']})"
    mean = _mean_score(runs)
    if before is not None and mean <= before:
        return f"its mean test score, {mean:.3f}, is not above the {before:.3f} of the registered configuration"
    return ""


def _mean_score(runs: Sequence[Mapping[str, Any]]) -> float:
    return fmean(run["normalised"] for run in runs)


def _provenance(
    ranking: RankingJson, date: str, line: Mapping[str, Any], env_id: str, before: float | None
) -> list[str]:
    """Study, date, trial, seeds, scores and versions, as lines of a comment."""
    protocol = ranking["protocol"]
    best, runs = line["best"][env_id], line["scores"][env_id]
    budget, seed = protocol["budget"], protocol["seed"]
    iqm = iqm_on(ranking, line, [env_id])
    interval = "" if iqm.ci_low is None else f" [{iqm.ci_low:.3f}, {iqm.ci_high:.3f}]"
    returns = fmean(run["raw"] for run in runs if run["raw"] is not None)
    failed = sum(run["raw"] is None for run in runs)
    name, configuration = line["algorithm"], configuration_in(protocol, line["algorithm"])
    origin = origin_text(best["trial"], budget["trials"], configuration["hyperparameters"])
    named = "" if name == configuration["algorithm"] else f"ranked as {name}, "
    lines = [
        f"Study {protocol['study']}, seed {seed}, {date}: {named}{origin}, "
        f"runs of {protocol['environments'][env_id]} steps.",
        *(
            f"{stage.capitalize()}: normalised score {value:.3f} over {budget[f'{stage}_seeds']} seeds."
            for stage in ("tuning", "validation")
            if (value := best[f"{stage}_value"]) is not None
        ),
        f"Test: normalised IQM {iqm.value:.3f}{interval}, mean return {returns:.6g}"
        + (f", {failed} failed runs," if failed else ""),
        f"over {len(runs)} other seeds: {', '.join(str(run['seed']) for run in runs)}.",
        *(
            [f"On these, normalised mean {_mean_score(runs):.3f}, {before:.3f} with the values that were registered."]
            if before is not None
            else []
        ),
        "Versions: " + ", ".join(f"{name} {protocol['versions'][name]}" for name in _PACKAGES) + ".",
    ]
    return [f"# {' '.join(text.split())}" for text in lines]


def _with_blocks(path: Path, blocks: Mapping[str, _Block]) -> str:
    """The text of a zoo file after its entries for the environments of ``blocks`` are replaced or appended."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else f"# Hyperparameters of {path.stem}\n"
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file: {error}") from error
    wanted = _entries(path, text) | {env_id: block.entry for env_id, block in blocks.items()}
    try:
        for env_id, block in blocks.items():
            text = _spliced(path, text, env_id, block.text)
        found = yaml.safe_load(text)
    except yaml.YAMLError:  # an anchor is gone
        found = None
    if found != wanted:
        raise ValueError(
            f"{path} cannot be changed entry by entry: another entry is built on one that would be replaced "
            f"({', '.join(blocks)}); write out its values first, or give another --to"
        )
    return text


def _entries(path: Path, text: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise ValueError(f"{path} is no file of zoo entries: expected an environment id and its values on every level")
    return content


def _spliced(path: Path, text: str, env_id: str, block: str) -> str:
    """``text`` with ``block`` in place of the entry of ``env_id``, or at its end.

    Works on lines: what a YAML library would write anew is not ours to reformat.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    if isinstance(node, yaml.MappingNode) and node.flow_style:
        raise ValueError(f"{path} is written in braces: write one entry below the other")
    starts = [key.start_mark.line for key in keys]
    lines = text.splitlines(keepends=True)
    place = next((index for index, key in enumerate(keys) if key.value == env_id), None)
    if place is None:
        return f"{text.rstrip()}\n\n{block}"
    end = starts[place + 1] if place + 1 < len(keys) else len(lines)
    while not lines[end - 1].strip() or lines[end - 1].startswith("#"):
        end -= 1  # blank lines and comments before the next entry belong to that one
    return "".join([*lines[: starts[place]], block, *lines[end:]])
