"""KLStopPPO: what each mode measures, when, and what is left after the stop."""

import re
from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import ARRAY_ENGINES, DenseExtractor, audited, differing, tensors_of
from stable_baselines3.common.utils import LinearSchedule

from sb3_ppo_variants import KLStopPPO, StopRule
from sb3_ppo_variants.testing import BOX, DICT, DISCRETE, IMAGE, VECTOR, make_env

N_STEPS, BATCH, EPOCHS = 64, 16, 6
FAR = 1e9


class Recorded(KLStopPPO):
    """Keeps, at each point where it may stop, the KLs and the parameters."""

    def _should_stop(self, point: Any, stats: Any) -> Any:
        if stats.stop_rule is None:
            entry = (stats.epoch, stats.step, float(stats.minibatch_kl), float(stats.epoch_kl), tensors_of(self))
            self.__dict__.setdefault("points", {}).setdefault(point, []).append(entry)
        return super()._should_stop(point, stats)


def learned(max_kl: float, cls: type[KLStopPPO] = Recorded, engine: str = "torch", **kwargs: Any) -> Any:
    settings: dict[str, Any] = {"n_steps": N_STEPS, "batch_size": BATCH, "n_epochs": EPOCHS, "learning_rate": 5e-3}
    model = cls(
        "MlpPolicy", make_env(VECTOR, BOX), max_kl=max_kl, seed=0, device="cpu", engine=engine, **(settings | kwargs)
    )
    model.learn(N_STEPS)
    return model


def first_above(values: list[float], floor: float) -> int:
    """Return the first position whose value exceeds all before it and ``floor``."""
    return next(k for k, value in enumerate(values) if value > max([floor, *values[:k]]))


def test_minibatch_mode_stops_before_the_step_at_exactly_max_kl() -> None:
    free = learned(FAR).points["before_step"]
    kls = [entry[2] for entry in free]
    k = first_above(kls, 1e-3)
    at_the_bound = learned(kls[k], stop_at="minibatch")
    assert len(at_the_bound.points["before_step"]) > k + 1, "equal to max_kl is not above it"
    below = learned(float(np.nextafter(np.float32(kls[k]), np.float32(0))), stop_at="minibatch")
    assert len(below.points["before_step"]) == k + 1
    assert differing(tensors_of(below), free[k][4]) == [], "all steps before it are left, its own is not taken"
    logged = below.logger.name_to_value
    assert logged["train/stop_epoch"] == free[k][0]
    assert logged["train/stop_reason"] == StopRule.MINIBATCH_KL


def test_epoch_mode_stops_after_the_epoch_at_exactly_max_kl() -> None:
    free = learned(FAR, stop_at="epoch").points["after_epoch"]
    kls = [entry[3] for entry in free]
    k = first_above(kls, 1e-3)
    assert k < EPOCHS - 1
    assert learned(kls[k], stop_at="epoch")._n_updates > k + 1, "equal to max_kl is not above it"
    below = learned(float(np.nextafter(np.float32(kls[k]), np.float32(0))), stop_at="epoch")
    assert below._n_updates == k + 1
    assert differing(tensors_of(below), free[k][4]) == [], "the last epoch's steps are all left"
    assert below.logger.name_to_value["train/stop_epoch"] == k
    assert below.logger.name_to_value["train/stop_reason"] == StopRule.EPOCH_KL


@pytest.mark.parametrize("engine", ["torch", *ARRAY_ENGINES])
def test_rollout_mode_compares_the_exact_kl_over_the_rollout(engine: str) -> None:
    ends = [0.0]
    while ends[-1] < 1e-3:  # the exact KL after each epoch, measured from outside
        (audit,) = learned(FAR, audited(KLStopPPO), n_epochs=len(ends), engine=engine).audits
        ends.append(audit.kl)
    del ends[0]
    k = len(ends) - 1
    assert k < EPOCHS - 1
    assert learned(ends[k] * 1.001, KLStopPPO, stop_at="rollout", engine=engine)._n_updates > k + 1
    stopped = learned(ends[k] * 0.999, KLStopPPO, stop_at="rollout", engine=engine)
    assert stopped._n_updates == k + 1
    assert stopped.logger.name_to_value["train/stop_reason"] == StopRule.ROLLOUT_KL
    assert stopped.logger.name_to_value["train/kl"] == pytest.approx(ends[k], rel=1e-3), "the last epoch is left"


