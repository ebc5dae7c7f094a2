"""What SoftClipPPO promises."""

import pytest
from soft_clip_ppo import SoftClipPPO

from sb3_ppo_variants import SPO
from sb3_ppo_variants.testing import VariantContract


class TestSoftClipPPO(VariantContract):
    """Saving, loading, seeds, spaces, NaN, engines: what every variant promises, each check a test."""

    variant = SoftClipPPO


def test_temperature_is_checked() -> None:
    with pytest.raises(ValueError, match="temperature=0"):
        SoftClipPPO("MlpPolicy", "CartPole-v1", temperature=0)


def test_it_is_another_method_than_spo() -> None:
    parameters = [
        cls("MlpPolicy", "CartPole-v1", n_steps=64, seed=0).learn(64).policy.action_net.weight.sum().item()
        for cls in (SoftClipPPO, SPO)
    ]
    assert parameters[0] != parameters[1]
