"""Pairs that can never run: refused, or left out of a study of all algorithms, before any work."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sb3_ppo_variants.tuning.rank import preview, rank
from sb3_ppo_variants.tuning.study import pairs
from sb3_ppo_variants.tuning.study.pairs import runnable
from sb3_ppo_variants.tuning.study.study_file import Study, load_study
from tuning_helpers import SMALL_STUDY, study

from sb3_ppo_variants.registry import ALGORITHMS

MASKED = "fault_environments:Masked-v0"
SCALE = {"steps": 4096, "random": 20.0, "reference": 500.0}


def of(*algorithms: str, **environments: Any) -> Study:
    content = study().model_dump()
    return Study.model_validate({**content, "algorithms": list(algorithms), **environments})


@pytest.mark.parametrize(
    ("algorithm", "reason"),
    [
        ("rpo", r"rpo cannot run on CartPole-v1: RPO shifts the mean of a Gaussian"),
        ("maskable_clip_ppo", r"maskable_clip_ppo cannot run on CartPole-v1: it asks for action masks, and the env"),
        ("maskable_recurrent_spo", r"maskable_recurrent_spo cannot run on CartPole-v1: it asks for action masks"),
    ],
)
def test_an_algorithm_that_cannot_run_is_refused_with_the_reason(algorithm: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        runnable(of("ppo", algorithm))


def test_whoever_can_run_is_let_through_masks_and_memory_included() -> None:
    env = {"environments": {MASKED: SCALE}}
    whole = of("ppo", "trpo", "recurrent_clip_ppo", "maskable_clip_ppo", "maskable_recurrent_clip_ppo", **env)
    assert runnable(whole) == (whole, {})


def test_an_environment_that_no_model_can_be_built_on_is_refused_with_file_and_line() -> None:
    env = {"environments": {"fault_environments:Texts-v0": SCALE}}
    with pytest.raises(
        ValueError, match=r"ppo cannot run on fault_environments:Texts-v0: TypeError: .* \(stable_baselines3/.*\.py:\d"
    ):
        runnable(of("ppo", **env))


def test_of_all_algorithms_those_that_cannot_run_are_left_out() -> None:
    able, left_out = runnable(load_study("quick", algorithms=["all"]))
    assert list(able.algorithms) == [name for name in ALGORITHMS if name != "rpo"]
    assert list(left_out) == ["rpo"]
    assert left_out["rpo"].startswith("cannot run on CartPole-v1: RPO shifts the mean")


def test_of_all_algorithms_one_must_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_why_not", lambda *args: "no reason")
    with pytest.raises(ValueError, match="clip_ppo cannot run on CartPole-v1: no reason; adaptive_clip_ppo"):
        runnable(load_study("quick", algorithms=["all"]))


def test_a_dry_run_says_who_is_left_out() -> None:
    screen = io.StringIO()
    preview("quick", algorithms=["all"], tune=False, console=Console(file=screen, width=300))
    first, second = screen.getvalue().splitlines()[:2]
    assert first.startswith("Left out: rpo cannot run on CartPole-v1: RPO shifts the mean")
    assert second.startswith("Algorithms: clip_ppo")
    assert "rpo" not in second.replace("trpo", "").split(", ")


def test_nothing_is_written_for_a_study_that_cannot_run(tmp_path: Path) -> None:
    path = tmp_path / "study.yml"
    path.write_text(SMALL_STUDY.replace("[ppo, trpo]", "[rpo]").replace("1024", "2048"))
    with pytest.raises(ValueError, match=rf"study {path}: rpo cannot run on CartPole-v1"):
        rank(str(path), out=tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def noted(text: str, tmp_path: Path, **options: Any) -> str:
    """What a dry run says of a study."""
    path = tmp_path / "study.yml"
    path.write_text(text)
    screen = io.StringIO()
    preview(str(path), console=Console(file=screen, width=300), **options)
    return screen.getvalue()


def test_choices_that_can_do_nothing_are_told(tmp_path: Path) -> None:
    one_seed = SMALL_STUDY.replace("tuning_seeds: 2", "tuning_seeds: 1, checkpoint_every: 2000")
    idle = "Nothing is tuned: --sampler and --pruner can do nothing."
    assert idle in noted(SMALL_STUDY, tmp_path, sampler="gp", pruner="none", tune=False)
    assert "can do nothing" not in noted(SMALL_STUDY, tmp_path, sampler="gp", pruner="median")
    told = noted(one_seed, tmp_path, pruner="median", dask="tcp://nowhere:1")
    assert "--pruner median can do nothing: it gives a trial up between its seeds" in told
    assert "the workers of a Dask cluster keep no checkpoints" in told
    assert "budget.checkpoint_every is 2000: runs on CartPole-v1 end before their first checkpoint." in told


def test_a_dry_run_refuses_what_the_run_would_refuse(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers must be >= 1, got 0"):
        noted(SMALL_STUDY, tmp_path, workers=0)
    with pytest.raises(ValueError, match="workers are counted on this machine"):
        noted(SMALL_STUDY, tmp_path, workers=1, dask="tcp://nowhere:1")
