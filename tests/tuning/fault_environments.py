"""CartPole with faults, for ``gymnasium.make("fault_environments:Raises-v0")``; imported by worker processes."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

MARK = "FAULT_MARK"
"""Environment variable: a file that is made when a worker is killed, and keeps the next one alive."""


class Faulty(CartPoleEnv):
    """Sound for the first steps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        outcome = super().step(action)
        return self.fault(*outcome) if self.steps > 100 else outcome

    def fault(self, observation: Any, reward: Any, *rest: Any) -> Any:
        return observation, reward, *rest


class Raises(Faulty):
    def fault(self, observation: Any, reward: Any, *rest: Any) -> Any:
        raise RuntimeError("the simulator lost its licence")


class Nan(Faulty):
    def fault(self, observation: Any, reward: Any, *rest: Any) -> Any:
        return np.full_like(observation, np.nan), reward, *rest


class Hangs(Faulty):
    """As a loop in C does: it does not hear when it is asked to end."""

    def fault(self, observation: Any, reward: Any, *rest: Any) -> Any:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        time.sleep(3600)


class Leaks(Faulty):
    kept: list[bytearray] = []  # noqa: RUF012 - a leak outlives its environment

    def fault(self, observation: Any, reward: Any, *rest: Any) -> Any:
        self.kept.append(bytearray(b"x" * 2**22))
        return observation, reward, *rest


class DiesOnce(Faulty):
    def fault(self, observation: Any, reward: Any, *rest: Any) -> Any:
        mark = Path(os.environ[MARK])
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return observation, reward, *rest


class Masked(CartPoleEnv):
    def action_masks(self) -> np.ndarray:
        return np.ones(2, dtype=bool)


class Texts(CartPoleEnv):
    """No policy reads what it observes."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = gymnasium.spaces.Text(8)


for _cls in (Masked, Texts, Raises, Nan, Hangs, Leaks, DiesOnce):
    gymnasium.register(f"{_cls.__name__}-v0", entry_point=_cls, max_episode_steps=200)
