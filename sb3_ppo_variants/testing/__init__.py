"""The public conformance suite: it holds a variant to what every variant promises.

With pytest, each check is a test of its own::

    from sb3_ppo_variants.testing import VariantContract

    class TestMyPPO(VariantContract):
        variant = MyPPO

Without pytest, :func:`check_variant` runs them all; a failure is an AssertionError that names the class, the check and
what was wrong::

    from sb3_ppo_variants.testing import check_variant

    check_variant(MyPPO)
    check_variant(MyPPO, my_coefficient=0.5)
"""

from sb3_ppo_variants.testing.contract import VariantContract
from sb3_ppo_variants.testing.environments import (
    BOX,
    DICT,
    DISCRETE,
    IMAGE,
    MULTI_BINARY,
    MULTI_DISCRETE,
    VECTOR,
    MaskedSpaceEnv,
    SpaceEnv,
    make_env,
)
from sb3_ppo_variants.testing.suite import CHECKS, Check, check_variant, run_check
from sb3_ppo_variants.testing.variant import NotApplicable, Variant

__all__ = [
    "BOX",
    "CHECKS",
    "DICT",
    "DISCRETE",
    "IMAGE",
    "MULTI_BINARY",
    "MULTI_DISCRETE",
    "VECTOR",
    "Check",
    "MaskedSpaceEnv",
    "NotApplicable",
    "SpaceEnv",
    "Variant",
    "VariantContract",
    "check_variant",
    "make_env",
    "run_check",
]
