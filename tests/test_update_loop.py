"""The loop under the variants: hooks and their order, the old policy, what is measured and logged."""

import contextlib
import copy
import itertools
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import ARRAY_ENGINES, BatchNormExtractor, DenseExtractor, audited, differing, mostly_slow, tensors_of
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn
from torch.distributions import StudentT

from sb3_ppo_variants import ClipPPO, StopRule, TrustRegionPPO, UpdateLoop
from sb3_ppo_variants.engines.batched_adam import batched_adam
from sb3_ppo_variants.engines.quick_checks import quick_checks
from sb3_ppo_variants.registry import VARIANTS
from sb3_ppo_variants.testing import BOX, DISCRETE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, make_env
from sb3_ppo_variants.update_parts.minibatch import MiniBatch
from sb3_ppo_variants.update_parts.snapshot import PolicySnapshot

SMALL: dict[str, Any] = {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "seed": 3, "device": "cpu"}


def learned(cls: type[UpdateLoop], actions: Any = DISCRETE, rollouts: int = 1, **kwargs: Any) -> Any:
    model = cls(kwargs.pop("policy", "MlpPolicy"), make_env(VECTOR, actions), **(SMALL | kwargs))
    model.learn(rollouts * model.n_steps)
    return model


# Hooks ----------------------------------------------------------------------------------------------------------------


def test_hooks_are_met_in_order() -> None:
    calls: list[str] = []

    class Recorded(ClipPPO):
        def _minibatch(self, rollout_data: Any) -> Any:
            calls.append("minibatch")
            return super()._minibatch(rollout_data)

        def _surrogate(self, batch: Any) -> Any:
            if batch.values.requires_grad:  # measuring asks for the surrogate too
                calls.append("surrogate")
            return super()._surrogate(batch)

        def _should_stop(self, point: Any, stats: Any) -> Any:
            calls.append(f"{point} {stats.epoch}.{stats.step}")
            return super()._should_stop(point, stats)

        def _after_update(self, measurement: Any) -> Any:
            calls.append("after_update")
            return super()._after_update(measurement)

    learned(Recorded)
    epochs = [
        entry
        for e in range(2)
        for entry in (
            *("minibatch", "surrogate", f"before_step {e}.0", f"after_step {e}.0"),
            *("minibatch", "surrogate", f"before_step {e}.1", f"after_step {e}.1"),
            f"after_epoch {e}.1",
        )
    ]
    assert calls == [*epochs, "after_update"]


@pytest.mark.parametrize(
    ("point", "n_updates", "steps_taken"), [("before_step", 1, 1), ("after_step", 1, 2), ("after_epoch", 1, 2)]
)
def test_a_stop_ends_the_update_where_it_was_asked_for(point: str, n_updates: int, steps_taken: int) -> None:
    class Stops(ClipPPO):
        def _should_stop(self, at: Any, stats: Any) -> Any:
            return "enough" if at == point and stats.step == 1 else None

    model = learned(Stops, n_epochs=5)
    assert model._n_updates == n_updates
    assert {int(state["step"]) for state in model.policy.optimizer.state.values()} == {steps_taken}
    assert model.logger.name_to_value["train/stop_reason"] == StopRule.OTHER
    assert model.logger.name_to_value["train/stop_epoch"] == 0
    assert model.logger.name_to_value["train/epochs"] == 1


def test_an_update_that_was_not_stopped_logs_no_stop() -> None:
    logged = learned(ClipPPO).logger.name_to_value
    assert not {"train/stop_epoch", "train/stop_reason"} & logged.keys()
    assert logged["train/epochs"] == 2


def test_a_penalty_is_added_to_the_policy_loss() -> None:
    class Penalised(ClipPPO):
        def _penalty(self, batch: Any) -> Any:
            return th.full_like(batch.old_log_prob, 2.0)

    plain, penalised = (learned(cls, engine="torch") for cls in (ClipPPO, Penalised))
    key = "train/policy_gradient_loss"
    assert penalised.logger.name_to_value[key] == pytest.approx(plain.logger.name_to_value[key] + 2.0)
    assert differing(tensors_of(plain), tensors_of(penalised)) == [], "a constant has no gradient"


def test_a_penalty_with_a_gradient_moves_the_actor() -> None:
    class Penalised(ClipPPO):
        def _penalty(self, batch: Any) -> Any:
            return batch.log_prob

    changed = differing(tensors_of(learned(ClipPPO)), tensors_of(learned(Penalised)))
    assert any(name.startswith("action_net") for name in changed)


