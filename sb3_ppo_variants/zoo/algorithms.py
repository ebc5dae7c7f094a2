"""Which algorithms rl_zoo3 learns about."""

from collections.abc import Mapping
from types import MappingProxyType

from sb3_ppo_variants.families.maskable import Maskable
from sb3_ppo_variants.registry import FAMILIES, VARIANTS, Algorithm

ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType(
    {name: algorithm for name, algorithm in {**VARIANTS, **FAMILIES}.items() if not issubclass(algorithm.cls, Maskable)}
)
"""The variants, also with memory. Not with action masks: rl_zoo3 evaluates, plays and films without them."""
