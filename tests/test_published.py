"""What stands in ``results/``, the README and ``zoo_configs/`` is one and the same, to the digit."""

import json
import math
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from exported import exported_blocks
from sb3_ppo_variants.tuning.ranking.export import export
from sb3_ppo_variants.tuning.ranking.ranking_json import read_ranking
from sb3_ppo_variants.tuning.study.protocol import protocol_of
from sb3_ppo_variants.tuning.study.study_file import load_study

REPOSITORY = Path(__file__).resolve().parent.parent
PUBLISHED = sorted(path.parent for path in (REPOSITORY / "results").glob("*/ranking.json"))
ZOO = REPOSITORY / "zoo_configs"
MAX_REPORT = 5 * 2**20

published = pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)


def runs_of(ranking: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for line in [*ranking["ranking"], *ranking["unranked"]]:
        for runs in line["scores"].values():
            yield from runs


def test_something_is_published() -> None:
    assert PUBLISHED


@published
def test_every_score_is_that_of_a_finished_run_which_is_there(folder: Path) -> None:
    ranking = read_ranking(folder)
    with tarfile.open(folder / "cells.tar.xz") as archive:
        cells = {}
        for member in archive:
            if member.name.startswith("cells/") and (file := archive.extractfile(member)) is not None:
                cells[Path(member.name).stem] = json.load(file)["result"]
            elif member.name == "protocol.json" and (file := archive.extractfile(member)) is not None:
                protocol = json.load(file)
    assert {key: protocol[key] for key in protocol if key != "extensions"} == {
        key: ranking["protocol"][key] for key in protocol if key != "extensions"
    }
    runs = list(runs_of(ranking))
    sizes = (protocol["algorithms"], protocol["environments"], protocol["seeds"]["test"])
    assert len(runs) == math.prod(map(len, sizes))
    assert [run["raw"] for run in runs] == [cells[run["cell"]]["score"] for run in runs]


@published
def test_the_files_say_the_same(folder: Path) -> None:
    ranking = read_ranking(folder)
    assert ranking["verdict"] in (folder / "ranking.md").read_text(encoding="utf-8")
    best = yaml.safe_load((folder / "best.yml").read_text(encoding="utf-8"))
    for line in ranking["ranking"]:
        assert best[line["algorithm"]] == {env_id: each["entry"] for env_id, each in line["best"].items()}
    report = folder / "report.html"
    if report.exists():
        assert report.stat().st_size < MAX_REPORT
        assert ranking["verdict"].partition("(")[0].strip() in re.sub(r"\s+", " ", report.read_text(encoding="utf-8"))


@published
def test_it_is_the_study_that_was_registered(folder: Path) -> None:
    protocol = read_ranking(folder)["protocol"]
    study = load_study(protocol["study"])
    assert protocol["seed"] == study.seed
    assert set(protocol["algorithms"]) == set(study.algorithms)
    for env_id, steps in protocol["environments"].items():
        assert study.environments[env_id].steps == steps
    budget = study.budget.model_dump()
    different = {key for key, value in protocol["budget"].items() if value != budget[key]}
    assert different <= {"trials"}
    assert protocol["budget"]["trials"] in (0, study.budget.trials)


@published
def test_it_is_repeated_from_its_folder(folder: Path) -> None:
    then = read_ranking(folder)["protocol"]
    now = protocol_of(then["study"], load_study(str(folder)))
    # How the baselines are trained follows from the package: a row is made again at the commit that stands with it
    for key in now.keys() - {"versions", "baselines", "extensions", "begun_as"}:
        assert now[key] == then[key], key


@published
def test_its_verdict_is_quoted_as_it_is(folder: Path) -> None:
    verdict = read_ranking(folder)["verdict"]
    study = folder.with_name(folder.name.removesuffix("-registered"))
    result = " ".join((study / "RESULT.md").read_text(encoding="utf-8").split())
    assert verdict in result
    readme = " ".join((REPOSITORY / "README.md").read_text(encoding="utf-8").split())
    assert verdict in readme or f"results/{folder.name}/RESULT.md" in readme or folder != study


def test_exported_entries_are_those_of_the_published_rankings(tmp_path: Path) -> None:
    exported = {path.name: exported_blocks(path) for path in ZOO.glob("*.yml")}
    studies = {study for entries in exported.values() for study, _ in entries}
    for study in studies:
        results = REPOSITORY / "results" / study
        export(results, tmp_path / study, against=results.with_name(f"{study}-registered"))
    for name, entries in exported.items():
        for (study, env_id), text in entries.items():
            assert text == exported_blocks(tmp_path / study / name)[study, env_id], f"{name}, {env_id}"