def test_the_hook_of_the_value_loss_trains_the_critic() -> None:
    class NoCritic(ClipPPO):
        def _value_loss(self, batch: Any) -> Any:
            return 0 * batch.values.sum()

    model = NoCritic("MlpPolicy", make_env(), **SMALL)
    before = tensors_of(model)
    model.learn(64)
    changed = {name for name, tensor in before.items() if not th.equal(tensor, tensors_of(model)[name])}
    assert "action_net.weight" in changed
    assert "value_net.weight" not in changed


# The old policy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actions", [BOX, DISCRETE, MULTI_DISCRETE, MULTI_BINARY])
@pytest.mark.parametrize("extractor", mostly_slow([DenseExtractor, BatchNormExtractor], [BatchNormExtractor]))
def test_every_minibatch_gets_the_distribution_that_the_actions_came_from(actions: Any, extractor: type) -> None:
    seen: list[tuple[float, float]] = []

    class Keeps(ClipPPO):
        needs_old_distribution = True

        def _surrogate(self, batch: MiniBatch) -> Any:
            again = batch.old_distribution.log_prob(batch.actions)
            seen.append(((again - batch.old_log_prob).abs().max().item(), batch.kl.mean().item()))
            assert not again.requires_grad
            return super()._surrogate(batch)

    learned(Keeps, actions, 2, learning_rate=0.01, policy_kwargs={"features_extractor_class": extractor})
    errors, kls = zip(*seen, strict=True)
    assert max(errors) < 1e-5
    assert max(kls) > 1e-4, "the policy has moved away from it"
    if extractor is DenseExtractor:  # batch normalisation acts differently while training
        assert kls[0] == pytest.approx(0.0, abs=1e-7)


def test_the_kl_of_a_minibatch_has_the_new_policys_gradient() -> None:
    class Penalised(ClipPPO):
        needs_old_distribution = True

        def _penalty(self, batch: MiniBatch) -> Any:
            assert batch.kl.requires_grad
            return 100 * batch.kl

    kwargs = {"learning_rate": 0.01, "n_epochs": 10, "engine": "torch"}
    kls = [learned(cls, **kwargs).logger.name_to_value["train/kl"] for cls in (ClipPPO, Penalised)]
    assert kls[1] < 0.5 * kls[0]


def test_a_variant_that_did_not_ask_has_no_old_distribution() -> None:
    class DidNotAsk(ClipPPO):
        def _penalty(self, batch: MiniBatch) -> Any:
            return batch.kl

    with pytest.raises(ValueError, match="needs_old_distribution"):
        learned(DidNotAsk)


def test_the_old_policy_is_let_go_after_the_update() -> None:
    model = learned(ClipPPO)
    assert model._update is None
    model._should_stop = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        model.learn(64)
    assert model._update is None


@pytest.mark.parametrize("training", [True, False])
def test_a_snapshot_is_installed_in_evaluation_mode_and_taken_out_again(training: bool) -> None:
    policy = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    policy.train(training)
    old = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    snapshot = PolicySnapshot(policy)
    with th.no_grad():
        policy[0].weight += 1.0
        policy[1].running_mean += 1.0
    new = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    addresses = [tensor.data_ptr() for tensor in policy.state_dict().values()]
    random_state = th.get_rng_state()
    with contextlib.suppress(KeyError), snapshot.installed():
        assert differing(old, policy.state_dict()) == []
        assert not policy(th.ones(5, 3)).requires_grad
        assert differing(old, policy.state_dict()) == [], "computing must not move the running statistics"
        assert th.equal(random_state, th.get_rng_state()), "dropout must not draw"
        raise KeyError
    assert differing(new, policy.state_dict()) == []
    assert [tensor.data_ptr() for tensor in policy.state_dict().values()] == addresses, "others hold these tensors"
    assert policy.training is training


# What is measured -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "engine"),
    mostly_slow(
        itertools.product((BOX, DISCRETE, MULTI_DISCRETE, MULTI_BINARY), ("torch", *ARRAY_ENGINES)),
        [(BOX, ARRAY_ENGINES[-1]), (MULTI_DISCRETE, ARRAY_ENGINES[-1]), (BOX, "torch"), (DISCRETE, ARRAY_ENGINES[0])],
    ),
)
def test_logged_diagnostics_are_those_of_the_whole_rollout(actions: Any, engine: str) -> None:
    # More samples than one pass over the rollout measures at a time
    kwargs = {"n_steps": 1100, "batch_size": 275, "n_epochs": 1, "learning_rate": 3e-3, "engine": engine}
    (audit,) = learned(audited(ClipPPO), actions, **kwargs).audits
    assert audit.kl > 1e-4
    assert audit.logs["train/kl"] == pytest.approx(audit.kl, rel=1e-3)
    quantiles = [audit.logs["train/ratio_q05"], audit.logs["train/ratio_q95"]]
    assert quantiles == pytest.approx(list(np.quantile(audit.ratio, [0.05, 0.95])), rel=1e-4)
    # Kish: n / (1 + squared coefficient of variation)
    effective = 1 / (1 + np.var(audit.ratio) / np.mean(audit.ratio) ** 2)
    assert audit.logs["train/effective_sample_size"] == pytest.approx(effective, rel=1e-4)


