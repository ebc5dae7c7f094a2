"""PPO variants for Stable-Baselines3 on one training loop."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported when they are asked for, see __getattr__
    from sb3_ppo_variants.families import (
        MaskableAdaptiveClipPPO,
        MaskableAdaptiveLRPPO,
        MaskableClipPPO,
        MaskableDiscoveredPPO,
        MaskableESPO,
        MaskableKLPenaltyPPO,
        MaskableKLStopPPO,
        MaskableRecurrentAdaptiveClipPPO,
        MaskableRecurrentAdaptiveLRPPO,
        MaskableRecurrentClipPPO,
        MaskableRecurrentDiscoveredPPO,
        MaskableRecurrentESPO,
        MaskableRecurrentKLPenaltyPPO,
        MaskableRecurrentKLStopPPO,
        MaskableRecurrentRPO,
        MaskableRecurrentSPO,
        MaskableRecurrentTRGPPO,
        MaskableRecurrentTrulyPPO,
        MaskableRecurrentTrustRegionPPO,
        MaskableRPO,
        MaskableSPO,
        MaskableTRGPPO,
        MaskableTrulyPPO,
        MaskableTrustRegionPPO,
        RecurrentAdaptiveClipPPO,
        RecurrentAdaptiveLRPPO,
        RecurrentClipPPO,
        RecurrentDiscoveredPPO,
        RecurrentESPO,
        RecurrentKLPenaltyPPO,
        RecurrentKLStopPPO,
        RecurrentRPO,
        RecurrentSPO,
        RecurrentTRGPPO,
        RecurrentTrulyPPO,
        RecurrentTrustRegionPPO,
    )
    from sb3_ppo_variants.training.update_loop import UpdateLoop
    from sb3_ppo_variants.update_parts.errors import NonFiniteUpdateError
    from sb3_ppo_variants.update_parts.minibatch import MiniBatch
    from sb3_ppo_variants.update_parts.stop import Stop, StopRule
    from sb3_ppo_variants.variants.adaptive_clip_ppo import AdaptiveClipPPO
    from sb3_ppo_variants.variants.adaptive_lr_ppo import AdaptiveLRPPO
    from sb3_ppo_variants.variants.clip_ppo import ClipPPO
    from sb3_ppo_variants.variants.discovered_ppo import DiscoveredPPO
    from sb3_ppo_variants.variants.espo import ESPO
    from sb3_ppo_variants.variants.kl_penalty_ppo import KLPenaltyPPO
    from sb3_ppo_variants.variants.kl_stop_ppo import KLStopPPO
    from sb3_ppo_variants.variants.rpo import RPO
    from sb3_ppo_variants.variants.spo import SPO
    from sb3_ppo_variants.variants.trgppo import TRGPPO
    from sb3_ppo_variants.variants.truly_ppo import TrulyPPO
    from sb3_ppo_variants.variants.trust_region_ppo import TrustRegionPPO

__version__ = "0.1.0"

__all__ = [
    "ESPO",
    "RPO",
    "SPO",
    "TRGPPO",
    "AdaptiveClipPPO",
    "AdaptiveLRPPO",
    "ClipPPO",
    "DiscoveredPPO",
    "KLPenaltyPPO",
    "KLStopPPO",
    "MaskableAdaptiveClipPPO",
    "MaskableAdaptiveLRPPO",
    "MaskableClipPPO",
    "MaskableDiscoveredPPO",
    "MaskableESPO",
    "MaskableKLPenaltyPPO",
    "MaskableKLStopPPO",
    "MaskableRPO",
    "MaskableRecurrentAdaptiveClipPPO",
    "MaskableRecurrentAdaptiveLRPPO",
    "MaskableRecurrentClipPPO",
    "MaskableRecurrentDiscoveredPPO",
    "MaskableRecurrentESPO",
    "MaskableRecurrentKLPenaltyPPO",
    "MaskableRecurrentKLStopPPO",
    "MaskableRecurrentRPO",
    "MaskableRecurrentSPO",
    "MaskableRecurrentTRGPPO",
    "MaskableRecurrentTrulyPPO",
    "MaskableRecurrentTrustRegionPPO",
    "MaskableSPO",
    "MaskableTRGPPO",
    "MaskableTrulyPPO",
    "MaskableTrustRegionPPO",
    "MiniBatch",
    "NonFiniteUpdateError",
    "RecurrentAdaptiveClipPPO",
    "RecurrentAdaptiveLRPPO",
    "RecurrentClipPPO",
    "RecurrentDiscoveredPPO",
    "RecurrentESPO",
    "RecurrentKLPenaltyPPO",
    "RecurrentKLStopPPO",
    "RecurrentRPO",
    "RecurrentSPO",
    "RecurrentTRGPPO",
    "RecurrentTrulyPPO",
    "RecurrentTrustRegionPPO",
    "Stop",
    "StopRule",
    "TrulyPPO",
    "TrustRegionPPO",
    "UpdateLoop",
    "__version__",
]


_HOMES = {
    "UpdateLoop": "training.update_loop",
    "Stop": "update_parts.stop",
    "StopRule": "update_parts.stop",
    "NonFiniteUpdateError": "update_parts.errors",
    "MiniBatch": "update_parts.minibatch",
    "AdaptiveClipPPO": "variants.adaptive_clip_ppo",
    "AdaptiveLRPPO": "variants.adaptive_lr_ppo",
    "ClipPPO": "variants.clip_ppo",
    "DiscoveredPPO": "variants.discovered_ppo",
    "ESPO": "variants.espo",
    "KLPenaltyPPO": "variants.kl_penalty_ppo",
    "KLStopPPO": "variants.kl_stop_ppo",
    "RPO": "variants.rpo",
    "SPO": "variants.spo",
    "TRGPPO": "variants.trgppo",
    "TrulyPPO": "variants.truly_ppo",
    "TrustRegionPPO": "variants.trust_region_ppo",
}
"""Where a public name is defined; those that are not here are forms, with masks or memory."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: PyTorch takes seconds, which a command that asks for help saves."""
    if name in __all__:
        value = getattr(import_module(f"sb3_ppo_variants.{_HOMES.get(name, 'families')}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
