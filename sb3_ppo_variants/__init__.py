"""PPO variants for Stable-Baselines3 on one training loop."""

from sb3_ppo_variants.training.errors import NonFiniteUpdateError
from sb3_ppo_variants.training.minibatch import MiniBatch
from sb3_ppo_variants.training.update_loop import UpdateLoop
from sb3_ppo_variants.variants.adaptive_clip_ppo import AdaptiveClipPPO
from sb3_ppo_variants.variants.clip_ppo import ClipPPO
from sb3_ppo_variants.variants.kl_stop_ppo import KLStopPPO
from sb3_ppo_variants.variants.trust_region_ppo import TrustRegionPPO

__version__ = "0.1.0"

__all__ = [
    "AdaptiveClipPPO",
    "ClipPPO",
    "KLStopPPO",
    "MiniBatch",
    "NonFiniteUpdateError",
    "TrustRegionPPO",
    "UpdateLoop",
    "__version__",
]
