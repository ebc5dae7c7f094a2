"""rl_zoo3's commands for the algorithms of this package. rl_zoo3 is imported when something runs, never before."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported when it is asked for: with it come PyTorch and SB3
    from sb3_ppo_variants.zoo.registration import register

__all__ = ["register"]

INSTALL = 'pip install "sb3-ppo-variants[zoo]"'


def __getattr__(name: str) -> Any:
    if name == "register":
        from sb3_ppo_variants.zoo.registration import register

        return register
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
