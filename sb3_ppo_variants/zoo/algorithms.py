"""Which algorithms rl_zoo3 learns about."""

from sb3_ppo_variants.registry import ALGORITHMS, FAMILIES, VARIANTS, Algorithm, plugged


def ours() -> dict[str, Algorithm]:
    """Return variants, their forms with action masks, with memory, and with both, and plug-ins, by id.

    PPO and TRPO stay rl_zoo3's.
    """
    return {**VARIANTS, **FAMILIES, **plugged()}


def tuned() -> dict[str, Algorithm]:
    """Return what is tuned in the harness' space, by id: the same, and PPO and TRPO, which the harness ranks."""
    return {**ALGORITHMS, **ours()}
