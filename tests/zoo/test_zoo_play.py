"""enjoy, record-video, record-training and benchmark, on folders that train left."""

import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rl_zoo3.enjoy
from stable_baselines3.common.monitor import load_results
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from zoo_helpers import TESTS, command, frames, refusal

from sb3_ppo_variants import AdaptiveClipPPO
from sb3_ppo_variants.zoo import register, rendering

ALGO, ENV = "adaptive_clip_ppo", "CartPole-v1"
MODEL = ["--algo", ALGO, "--env", ENV]
SMALL = ["n_steps:16", "n_envs:2", "batch_size:32", "n_epochs:1"]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that AdaptiveClipPPO is loaded from."""
    names = []
    original = AdaptiveClipPPO.load

    def load(path: Any, *arguments: Any, **keywords: Any) -> Any:
        names.append(Path(path).name)
        return original(path, *arguments, **keywords)

    monkeypatch.setattr(AdaptiveClipPPO, "load", load)
    return names


@pytest.mark.parametrize(
    ("choice", "file"),
    [
        ([], "CartPole-v1.zip"),
        (["--load-best"], "best_model.zip"),
        (["--load-checkpoint", 256], "rl_model_256_steps.zip"),
        (["--load-last-checkpoint"], "rl_model_512_steps.zip"),
    ],
)
def test_enjoy_plays_the_model_asked_for(
    choice: list[object], file: str, cartpole_logs: Path, loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command("enjoy", *MODEL, "-f", cartpole_logs, "--no-render", "-n", 300, "--reward-log", "rewards", *choice)
    assert loaded == [file]
    assert "Mean reward" in capsys.readouterr().out
    assert load_results("rewards").l.sum() <= 300


def test_enjoy_draws_a_window(cartpole_logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    drawn = []
    monkeypatch.setattr("pygame.display.flip", lambda: drawn.append(True))
    command("enjoy", *MODEL, "-f", cartpole_logs, "-n", 5)
    assert len(drawn) >= 5


def test_rl_zoo3s_own_enjoy_plays_our_folder_after_register(
    cartpole_logs: Path, loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    monkeypatch.setattr(sys, "argv", ["enjoy", *MODEL, "-f", str(cartpole_logs), "--no-render", "-n", "20"])
    rl_zoo3.enjoy.enjoy()
    assert loaded == ["CartPole-v1.zip"]


def test_enjoy_sees_observations_as_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    command("train", *MODEL, "-n", 64, "--eval-freq", -1, "-params", *SMALL, "normalize:True")
    statistics = "logs/adaptive_clip_ppo/CartPole-v1_1/CartPole-v1/vecnormalize.pkl"
    seen = []
    original = AdaptiveClipPPO.predict

    def predict(self: AdaptiveClipPPO, observation: Any, *arguments: Any, **keywords: Any) -> Any:
        seen.append(observation)
        return original(self, observation, *arguments, **keywords)

    monkeypatch.setattr(AdaptiveClipPPO, "predict", predict)
    command("enjoy", *MODEL, "-f", "logs", "--no-render", "-n", 1)
    env = _cartpole()
    env.seed(0)
    raw = env.reset()
    np.testing.assert_array_equal(seen[0], VecNormalize.load(statistics, env).normalize_obs(raw))
    assert not np.allclose(seen[0], raw)


def _cartpole() -> DummyVecEnv:
    import gymnasium as gym

    return DummyVecEnv([lambda: gym.make("CartPole-v1")])


@pytest.fixture
def masked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return the options of a trained model whose environment raises where an action is not valid."""
    monkeypatch.syspath_prepend(TESTS)
    options: list[object] = [
        "--algo",
        "maskable_clip_ppo",
        "--env",
        "OneValidAction-v0",
        "--gym-packages",
        "masked_env",
    ]
    command("train", *options, "-n", 64, "--eval-freq", -1, "-params", *SMALL)
    return options


@pytest.mark.parametrize("n_envs", [1, 2])
def test_masks_reach_enjoy(masked: list[object], n_envs: int) -> None:
    command("enjoy", *masked, "-f", "logs", "--no-render", "-n", 60, "--n-envs", n_envs, "--reward-log", "rewards")
    assert (load_results("rewards").r == 10).all()
    assert len(load_results("rewards")) >= 5


