"""Where the time of training on arrays goes, in microseconds per environment step.

A stopwatch switches at the boundaries of the parts; a tracing profiler would charge Python code several times its cost.
The rows exclude each other and add up to the whole.
"""

import argparse
import functools
import inspect
import os
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from reporting import footer, machine, markdown, one_thread, positive, versions

os.environ.update(one_thread())  # before NumPy and torch make their thread pools

import torch
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import ClipPPO
from sb3_ppo_variants.engines.array_statistics import ArrayStatistics
from sb3_ppo_variants.engines.array_update import ArrayUpdate
from sb3_ppo_variants.engines.choice import KERNELS
from sb3_ppo_variants.engines.lean_step import DummyStep
from sb3_ppo_variants.training import logs

PARTS: dict[str, list[tuple[Any, str]]] = {
    "environment and VecEnv": [(DummyStep, "__call__")],
    "rollout: policy": [(kernels, name) for kernels in KERNELS.values() for name in ("act", "act_within", "values")],
    "rollout: the rest": [(ClipPPO, "collect_rollouts")],
    "update: networks forward": [(kernels, "evaluate") for kernels in KERNELS.values()],
    "update: networks backward": [(kernels, "backward") for kernels in KERNELS.values()],
    "update: Adam": [(kernels, "step") for kernels in KERNELS.values()],
    "update: minibatches": [(ArrayUpdate, "evaluate")],
    "update: slopes": [(ArrayUpdate, "step")],
    "update: statistics, logs": [
        (ArrayUpdate, "measure"),
        (ArrayStatistics, "_reduce"),
        (ArrayStatistics, "finish"),
        (logs, "log_update"),
    ],
    "update: the rest": [(ClipPPO, "train")],
}
REST = "the rest of learn()"
SETTINGS = (("CartPole-v1", 1), ("CartPole-v1", 8), ("HalfCheetah-v5", 1), ("HalfCheetah-v5", 8))


class Stopwatch:
    """Seconds spent in each part; a part that is called from another one interrupts it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._part = REST
        self._since = time.perf_counter()

    def switch(self, part: str) -> str:
        """Charge the time since the last switch; return the part that ran until now."""
        now = time.perf_counter()
        self.seconds[self._part] += now - self._since
        ended, self._part, self._since = self._part, part, now
        return ended

    def watch(self, owner: Any, method: str, part: str) -> None:
        """Charge a class's method, or a module's function, to a part; a function that it returns as well."""
        setattr(owner, method, self._watched(getattr(owner, method), part))

    def _watched(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            interrupted = self.switch(part)
            try:
                result = function(*args, **kwargs)
            finally:
                self.switch(interrupted)
            return self._watched(result, part) if inspect.isfunction(result) else result

        return watched


def main() -> None:
    """Profile each setting and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=positive, default=3, help="rollouts and updates that are timed (3)")
    parser.add_argument("--n-steps", type=positive, default=2048, help="steps of a rollout in each environment (2048)")
    parser.add_argument("--engine", choices=KERNELS, default="compiled", help="(compiled)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stopwatch = Stopwatch()
    for part, methods in PARTS.items():
        for owner, method in methods:
            stopwatch.watch(owner, method, part)
    columns = [_profile(stopwatch, env_id, n_envs, options) for env_id, n_envs in SETTINGS]
    rows = [[part, *(_share(column, part) for column in columns)] for part in [*PARTS, REST]]
    total = ["all", *(f"{sum(column.values()):.1f}" for column in columns)]
    header = ["microseconds per step (share)", *(f"{env_id}, {n} env{'s' * (n > 1)}" for env_id, n in SETTINGS)]
    print(markdown(header, [*rows, total]), end="\n\n")
    print(footer(machine(), versions()))


def _profile(stopwatch: Stopwatch, env_id: str, n_envs: int, options: argparse.Namespace) -> dict[str, float]:
    """Return microseconds per environment step and part, after one rollout and update to warm up."""
    env = make_vec_env(env_id, n_envs=n_envs, seed=0)
    model = ClipPPO("MlpPolicy", env, n_steps=options.n_steps, seed=0, device="cpu", engine=options.engine)
    model.learn(1, reset_num_timesteps=False)
    steps = options.updates * options.n_steps * n_envs
    stopwatch.switch(REST)
    stopwatch.seconds.clear()
    model.learn(steps, reset_num_timesteps=False)
    stopwatch.switch(REST)
    return {part: 1e6 * stopwatch.seconds[part] / steps for part in [*PARTS, REST]}


def _share(column: dict[str, float], part: str) -> str:
    return f"{column[part]:.1f} ({column[part] / sum(column.values()):.0%})"


if __name__ == "__main__":
    main()
