"""How fast a variant trains that has one hook and no slope beside it, against the same variant with its slope.

Both are ClipPPO with its defaults; the one loses its slope by overriding the hook with itself, so that the engine
differentiates it by autograd. They alternate within a round in one process, on one core and thread; ratios are taken
within rounds, of whole training (rollouts and updates).
"""

import argparse
import os
import time
from statistics import median
from typing import Any

from reporting import footer, machine, markdown, one_thread, positive, versions

os.environ.update(one_thread())  # before NumPy and torch make their thread pools

import torch
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import ClipPPO

ENVIRONMENTS = ("CartPole-v1", "HalfCheetah-v5")
ENGINES = ("numpy", "compiled")


class OneHook(ClipPPO):
    """ClipPPO as somebody writes it who states no slope."""

    def _surrogate(self, batch: Any) -> Any:
        return super()._surrogate(batch)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=5, help="measurements of each side in each setting (5)")
    parser.add_argument("--n-steps", type=positive, default=2048, help="steps of a rollout (2048)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for env_id in ENVIRONMENTS:
        for engine in ENGINES:
            speeds = _speeds(env_id, engine, options.n_steps, options.rounds)
            ratios = [hook / slope for slope, hook in speeds]
            slope, hook = (median(side) for side in zip(*speeds, strict=True))
            spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            rows.append([f"{env_id}, {engine}", f"{slope:,.0f}", f"{hook:,.0f}", spread])
    print(markdown(["steps/s", "with its slope", "one hook", "ratio"], rows), end="\n\n")
    print(f"Medians of {options.rounds} rounds, ratios within rounds (smallest to largest).", end="\n\n")
    print(footer(machine(), versions()))


def _speeds(env_id: str, engine: str, n_steps: int, rounds: int) -> list[tuple[float, float]]:
    """Return steps per second with the slope and without it, of each round."""
    models = [
        cls("MlpPolicy", make_vec_env(env_id, seed=0), n_steps=n_steps, seed=0, device="cpu", engine=engine)
        for cls in (ClipPPO, OneHook)
    ]
    for model in models:  # allocations
        model.learn(n_steps)
    return [(_speed(models[0], n_steps), _speed(models[1], n_steps)) for _ in range(rounds)]


def _speed(model: ClipPPO, steps: int) -> float:
    started = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    return steps / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
