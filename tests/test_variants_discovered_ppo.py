"""DiscoveredPPO: its parameters reach the objective, and raw advantages are refused."""

from dataclasses import replace

import pytest
from helpers import SETTINGS, mostly_slow, train

from sb3_ppo_variants import DiscoveredPPO


@pytest.mark.parametrize("name", mostly_slow(["discrete", "box", "state-dependent noise, value clip"], ["box"]))
def test_a_larger_scale_of_the_drift_lets_the_policy_move_further(name: str) -> None:
    hot, setting = {"learning_rate": 3e-3, "n_epochs": 20}, replace(SETTINGS[name], rollouts=1)
    kls = []
    for scale in (100, 1, 0.05):
        run = train(DiscoveredPPO, setting, drift_alpha=scale * 2.0, drift_beta=scale * 0.6, **hot)
        kls.append(run.logs[-1]["train/kl"])
    assert kls[0] > kls[1] > kls[2] > 0


def test_each_scale_acts_on_its_own() -> None:
    setting = replace(SETTINGS["box"], rollouts=1)
    base = train(DiscoveredPPO, setting, n_epochs=10).logs[-1]
    for own in ({"drift_alpha": 0.1}, {"drift_beta": 0.1}):
        assert train(DiscoveredPPO, setting, n_epochs=10, **own).logs[-1]["train/kl"] != base["train/kl"]


def test_raw_advantages_are_refused_with_an_alternative() -> None:
    with pytest.raises(ValueError, match=r"normalize_advantage=False.*ClipPPO"):
        DiscoveredPPO("MlpPolicy", "CartPole-v1", normalize_advantage=False)


@pytest.mark.parametrize("arguments", [{"drift_alpha": 0.0}, {"drift_beta": -1.0}])
def test_arguments_outside_their_range_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        DiscoveredPPO("MlpPolicy", "CartPole-v1", **arguments)
