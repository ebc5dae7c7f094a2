"""rl_zoo3's commands for the algorithms of this package. rl_zoo3 is imported when something runs, never before."""

from sb3_ppo_variants.zoo.registration import register

__all__ = ["register"]
