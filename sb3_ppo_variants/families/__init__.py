"""The families: every variant with action masks, with memory, and with both.

Parameters, equations and sources are those of the variant named in the first line; what the family adds is said in
:class:`Maskable`, :class:`Recurrent` and :class:`MaskableRecurrent`.
"""

# The mixins are type-checked as SB3's PPO, from which sb3-contrib's classes differ in batch_size and learn
# mypy: disable-error-code="misc"

from sb3_contrib import MaskablePPO, RecurrentPPO

from sb3_ppo_variants.families.maskable import Maskable
from sb3_ppo_variants.families.maskable_recurrent import MaskableRecurrent
from sb3_ppo_variants.families.recurrent import Recurrent
from sb3_ppo_variants.variants.adaptive_clip_ppo import AdaptiveClip
from sb3_ppo_variants.variants.adaptive_lr_ppo import AdaptiveLR
from sb3_ppo_variants.variants.clip_ppo import Clip
from sb3_ppo_variants.variants.discovered_ppo import Discovered
from sb3_ppo_variants.variants.espo import RatioDeviationStop
from sb3_ppo_variants.variants.kl_penalty_ppo import KLPenalty
from sb3_ppo_variants.variants.kl_stop_ppo import KLStop
from sb3_ppo_variants.variants.rpo import RobustPolicyOptimization
from sb3_ppo_variants.variants.spo import SimplePolicyOptimization
from sb3_ppo_variants.variants.trgppo import TrustRegionGuided
from sb3_ppo_variants.variants.truly_ppo import Truly
from sb3_ppo_variants.variants.trust_region_ppo import TrustRegion


class MaskableClipPPO(Clip, Maskable, MaskablePPO):
    """ClipPPO with action masks."""


class RecurrentClipPPO(Clip, Recurrent, RecurrentPPO):
    """ClipPPO with memory."""


class MaskableRecurrentClipPPO(Clip, MaskableRecurrent, RecurrentPPO):
    """ClipPPO with action masks and memory."""


class MaskableAdaptiveClipPPO(AdaptiveClip, Maskable, MaskablePPO):
    """AdaptiveClipPPO with action masks."""


class RecurrentAdaptiveClipPPO(AdaptiveClip, Recurrent, RecurrentPPO):
    """AdaptiveClipPPO with memory."""


class MaskableRecurrentAdaptiveClipPPO(AdaptiveClip, MaskableRecurrent, RecurrentPPO):
    """AdaptiveClipPPO with action masks and memory."""


class MaskableKLStopPPO(KLStop, Maskable, MaskablePPO):
    """KLStopPPO with action masks."""


class RecurrentKLStopPPO(KLStop, Recurrent, RecurrentPPO):
    """KLStopPPO with memory."""


class MaskableRecurrentKLStopPPO(KLStop, MaskableRecurrent, RecurrentPPO):
    """KLStopPPO with action masks and memory."""


class MaskableTrustRegionPPO(TrustRegion, Maskable, MaskablePPO):
    """TrustRegionPPO with action masks."""


class RecurrentTrustRegionPPO(TrustRegion, Recurrent, RecurrentPPO):
    """TrustRegionPPO with memory."""


class MaskableRecurrentTrustRegionPPO(TrustRegion, MaskableRecurrent, RecurrentPPO):
    """TrustRegionPPO with action masks and memory."""


class MaskableKLPenaltyPPO(KLPenalty, Maskable, MaskablePPO):
    """KLPenaltyPPO with action masks."""


class RecurrentKLPenaltyPPO(KLPenalty, Recurrent, RecurrentPPO):
    """KLPenaltyPPO with memory."""


class MaskableRecurrentKLPenaltyPPO(KLPenalty, MaskableRecurrent, RecurrentPPO):
    """KLPenaltyPPO with action masks and memory."""


class MaskableAdaptiveLRPPO(AdaptiveLR, Maskable, MaskablePPO):
    """AdaptiveLRPPO with action masks."""


class RecurrentAdaptiveLRPPO(AdaptiveLR, Recurrent, RecurrentPPO):
    """AdaptiveLRPPO with memory."""


class MaskableRecurrentAdaptiveLRPPO(AdaptiveLR, MaskableRecurrent, RecurrentPPO):
    """AdaptiveLRPPO with action masks and memory."""


class MaskableSPO(SimplePolicyOptimization, Maskable, MaskablePPO):
    """SPO with action masks."""


class RecurrentSPO(SimplePolicyOptimization, Recurrent, RecurrentPPO):
    """SPO with memory."""


class MaskableRecurrentSPO(SimplePolicyOptimization, MaskableRecurrent, RecurrentPPO):
    """SPO with action masks and memory."""


class MaskableTrulyPPO(Truly, Maskable, MaskablePPO):
    """TrulyPPO with action masks."""


class RecurrentTrulyPPO(Truly, Recurrent, RecurrentPPO):
    """TrulyPPO with memory."""


class MaskableRecurrentTrulyPPO(Truly, MaskableRecurrent, RecurrentPPO):
    """TrulyPPO with action masks and memory."""


class MaskableTRGPPO(TrustRegionGuided, Maskable, MaskablePPO):
    """TRGPPO with action masks."""


class RecurrentTRGPPO(TrustRegionGuided, Recurrent, RecurrentPPO):
    """TRGPPO with memory."""


class MaskableRecurrentTRGPPO(TrustRegionGuided, MaskableRecurrent, RecurrentPPO):
    """TRGPPO with action masks and memory."""


class MaskableESPO(RatioDeviationStop, Maskable, MaskablePPO):
    """ESPO with action masks."""


class RecurrentESPO(RatioDeviationStop, Recurrent, RecurrentPPO):
    """ESPO with memory."""


class MaskableRecurrentESPO(RatioDeviationStop, MaskableRecurrent, RecurrentPPO):
    """ESPO with action masks and memory."""


class MaskableDiscoveredPPO(Discovered, Maskable, MaskablePPO):
    """DiscoveredPPO with action masks."""


class RecurrentDiscoveredPPO(Discovered, Recurrent, RecurrentPPO):
    """DiscoveredPPO with memory."""


class MaskableRecurrentDiscoveredPPO(Discovered, MaskableRecurrent, RecurrentPPO):
    """DiscoveredPPO with action masks and memory."""


class MaskableRPO(RobustPolicyOptimization, Maskable, MaskablePPO):
    """RPO with action masks: raises ValueError, since masks need discrete actions and RPO a Gaussian."""


class RecurrentRPO(RobustPolicyOptimization, Recurrent, RecurrentPPO):
    """RPO with memory."""


class MaskableRecurrentRPO(RobustPolicyOptimization, MaskableRecurrent, RecurrentPPO):
    """RPO with action masks and memory: raises ValueError, since masks need discrete actions and RPO a Gaussian."""
