"""train --resumable and --resume: the folder of a killed run ends as that of one that was left alone."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resume_helpers import die_at, in_a_child, was_killed
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecNormalize
from zoo_helpers import command, refusal

from sb3_ppo_variants.resume import archive

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

SETTINGS = [
    "n_envs:2", "n_steps:32", "batch_size:32", "n_epochs:2", "normalize:True", "critic_epochs:None",
    "critic_learning_rate:None", "clip_range_high:'lin_0.3'",
]  # fmt: skip
OPTIONS = ["-n", 320, "--eval-freq", 100, "--eval-episodes", 2, "-params", *SETTINGS]


def train(folder: str, *more: object) -> None:
    command("train", "--algo", "clip_ppo", "--env", "CartPole-v1", "-f", folder, *more, *OPTIONS)


def remains(folder: str) -> dict[str, Any]:
    run = Path(folder) / "clip_ppo/CartPole-v1_1"
    models = {}
    for name in ("CartPole-v1.zip", "best_model.zip"):
        _, parameters, _ = load_from_zip_file(run / name)
        models[name] = {key: value.numpy() for key, value in parameters["policy"].items()}
    with np.load(run / "evaluations.npz") as file:
        evaluations = dict(file)
    episodes = [line.rpartition(",")[0] for line in (run / "0.monitor.csv").read_text().splitlines()[1:]]
    normalize = VecNormalize.load(str(run / "CartPole-v1/vecnormalize.pkl"), make_vec_env("CartPole-v1", n_envs=2))
    normalization = [vars(normalize.obs_rms), vars(normalize.ret_rms)]
    return {"models": models, "evaluations": evaluations, "episodes": episodes, "normalization": normalization}


def test_a_killed_run_is_resumed_by_its_folder_alone(tmp_path: Path) -> None:
    train("undisturbed", "--resumable", 128, "--seed", 3)
    run = Path("killed/clip_ppo/CartPole-v1_1")
    for arguments, call in (("--resumable", 128, "--seed", 3), 3), (None, 7):  # before and after the first checkpoint

        def begin(arguments: Any = arguments, call: int = call) -> None:
            die_at(np.random, "permutation", call)
            if arguments is None:
                command("train", "--resume", run)
            else:
                train("killed", *arguments)

        assert was_killed(in_a_child(begin, tmp_path / "result"))
    assert archive.checkpoints(run / "resume")
    config = (run / "CartPole-v1/command.txt").read_text()
    command("train", "--resume", run)
    np.testing.assert_equal(remains("killed"), remains("undisturbed"))
    assert (run / "CartPole-v1/command.txt").read_text() == config
    assert [path.name for path in Path("killed/clip_ppo").iterdir()] == ["CartPole-v1_1"]


def test_without_numbers_it_has_twenty_checkpoints_and_a_seed_that_is_drawn_once() -> None:
    train("logs", "--resumable")
    folder = Path("logs/clip_ppo/CartPole-v1_1/resume")
    assert archive.read_newest(folder).state["every"] == 320 // 20
    arguments = json.loads((folder / "arguments.json").read_text())["arguments"]
    assert archive.read_newest(folder).state["seed"] == int(arguments[arguments.index("--seed") + 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "nowhere"], "nowhere holds no run of train --resumable"),
        (["--resume", "nowhere", "-n", "10"], "leave the others out"),
        (["--resumable", "--algo", "ppo", "--env", "CartPole-v1"], "ppo cannot be resumed, the variants can"),
        (["--resumable", "--algo", "spo", "--env", "CartPole-v1", "-optimize"], "is for one run"),
        (["--algo", "spo", "--env", "CartPole-v1", "--resumable", "-5"], "every=-5 must be a whole number"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], message: str) -> None:
    assert message in refusal("train", *arguments)


def test_a_damaged_note_of_the_arguments_is_named() -> None:
    train("logs", "--resumable")
    note = Path("logs/clip_ppo/CartPole-v1_1/resume/arguments.json")
    for text in ("{", "[]", '{"every": 1}'):
        note.write_text(text)
        assert f"{note} is damaged" in refusal("train", "--resume", "logs/clip_ppo/CartPole-v1_1")


def test_help_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), warnings.catch_warnings():
        command("train", "--help")
    assert "--resume FOLDER" in capsys.readouterr().out
    assert os.listdir() == []