@pytest.mark.parametrize(("number", "algorithm_id"), list(enumerate(VARIANTS)))
def test_both_engines_take_the_same_steps_and_log_the_same_figures(number: int, algorithm_id: str) -> None:
    actions = BOX if number % 2 or algorithm_id == "rpo" else MULTI_DISCRETE
    # The last minibatch has one sample
    kwargs = {"n_steps": 65, "learning_rate": 2e-3, "ent_coef": 0.01, "clip_range_vf": 0.3}
    ours, theirs = (learned(VARIANTS[algorithm_id].cls, actions, engine=name, **kwargs) for name in ("numpy", "torch"))
    assert ours.engine_in_use == "numpy"
    for parameter, expected in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        th.testing.assert_close(parameter, expected, rtol=0, atol=1e-5)
    logged, expected_logs = (
        {key: value for key, value in model.logger.name_to_value.items() if not key.startswith("time/")}
        for model in (ours, theirs)
    )
    assert logged == pytest.approx(expected_logs, rel=1e-3, abs=1e-5)


def test_a_policy_that_has_not_moved_measures_as_such() -> None:
    logged = learned(ClipPPO, BOX, learning_rate=0.0).logger.name_to_value
    assert logged["train/kl"] == 0.0
    assert logged["train/effective_sample_size"] == pytest.approx(1.0)
    assert logged["train/ratio_q05"] == pytest.approx(1.0, abs=1e-5)
    assert logged["train/ratio_q95"] == pytest.approx(1.0, abs=1e-5)
    assert logged["train/zero_gradient_fraction"] == 0.0


def test_measuring_leaves_out_batch_statistics_and_dropout() -> None:
    kwargs = {"features_extractor_class": BatchNormExtractor}
    model = ClipPPO("MlpPolicy", make_env(VECTOR, BOX), learning_rate=0.0, policy_kwargs=kwargs, **SMALL)
    for module in model.policy.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = 0.0  # else the running statistics move, and the policy with them
    model.learn(64)
    assert model.logger.name_to_value["train/kl"] == 0.0


@pytest.mark.parametrize(
    ("surrogate", "fraction"),
    [
        (lambda batch: batch.ratio * batch.advantages, 0.0),
        (lambda batch: 0 * batch.ratio, 1.0),
        (lambda batch: th.where(batch.advantages > 0, batch.ratio, 0 * batch.ratio), 0.5),
    ],
)
def test_the_zero_gradient_fraction_counts_samples_that_no_longer_pull(surrogate: Any, fraction: float) -> None:
    class Custom(ClipPPO):
        def _surrogate(self, batch: Any) -> Any:
            return surrogate(batch)

        def train(self) -> None:  # half of the advantages positive
            self.rollout_buffer.advantages[:] = np.where(np.arange(64) % 2 == 0, 1.0, -1.0)[:, None]
            super().train()

    assert learned(Custom).logger.name_to_value["train/zero_gradient_fraction"] == fraction


# A distribution without a closed KL -----------------------------------------------------------------------------------


class HeavyTailed(DiagGaussianDistribution):
    """Student's t, of which PyTorch knows no KL."""

    def proba_distribution(self, mean_actions: th.Tensor, log_std: th.Tensor) -> Any:
        self.distribution = StudentT(5.0, mean_actions, th.ones_like(mean_actions) * log_std.exp())
        return self


class HeavyTailedPolicy(ActorCriticPolicy):
    def __init__(self, *arguments: Any, **kwargs: Any) -> None:
        super().__init__(*arguments, **kwargs)
        self.action_dist = HeavyTailed(self.action_dist.action_dim)


def test_without_a_closed_kl_the_estimate_is_used_and_the_key_says_so() -> None:
    kwargs = {"policy": HeavyTailedPolicy, "learning_rate": 0.01, "n_epochs": 5}
    logged = learned(ClipPPO, BOX, **kwargs).logger.name_to_value
    assert "train/kl" not in logged
    assert logged["train/kl_k3"] > 1e-3


