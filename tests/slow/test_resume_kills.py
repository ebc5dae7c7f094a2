"""Runs of several kinds killed from outside at random moments end as runs that were left alone, bit for bit."""

import os
import pickle
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from resume_helpers import Run, in_a_child, was_killed
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecNormalize

from sb3_ppo_variants import AdaptiveClipPPO, AdaptiveLRPPO, KLStopPPO, MaskableKLPenaltyPPO, TrustRegionPPO
from sb3_ppo_variants.families import MaskableRecurrentClipPPO, RecurrentAdaptiveClipPPO
from sb3_ppo_variants.resume import archive

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]

_DEATHS = 3


def _mask(env: gym.Env) -> np.ndarray:
    """Forbid one action, another one in each state."""
    state = env.unwrapped.state if hasattr(env.unwrapped, "state") else [env.unwrapped.lander.position.x]
    mask = np.ones(env.action_space.n, dtype=bool)
    mask[int(abs(state[0]) * 1e6) % len(mask)] = False
    return mask


def make_env(
    env_id: str,
    folder: Path | None = None,
    *,
    n_envs: int = 1,
    normalize: bool = False,
    masks: bool = False,
    vec_env: Any = DummyVecEnv,
    norm_reward: bool = True,
) -> VecEnv:
    def make(index: int) -> gym.Env:
        env = gym.make(env_id)
        if masks:
            env = ActionMasker(env, _mask)
        return Monitor(env, None if folder is None else str(folder / f"{index}.monitor.csv"))

    vector = vec_env([partial(make, index) for index in range(n_envs)])
    vector.seed(5)
    return VecNormalize(vector, training=norm_reward, norm_reward=norm_reward) if normalize else vector


def _run(folder: Path, cls: Any, env_id: str, policy: str = "MlpPolicy", **settings: Any) -> Run:
    environment = {name: settings.pop(name) for name in ("n_envs", "normalize", "masks", "vec_env") if name in settings}
    return Run(
        folder,
        cls,
        partial(make_env, env_id, **environment),
        policy,
        {"batch_size": 32, "n_epochs": 4, **settings},
        steps=1536,
        every=192,
        eval_every=240 // environment.get("n_envs", 1),
        formats=("csv",),
    )


_LSTM: dict[str, Any] = {"policy": "MlpLstmPolicy", "policy_kwargs": {"lstm_hidden_size": 8}}
RUNS: dict[str, Callable[[Path], Run]] = {
    "adaptive, numpy": lambda folder: _run(
        folder, AdaptiveClipPPO, "CartPole-v1", n_envs=3, normalize=True, engine="numpy"
    ),
    "adaptive, torch": lambda folder: _run(folder, AdaptiveLRPPO, "Hopper-v5", normalize=True, engine="torch"),
    "own critic, numpy": lambda folder: _run(
        folder, KLStopPPO, "Hopper-v5", n_envs=3, engine="numpy", critic_epochs=2, critic_learning_rate=1e-3
    ),
    "rolled back, numpy": lambda folder: _run(folder, TrustRegionPPO, "LunarLander-v3", n_envs=3, engine="numpy"),
    "gSDE, torch": lambda folder: _run(
        folder, AdaptiveClipPPO, "Hopper-v5", n_envs=3, normalize=True, use_sde=True, sde_sample_freq=4
    ),
    "masked": lambda folder: _run(folder, MaskableKLPenaltyPPO, "LunarLander-v3", masks=True),
    "recurrent": lambda folder: _run(folder, RecurrentAdaptiveClipPPO, "CartPole-v1", normalize=True, **_LSTM),
    "masked and recurrent": lambda folder: _run(
        folder, MaskableRecurrentClipPPO, "CartPole-v1", n_envs=3, masks=True, **_LSTM
    ),
    "in processes": lambda folder: _run(folder, AdaptiveClipPPO, "LunarLander-v3", n_envs=3, vec_env=SubprocVecEnv),
}


def _started(run: Run, result: Path) -> int:
    """Train in a fork; return its number when it has written a checkpoint, or has ended without one."""
    before = archive.checkpoints(run.folder)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            result.write_bytes(pickle.dumps(run.train()))
            status = 0
        finally:
            os._exit(status)
    while (
        archive.checkpoints(run.folder) == before
        and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    ):
        time.sleep(0.01)
    return child


def _killed_after(seconds: float, run: Run) -> bool:
    """Kill a fork that trains some time after its first checkpoint; tell whether it was still running."""
    child = _started(run, run.folder.with_suffix(".result"))
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)  # one that has ended is still there until it is waited for
    return was_killed(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("make_run", RUNS.values(), ids=RUNS)
def test_killed_at_random_moments_it_ends_as_if_left_alone(
    tmp_path: Path, make_run: Callable[[Path], Run], request: pytest.FixtureRequest
) -> None:
    result, moments = tmp_path / "result", random.Random(request.node.callspec.id)  # noqa: S311 -- moments of tests
    child = _started(make_run(tmp_path / "undisturbed"), result)
    begun = time.monotonic()  # environments in processes take longer to start than all of the training
    assert os.waitpid(child, 0)[1] == 0
    seconds = time.monotonic() - begun
    undisturbed = _read(result)
    run = make_run(tmp_path / "killed")
    deaths = 0
    while deaths < _DEATHS:
        if _killed_after(moments.uniform(0, 0.4 / _DEATHS) * seconds, run):
            deaths += 1
        else:  # another load of the machine: it was quicker than the undisturbed one
            shutil.rmtree(run.folder)
            deaths = 0
    print(f"killed {deaths} times, the last checkpoint then: {archive.checkpoints(run.folder)[:1]}")
    assert in_a_child(run.train, result) == 0
    np.testing.assert_equal(_read(result), undisturbed)


def test_it_is_killed_twenty_times() -> None:
    assert _DEATHS * len(RUNS) >= 20


def _read(result: Path) -> Any:
    return pickle.loads(result.read_bytes())  # noqa: S301 -- written a moment ago
