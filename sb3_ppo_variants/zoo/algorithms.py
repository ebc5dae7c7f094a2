"""Which algorithms rl_zoo3 learns about."""

from collections.abc import Mapping
from types import MappingProxyType

from sb3_ppo_variants import registry
from sb3_ppo_variants.registry import FAMILIES, VARIANTS, Algorithm

ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType({**VARIANTS, **FAMILIES})
"""The variants and their forms with action masks, with memory, and with both. PPO and TRPO stay rl_zoo3's."""

TUNED: Mapping[str, Algorithm] = MappingProxyType({**registry.ALGORITHMS, **FAMILIES})
"""What is tuned in the harness' space: the same, and PPO and TRPO, which the harness ranks."""