@pytest.mark.parametrize("stop_at", ["minibatch", "epoch", "rollout"])
def test_the_stop_is_printed_when_verbose(stop_at: str, capsys: pytest.CaptureFixture[str]) -> None:
    learned(1e-6, verbose=1, stop_at=stop_at)
    printed = capsys.readouterr().out
    assert re.search(rf"Early stopping in epoch 0: {stop_at} KL [0-9.e-]+ above max_kl", printed)
    learned(1e-6, verbose=0)
    assert "Early stopping" not in capsys.readouterr().out


def test_target_kl_works_beside_max_kl() -> None:
    logged = learned(FAR, target_kl=1e-6).logger.name_to_value
    assert logged["train/stop_reason"] == StopRule.TARGET_KL


# The critic after the stop --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", ["minibatch", "epoch", "rollout"])
def test_the_critic_can_finish_its_epochs_alone(stop_at: str) -> None:
    together = learned(1e-4, stop_at=stop_at)
    alone = learned(1e-4, stop_at=stop_at, stop_critic=False)
    assert together._n_updates < EPOCHS
    assert alone._n_updates == EPOCHS
    assert alone.logger.name_to_value["train/stop_epoch"] == together.logger.name_to_value["train/stop_epoch"]
    moments = [tensors_of(model) for model in (together, alone)]
    changed = {name for name in differing(*moments) if not name.startswith("optimizer")}
    assert changed == {name for name in moments[0] if "value" in name and not name.startswith("optimizer")}
    assert actor_moments(together) == actor_moments(alone)


def actor_moments(model: KLStopPPO) -> dict[str, list[float]]:
    return {
        name: [moment.double().sum().item() for moment in model.policy.optimizer.state[parameter].values()]
        for name, parameter in model.policy.named_parameters()
        if "value" not in name
    }


def test_the_critic_learns_after_the_stop_by_its_loss_alone() -> None:
    # Entropy bonus and value weight: neither may reach the actor once it has stopped
    kwargs = {"stop_critic": False, "ent_coef": 0.1, "vf_coef": 0.7, "n_epochs": 15}
    stopped, unstopped = learned(1e-4, **kwargs), learned(FAR, **kwargs)
    losses = [model.logger.name_to_value["train/value_loss"] for model in (stopped, unstopped)]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)


@pytest.mark.parametrize(
    ("observations", "policy", "policy_kwargs"),
    [(IMAGE, "CnnPolicy", {}), (VECTOR, "MlpPolicy", {"features_extractor_class": DenseExtractor})],
)
def test_a_critic_that_shares_parameters_cannot_go_on_alone(observations: Any, policy: str, policy_kwargs: Any) -> None:
    env = make_env(observations, DISCRETE)
    arguments: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "device": "cpu"}
    with pytest.raises(ValueError, match="share_features_extractor=False"):
        KLStopPPO(policy, env, stop_critic=False, policy_kwargs=policy_kwargs, **arguments)
    KLStopPPO(policy, env, stop_critic=True, policy_kwargs=policy_kwargs, **arguments).learn(32)
    separate = policy_kwargs | {"share_features_extractor": False}
    KLStopPPO(policy, env, stop_critic=False, policy_kwargs=separate, **arguments).learn(32)


def test_an_extractor_without_parameters_may_be_shared() -> None:
    KLStopPPO("MultiInputPolicy", make_env(DICT), stop_critic=False, n_steps=32, batch_size=32, device="cpu").learn(32)


def test_separate_extractors_keep_the_actor_still_after_the_stop() -> None:
    kwargs = {"policy_kwargs": {"features_extractor_class": DenseExtractor, "share_features_extractor": False}}
    together, alone = learned(1e-4, **kwargs), learned(1e-4, stop_critic=False, **kwargs)
    changed = {name for name in differing(tensors_of(together), tensors_of(alone)) if not name.startswith("optimizer")}
    assert any(name.startswith("vf_features_extractor") for name in changed)
    assert not any(name.startswith(("pi_features_extractor", "action_net", "mlp_extractor.policy")) for name in changed)


def test_a_schedule_does_not_disturb_the_stop() -> None:
    model = learned(1e-4, clip_range=LinearSchedule(0.3, 0.1, 1.0))
    assert model._n_updates < EPOCHS
    assert all(bool(th.isfinite(parameter).all()) for parameter in model.policy.parameters())
