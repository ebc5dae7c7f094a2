"""How fast runs are, measured: what the cost of a study is estimated from before it starts.

Run ``python -m sb3_ppo_variants.tuning.study.costs CartPole-v1 ...`` to measure on the machine at hand.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sb3_ppo_variants.entries.entry import Entry
from sb3_ppo_variants.registry import get_algorithm
from sb3_ppo_variants.tuning_space import TuningSpace

from ..runs.cell import trained_class

TYPICAL = {"log2_rollout_size": 10, "log2_batch_size": 7, "n_epochs": 8, "log2_net_width": 7}
"""Has about as many minibatches a step, and networks as wide, as the mean over the search space."""


@dataclass(frozen=True)
class Speed:
    """Steps per second of CPU time on one core, with a configuration as tuning draws them (:data:`TYPICAL`).

    :param variant: training of a variant (clip_ppo), on the engine that a run picks; PPO is trained in the same way
    :param ppo: training of SB3's PPO by its own class
    :param trpo: training of TRPO, on the engine that a run picks
    :param evaluation: evaluation, ten environments side by side
    """

    variant: float
    ppo: float
    trpo: float
    evaluation: float

    def training(self, algorithm_id: str) -> float:
        """Training steps per second; forms with masks or memory are taken to be as slow as SB3's PPO.

        :param algorithm_id: registered algorithm id
        """
        algorithm = get_algorithm(algorithm_id)
        if algorithm_id == "trpo":
            return self.trpo
        is_form = algorithm.variant_id is not None
        return self.variant if algorithm_id == "ppo" or (algorithm.has_engines and not is_form) else self.ppo


# Measured with this module on a slow and busy virtual machine: sb3-ppo-variants 0.1, torch 2.13.0, numpy 2.4.6, one
# thread. The entries of Pendulum-v1 and MountainCarContinuous-v0 have gSDE, which runs in PyTorch.
SPEEDS: dict[str, Speed] = {
    "CartPole-v1": Speed(variant=10_200, ppo=2180, trpo=1770, evaluation=13_400),
    "Acrobot-v1": Speed(variant=7290, ppo=1460, trpo=1780, evaluation=8090),
    "Pendulum-v1": Speed(variant=1230, ppo=1560, trpo=909, evaluation=7920),
    "MountainCarContinuous-v0": Speed(variant=783, ppo=649, trpo=838, evaluation=10_800),
    "LunarLander-v3": Speed(variant=3150, ppo=1190, trpo=1460, evaluation=2870),
    "LunarLanderContinuous-v3": Speed(variant=2030, ppo=1090, trpo=1050, evaluation=1650),
    "Hopper-v5": Speed(variant=1750, ppo=1210, trpo=1040, evaluation=1980),
    "HalfCheetah-v5": Speed(variant=1900, ppo=975, trpo=1630, evaluation=3770),
    "Walker2d-v5": Speed(variant=1290, ppo=765, trpo=1130, evaluation=1710),
    "Swimmer-v5": Speed(variant=3120, ppo=1270, trpo=1560, evaluation=3450),
    "Reacher-v5": Speed(variant=2220, ppo=1050, trpo=1580, evaluation=7010),
    "InvertedDoublePendulum-v5": Speed(variant=2030, ppo=1060, trpo=1580, evaluation=4210),
}


def measure(env_id: str, steps: int = 8192) -> Speed:
    """Measure one environment, in CPU time of this process: a busy machine changes it little.

    :param env_id: gymnasium environment id
    :param steps: of each measurement at least; whole rollouts are trained
    """
    torch.set_num_threads(1)
    return Speed(
        variant=_training(env_id, "clip_ppo", steps, trained_class("clip_ppo")),
        ppo=_training(env_id, "ppo", steps, get_algorithm("ppo").cls),
        trpo=_training(env_id, "trpo", steps, trained_class("trpo")),
        evaluation=_evaluation(env_id, steps),
    )


def _training(env_id: str, algorithm: str, steps: int, cls: Any) -> float:
    entry = _typical_entry(algorithm, env_id, cls)
    env = entry.make_env(seed=0)
    model = entry.make_model(env, seed=0, device="cpu", verbose=0)
    model.learn(model.n_steps * model.n_envs)  # imports and first calls are not counted
    started = time.process_time()
    model.learn(steps)
    seconds = time.process_time() - started
    env.close()
    return model.num_timesteps / seconds


def _typical_entry(algorithm: str, env_id: str, cls: Any) -> Entry:
    space = TuningSpace.of(algorithm, env_id, steps=10**6)
    typical = {name: TYPICAL[name] for name in TYPICAL if name in space.parameters}
    return Entry(cls, env_id, space.entry({**space.default_params, **typical}), name=algorithm)


def _evaluation(env_id: str, steps: int) -> float:
    entry = _typical_entry("ppo", env_id, trained_class("ppo"))
    training_env = entry.make_env(seed=0)
    model = entry.make_model(training_env, seed=0, device="cpu", verbose=0)
    env = entry.make_env(seed=0, n_envs=10, training=False)
    observations: Any = env.reset()
    started = time.process_time()
    for _ in range(steps // 10):
        actions, _ = model.predict(observations, deterministic=True)
        observations, _, _, _ = env.step(actions)
    seconds = time.process_time() - started
    training_env.close()
    env.close()
    return steps // 10 * 10 / seconds


def main(env_ids: Sequence[str]) -> None:
    """Print one line of the table for each environment.

    :param env_ids: gymnasium environment ids
    """
    for env_id in env_ids:
        speed = measure(env_id)
        numbers = ", ".join(f"{name}={value:.3g}" for name, value in vars(speed).items())
        print(f'    "{env_id}": Speed({numbers}),', flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
