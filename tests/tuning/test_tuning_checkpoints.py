"""``budget.checkpoint_every``: a killed study loses minutes of a run, not the run, and ranks as if left alone."""

import json
import pickle
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import mostly_slow
from pydantic import ValidationError
from resume_helpers import die_at, in_a_child, was_killed
from rich.console import Console
from sb3_ppo_variants.tuning import rank as rank_module
from sb3_ppo_variants.tuning.runs.cell import CellResult, Evaluation, run_cell
from sb3_ppo_variants.tuning.study.protocol import protocol_of
from tuning_helpers import make_cell, study

from sb3_ppo_variants.resume import archive

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

ENTRY = {"policy": "MlpPolicy", "n_envs": 2, "n_steps": 32, "batch_size": 64, "n_epochs": 2, "normalize": True}
TRPO = {"policy": "MlpPolicy", "n_envs": 2, "n_steps": 32, "n_critic_updates": 2}
CURVE = Evaluation(seed=4096, episodes=2, checkpoints=4)
TIMES = {"seconds": True, "curve": {"__all__": {"seconds"}}}


@pytest.mark.parametrize(
    ("algorithm", "entry"),
    mostly_slow(
        [("adaptive_lr_ppo", ENTRY), ("ppo", ENTRY), ("trpo", TRPO)],
        [("adaptive_lr_ppo", ENTRY), ("trpo", TRPO)],
        ids=lambda case: case[0],
    ),
)
def test_a_killed_run_goes_on_from_its_checkpoint_and_gives_the_same_result(
    tmp_path: Path, algorithm: str, entry: dict[str, Any]
) -> None:
    cell = make_cell(algorithm=algorithm, entry=entry, steps=384, evaluation=CURVE, checkpoint_every=128)

    def die() -> None:
        die_at(np.random, "permutation", 8)
        run_cell(cell, checkpoints=tmp_path)

    assert was_killed(in_a_child(die, tmp_path / "result"))
    (newest, *_) = archive.checkpoints(tmp_path / cell.key)
    result = run_cell(cell, checkpoints=tmp_path)
    assert archive.steps_of(newest) >= 128
    assert not (tmp_path / cell.key).exists()
    assert result.status == "ok"
    assert result.model_dump(exclude=TIMES) == run_cell(cell).model_dump(exclude=TIMES)


def test_a_run_whose_checkpoints_are_all_torn_begins_anew(tmp_path: Path) -> None:
    cell = make_cell(entry=ENTRY, steps=128, checkpoint_every=64)
    archive.write(tmp_path / cell.key, 64, b"no model", {}).write_bytes(b"torn")
    result = run_cell(cell, checkpoints=tmp_path)
    assert result.model_dump(exclude=TIMES) == run_cell(cell).model_dump(exclude=TIMES)


def test_checkpoints_are_a_part_of_what_is_ranked_and_their_absence_changes_nothing() -> None:
    """Files and protocols of studies without them are those of before there were any."""
    plain, often, seldom = make_cell(), make_cell(checkpoint_every=128), make_cell(checkpoint_every=256)
    assert len({plain.key, often.key, seldom.key}) == 3
    assert plain.key == "1dd5cef32b5cd8073665c4ac7603703ffa9df7b7d9c4d60c36f9a5a87472a120"
    assert "checkpoint_every" not in plain.model_dump(mode="json")
    assert often.model_dump(mode="json")["checkpoint_every"] == 128
    before, after = protocol_of("s", study()), protocol_of("s", study(checkpoint_every=1000))
    assert "checkpoint_every" not in before["budget"]
    assert after["budget"].pop("checkpoint_every") == 1000
    assert "seeded from its seed" in after.pop("resets_at_checkpoints")
    assert before == after


@pytest.mark.parametrize("every", [0, 1.5, "1e5"])
def test_steps_between_checkpoints_must_be_a_positive_whole_number(every: Any) -> None:
    with pytest.raises(ValidationError):
        study(checkpoint_every=every)


class Here(futures.Executor):
    """Runs cells in this process, one after the other."""

    where, slots = "here", 1

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> futures.Future[CellResult]:
        future: futures.Future[CellResult] = futures.Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def here(*args: Any, **kwargs: Any) -> Iterator[Here]:
    yield Here()


@pytest.mark.end_to_end
def test_a_killed_study_goes_on_within_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_module, "open_executor", here)
    # 20 permutations every 256 steps: the 150th comes after the first checkpoint
    twenty_passes = {"n_envs": 8, "n_steps": 32, "n_epochs": 20, "critic_epochs": None, "critic_learning_rate": None}
    content = {
        "algorithms": [{"twenty_passes": {"algorithm": "spo", "hyperparameters": twenty_passes}}, "ppo"],
        "environments": {"CartPole-v1": {"steps": 4096}},
        "budget": {"trials": 0, "tuning_seeds": 1, "test_seeds": 1, "checkpoint_every": 1500},
        "evaluation": {"episodes": 1, "checkpoints": 2},
    }
    (tmp_path / "study.yml").write_text(json.dumps(content))

    def rank(folder: str, death: int | None = None) -> Any:
        if death is not None:
            die_at(np.random, "permutation", death)
        rank_module.rank(str(tmp_path / "study.yml"), out=tmp_path / folder, console=Console(quiet=True))
        files = sorted((tmp_path / folder / "cells").glob("*.json"))
        results = [json.loads(path.read_text())["result"] for path in files]
        return [(result["status"], result["returns"], result["steps"]) for result in results]

    result = tmp_path / "result"
    assert was_killed(in_a_child(lambda: rank("killed", 150), result))
    assert list((tmp_path / "killed/checkpoints").glob("*/checkpoint-*.zip"))
    for folder in ("killed", "undisturbed"):
        assert in_a_child(lambda folder=folder: rank(folder), result) == 0
        content[folder] = pickle.loads(result.read_bytes())  # noqa: S301 -- written a moment ago
    assert content["killed"] == content["undisturbed"]
    assert [status for status, _, _ in content["killed"]] == ["ok", "ok"]
    assert not (tmp_path / "killed/checkpoints").exists()
