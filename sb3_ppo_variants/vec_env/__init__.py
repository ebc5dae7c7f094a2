"""Environments that come as a batch: Gymnasium's vector environments, and EnvPool's, as SB3's ``VecEnv``."""

from sb3_ppo_variants.vec_env.gym_vector_env import GymVectorEnv, as_vec_env

__all__ = ["GymVectorEnv", "as_vec_env"]
