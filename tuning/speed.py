"""How fast runs are, measured: what the cost of a study is estimated from before it starts.

Run ``python -m sb3_ppo_variants.tuning.speed CartPole-v1 ...`` to measure on the machine at hand.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sb3_ppo_variants.experiment import Experiment, registered_entry
from sb3_ppo_variants.registry import get_algorithm


@dataclass(frozen=True)
class Speed:
    """Steps per second of CPU time on one core, with the registered configuration.

    :param variant: training of a variant (clip_ppo), on the engine that a run picks
    :param ppo: training of SB3's PPO
    :param trpo: training of sb3-contrib's TRPO
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
        if algorithm.is_baseline:
            return self.trpo if algorithm_id == "trpo" else self.ppo
        return self.ppo if algorithm.variant_id else self.variant


# Two cores of a shared virtual machine, sb3-ppo-variants 0.1, torch 2.13.0, numpy 2.4.6, one thread.
SPEEDS: dict[str, Speed] = {
    "CartPole-v1": Speed(variant=13_200, ppo=3340, trpo=2890, evaluation=24_800),
    "Acrobot-v1": Speed(variant=14_100, ppo=4550, trpo=1810, evaluation=10_600),
    "Pendulum-v1": Speed(variant=1950, ppo=2520, trpo=3010, evaluation=24_700),
    "MountainCarContinuous-v0": Speed(variant=260, ppo=304, trpo=2420, evaluation=24_200),
    "LunarLander-v3": Speed(variant=5230, ppo=2810, trpo=1710, evaluation=5200),
    "LunarLanderContinuous-v3": Speed(variant=4210, ppo=3170, trpo=1730, evaluation=5190),
    "BipedalWalker-v3": Speed(variant=3920, ppo=1840, trpo=1630, evaluation=4070),
    "Hopper-v5": Speed(variant=1670, ppo=784, trpo=1440, evaluation=4530),
    "Walker2d-v5": Speed(variant=1630, ppo=632, trpo=1920, evaluation=5450),
    "Ant-v5": Speed(variant=1580, ppo=983, trpo=1370, evaluation=2640),
    "Swimmer-v5": Speed(variant=3320, ppo=3520, trpo=2150, evaluation=9660),
    "Reacher-v5": Speed(variant=2540, ppo=1350, trpo=2380, evaluation=14_100),
    "InvertedPendulum-v5": Speed(variant=4940, ppo=1410, trpo=2120, evaluation=17_000),
    "InvertedDoublePendulum-v5": Speed(variant=976, ppo=1410, trpo=1960, evaluation=9470),
}


def measure(env_id: str, steps: int = 8192) -> Speed:
    """Measure one environment, in CPU time of this process: a busy machine changes it little.

    :param env_id: gymnasium environment id
    :param steps: of each measurement at least; whole rollouts are trained
    """
    torch.set_num_threads(1)
    return Speed(
        variant=_training(env_id, "clip_ppo", steps),
        ppo=_training(env_id, "ppo", steps),
        trpo=_training(env_id, "trpo", steps),
        evaluation=_evaluation(env_id, steps),
    )


def _training(env_id: str, algorithm: str, steps: int) -> float:
    experiment = Experiment(algorithm, env_id, registered_entry(algorithm, env_id))
    env = experiment.make_env(seed=0)
    model = experiment.make_model(env, seed=0, device="cpu", verbose=0, **_auto(algorithm))
    model.learn(model.n_steps * model.n_envs)  # imports and first calls are not counted
    started = time.process_time()
    model.learn(steps)
    seconds = time.process_time() - started
    env.close()
    return model.num_timesteps / seconds


def _auto(algorithm: str) -> dict[str, Any]:
    return {} if get_algorithm(algorithm).is_baseline else {"engine": "auto"}


def _evaluation(env_id: str, steps: int) -> float:
    experiment = Experiment("ppo", env_id, registered_entry("ppo", env_id))
    training_env = experiment.make_env(seed=0)
    model = experiment.make_model(training_env, seed=0, device="cpu", verbose=0)
    env = experiment.make_env(seed=0, n_envs=10, training=False)
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