def test_a_trust_region_holds_the_estimate_where_no_kl_is_known() -> None:
    model = TrustRegionPPO(HeavyTailedPolicy, make_env(VECTOR, BOX), learning_rate=0.01, max_kl=1e-3, **SMALL)
    for _ in range(4):
        model.learn(64, reset_num_timesteps=False)
        assert model.logger.name_to_value["train/kl_k3"] <= 1e-3
        assert "train/kl" not in model.logger.name_to_value


def test_minibatch_kl_falls_back_to_the_estimate_too() -> None:
    class Keeps(ClipPPO):
        needs_old_distribution = True
        seen: list[bool] = []  # noqa: RUF012

        def _surrogate(self, batch: MiniBatch) -> Any:
            self.seen.append(bool((batch.kl >= 0).all()) and batch.kl.requires_grad is batch.log_prob.requires_grad)
            return super()._surrogate(batch)

    learned(Keeps, BOX, policy=HeavyTailedPolicy)
    assert len(Keeps.seen) > 0
    assert all(Keeps.seen)


# The whole ------------------------------------------------------------------------------------------------------------


def test_a_variant_is_sb3s_ppo_to_third_parties() -> None:
    assert issubclass(ClipPPO, PPO)
    assert isinstance(ClipPPO("MlpPolicy", make_vec_env("CartPole-v1"), **SMALL), PPO)


# What the PyTorch engine spares ---------------------------------------------------------------------------------------


@pytest.mark.end_to_end
def test_sb3_contrib_is_imported_only_for_masks_and_memory() -> None:
    script = (
        "import sys; from sb3_ppo_variants import ClipPPO; assert 'sb3_contrib' not in sys.modules; "
        "from sb3_ppo_variants import MaskableClipPPO; assert 'sb3_contrib' in sys.modules"
    )
    process = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(
    "actions", [BOX, DISCRETE, MULTI_DISCRETE, MULTI_BINARY], ids=lambda space: type(space).__name__
)
@pytest.mark.parametrize("bad", [math.nan, 3e38])
def test_quick_checks_refuse_what_pytorch_refuses_and_compute_what_it_computes(actions: Any, bad: float) -> None:
    policy = ClipPPO("MlpPolicy", make_env(VECTOR, actions), seed=0, device="cpu").policy
    observations = th.ones(2, *VECTOR.shape)

    def outcome() -> Any:
        th.manual_seed(0)
        try:
            return [tensor.tolist() for tensor in policy(observations)]
        except ValueError as error:
            return str(error)

    results = []
    for checks in (quick_checks, contextlib.nullcontext):
        with checks(policy):
            policy.action_net.bias.data[0] = 0.0
            good = outcome()
            policy.action_net.bias.data[0] = bad  # the sum of the second one overflows, and is no fault
            results.append((good, outcome()))
    assert results[0] == results[1]
    assert isinstance(results[0][0], list)
    if math.isnan(bad):
        assert "invalid values" in results[0][1]


def test_adam_makes_the_same_steps_where_gradients_are_missing_its_state_is_replaced_and_hooks_are_called() -> None:
    def trained(spared: bool, hooked: bool) -> tuple[list[th.Tensor], list[int]]:
        th.manual_seed(0)
        parameters = [nn.Parameter(th.randn(7, 5)), nn.Parameter(th.randn(3))]
        optimizer = th.optim.Adam(parameters, lr=1e-2)
        calls: list[int] = []
        steps: list[float] = []
        if hooked:
            optimizer.register_step_post_hook(lambda *_: calls.append(1))
        for missing in (False, True, False):
            with batched_adam(optimizer) if spared else contextlib.nullcontext():
                for number in range(3):
                    for parameter in parameters:
                        parameter.grad = th.randn_like(parameter)
                    if missing:
                        parameters[1].grad = None
                    optimizer.step()
                    steps.append(optimizer.state[parameters[0]]["step"].item())
                    if number == 1:
                        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        states = [tensor for parameter in parameters for tensor in optimizer.state[parameter].values()]
        assert steps == list(range(1, 10)), "each is counted when it is made"
        assert optimizer.param_groups[0]["foreach"] is None, "as it was"
        return [*parameters, *states], calls

    for hooked in (False, True):
        (ours, our_calls), (theirs, their_calls) = trained(True, hooked), trained(False, hooked)
        assert all(th.equal(*pair) for pair in zip(ours, theirs, strict=True))
        assert our_calls == their_calls == [1] * (9 * hooked)
