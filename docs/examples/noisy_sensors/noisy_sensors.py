"""An arm whose sensors are noisy, in a simulator that knows better: ``noisy_sensors:NoisyReacher-v0``."""

import gymnasium as gym
import numpy as np


class NoisySensors(gym.ObservationWrapper):
    """Show what the sensors measure beside what is true, as "measured" and "true".

    :param env: with a vector as observation
    :param noise: standard deviation of the error of each measurement, in the observation's units, >= 0
    """

    def __init__(self, env: gym.Env, noise: float = 0.1):
        super().__init__(env)
        self.noise = noise
        space = gym.spaces.Box(-np.inf, np.inf, env.observation_space.shape, np.float32)
        self.observation_space = gym.spaces.Dict(measured=space, true=space)

    def observation(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Draw the errors from the environment's own generator, so that a seed gives the same run."""
        error = self.noise * self.np_random.standard_normal(observation.shape)
        return {"measured": np.float32(observation + error), "true": np.float32(observation)}


def noisy_reacher(**options: object) -> gym.Env:
    """Reacher-v5 behind noisy sensors."""
    return NoisySensors(gym.make("Reacher-v5", **options).unwrapped)


gym.register("NoisyReacher-v0", entry_point=noisy_reacher, max_episode_steps=50)
