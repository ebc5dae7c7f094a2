"""Folders with trained agents, as a user of rl-zoo has them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch as th
from zoo_helpers import command


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in a folder of its own; rl_zoo3 writes where it stands."""
    monkeypatch.chdir(tmp_path)
    threads = th.get_num_threads()
    yield
    th.set_num_threads(threads)  # --num-threads


@pytest.fixture(scope="session")
def cartpole_logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of logs with a run of adaptive_clip_ppo on CartPole-v1, with checkpoints and best model."""
    folder = tmp_path_factory.mktemp("cartpole") / "logs"
    options = ["-n", 512, "--save-freq", 256, "--eval-freq", 256, "--eval-episodes", 2, "--seed", 1, "-f", folder]
    options += ["-params", "normalize:False"]  # whatever is registered
    command("train", "--algo", "adaptive_clip_ppo", "--env", "CartPole-v1", *options)
    return folder