def test_masks_reach_rl_zoo3s_own_enjoy_after_register(masked: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    from rl_zoo3.enjoy import enjoy

    register()
    options = ["-f", "logs", "--no-render", "-n", 60, "--reward-log", "rewards"]
    monkeypatch.setattr(sys, "argv", ["enjoy", *masked, *map(str, options)])
    enjoy()
    assert len(load_results("rewards")) >= 5


def test_masks_reach_films(masked: list[object]) -> None:
    command("record-video", *masked[:4], "-f", "logs", "-n", 20, "-o", "films")
    (film,) = Path("films").glob("*.mp4")
    assert frames(film).std() > 0


def test_playing_with_masks_leaves_the_classes_as_they_were(masked: list[object]) -> None:
    before = dict(rl_zoo3.ALGOS)
    command("enjoy", *masked, "-f", "logs", "--no-render", "-n", 5)
    command("record-video", *masked[:4], "-f", "logs", "-n", 5, "-o", "films")
    assert type(rl_zoo3.ALGOS) is dict
    assert dict(rl_zoo3.ALGOS) == before


def test_a_film_shows_the_environment(cartpole_logs: Path) -> None:
    command("record-video", *MODEL, "-f", cartpole_logs, "-n", 20, "-o", "films")
    (film,) = Path("films").glob("final-model-*.mp4")
    pictures = frames(film)
    assert pictures.shape[1:] == (400, 600, 3)
    assert len(pictures) >= 20
    assert pictures[0].std() > 10
    assert (pictures[0] != pictures[-1]).any()


@pytest.fixture
def own_environment(masked: list[object], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return the options of ``masked``, for processes that find the package but in which nothing has registered it."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    return masked


@pytest.mark.slow  # three films, each in a process of its own
def test_a_film_of_each_checkpoint(own_environment: list[object]) -> None:
    command("train", *own_environment, "-n", 32, "--save-freq", 32, "--eval-freq", -1, "-params", *SMALL)
    # Each film comes from a process of its own; a relative folder is where rl_zoo3 stumbles
    command("record-training", *own_environment, "-f", "logs", "-n", 10, "-o", "films", "--gif")
    names = sorted(path.name.partition("-maskable")[0] for path in Path("films").glob("*-step-*.mp4"))
    assert names == ["checkpoint-32", "final-model"]
    pictures = frames(Path("films/training.mp4"))
    assert pictures.shape[1:] == (64, 64, 3)
    assert len(pictures) >= 20
    assert Path("films/training.gif").read_bytes().startswith(b"GIF")


@pytest.mark.slow  # two processes that import everything
def test_benchmark_evaluates_every_agent_of_a_folder(own_environment: list[object]) -> None:
    # Each agent plays in a process of its own
    options = ["--log-dir", "logs", "--benchmark-dir", "bench", "--no-hub", "-n", 20, "--num-threads", 1]
    command("benchmark", *options, *own_environment[4:])
    row = next(line for line in Path("bench/benchmark.md").read_text().splitlines() if "OneValidAction-v0" in line)
    assert [cell.strip() for cell in row.strip("|").split("|")][:3] == ["maskable_clip_ppo", "OneValidAction-v0", "10"]
    assert load_results("bench/maskable_clip_ppo-OneValidAction-v0").l.sum() <= 20


def test_benchmark_finds_the_folders_of_games() -> None:
    run = Path("logs/spo/ALE-Pong-v5_1/ALE-Pong-v5")
    run.mkdir(parents=True)
    (run / "args.yml").write_text("env: ALE/Pong-v5")
    (run / "config.yml").write_text("n_timesteps: 5000")
    # Scores are there from an earlier benchmark, so it does not play again
    scores = Path("bench/spo-ALE-Pong-v5/0.monitor.csv")
    scores.parent.mkdir(parents=True)
    scores.write_text('#{"t_start": 0.0, "env_id": "ALE/Pong-v5"}\nr,l,t\n-21.0,900,1.0\n')
    command("benchmark", "--log-dir", "logs", "--benchmark-dir", "bench", "--no-hub")
    row = next(line for line in Path("bench/benchmark.md").read_text().splitlines() if line.startswith("|spo"))
    assert [cell.strip() for cell in row.strip("|").split("|")][:5] == ["spo", "ALE-Pong-v5", "-21", "0", "5k"]


@pytest.mark.parametrize("name", ["enjoy", "load-from-hub", "benchmark"])
def test_what_rl_zoo3_needs_and_does_not_declare(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 'requests; extra == "zoo"' in requires("sb3-ppo-variants")
    monkeypatch.setitem(sys.modules, "requests", None)
    assert refusal(name, "--help") == f'{name} needs requests: pip install "sb3-ppo-variants[zoo]"'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["enjoy", *MODEL, "-f", "logs"], "The logs/adaptive_clip_ppo folder was not found"),
        (["enjoy", "--algo", ALGO, "--env", "CartPol-v1", "-f", "logs"], "did you mean CartPole-v1"),
        (["enjoy", "--algo", "adaptve_clip_ppo", "--env", ENV], "did you mean adaptive_clip_ppo"),
        (["record-video", *MODEL], "add -f logs"),
        (["record-training", *MODEL, "-f", "nothing"], "folder was not found"),
        (["benchmark", "--log-dir", "nothing", "--no-hub"], "'nothing'"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(arguments: list[str], message: str) -> None:
    assert message in refusal(*arguments)


def test_a_checkpoint_that_is_not_there(cartpole_logs: Path) -> None:
    message = refusal("enjoy", *MODEL, "-f", cartpole_logs, "--no-render", "--load-checkpoint", 5)
    assert "rl_model_5_steps.zip" in message


def test_a_run_that_was_stopped_before_it_saved(cartpole_logs: Path) -> None:
    Path("logs/adaptive_clip_ppo/CartPole-v1_3").mkdir(parents=True)
    message = refusal("enjoy", *MODEL, "-f", "logs", "--no-render")
    assert "--exp-id" in message


CHEETAH = ["--algo", "clip_ppo", "--env", "HalfCheetah-v5", "-f", "logs"]


def test_mujoco_without_a_display_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "has_display", lambda: False)
    assert "record-video" in refusal("enjoy", *CHEETAH)


def test_mujoco_where_nothing_draws_is_not_filmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "has_display", lambda: False)
    monkeypatch.setenv("MUJOCO_GL", "nothing")  # MuJoCo refuses it, as it does where a library is missing
    message = refusal("record-video", *CHEETAH)
    assert "cannot be filmed here" in message
    assert "apt-get install" in message
