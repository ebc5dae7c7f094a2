"""What must not count does not: invalid actions in the KL, padding in anything."""

from typing import Any

import numpy as np
import pytest
import torch as th
from families_helpers import class_of, make_masked_env, make_model
from helpers import differing, mostly_slow, tensors_of
from sb3_contrib.common.maskable.distributions import (
    MaskableBernoulliDistribution,
    MaskableCategoricalDistribution,
    MaskableDistribution,
    MaskableMultiCategoricalDistribution,
)
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from scipy.special import rel_entr, softmax
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import StateDependentNoiseDistribution

from sb3_ppo_variants import RecurrentClipPPO, RecurrentSPO
from sb3_ppo_variants.families.padding import rows_of
from sb3_ppo_variants.families.recurrent import _chunks
from sb3_ppo_variants.maths.divergences import has_analytic_kl, kl_divergence
from sb3_ppo_variants.testing import BOX, DICT, DISCRETE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, make_env
from sb3_ppo_variants.update_parts.minibatch import MiniBatch

DISTRIBUTIONS: dict[str, tuple[MaskableDistribution, list[int]]] = {
    "Discrete": (MaskableCategoricalDistribution(5), [5]),
    "MultiDiscrete": (MaskableMultiCategoricalDistribution([3, 2]), [3, 2]),
    "MultiBinary": (MaskableBernoulliDistribution(2), [2, 2]),
}


def masked(distribution: MaskableDistribution, logits: th.Tensor, masks: np.ndarray) -> Any:
    made = type(distribution).__new__(type(distribution))
    made.__dict__ = dict(distribution.__dict__)
    made.proba_distribution(logits)
    made.apply_masking(masks)
    return made


def draw(name: str, scale: float = 1.0) -> tuple[Any, Any, th.Tensor, th.Tensor, np.ndarray]:
    """Return old and new distribution, their logits, and masks, some of which leave one action or none."""
    distribution, sizes = DISTRIBUTIONS[name]
    generator = np.random.default_rng(0)
    old, new = (th.tensor(scale * generator.normal(size=(40, sum(sizes))), requires_grad=True) for _ in range(2))
    masks = generator.random((40, sum(sizes))) < 0.5
    masks[0] = False
    masks[1] = True
    return masked(distribution, old, masks), masked(distribution, new, masks), old, new, masks


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_kl_is_that_of_the_valid_actions(name: str) -> None:
    old, new, *logits, masks = draw(name)
    _, sizes = DISTRIBUTIONS[name]
    expected = np.zeros(len(masks))
    for row, mask in enumerate(masks):
        for part in np.split(np.arange(len(mask)), np.cumsum(sizes)[:-1]):
            valid = part[mask[part]]
            if len(valid):
                p, q = (softmax(values[row, valid].detach().numpy()) for values in logits)
                expected[row] += rel_entr(p, q).sum()
    assert has_analytic_kl(old)
    np.testing.assert_allclose(kl_divergence(old, new).detach(), expected, rtol=1e-9, atol=1e-12)
    assert not np.allclose(kl_divergence(new, old).detach(), expected)


@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_invalid_actions_have_no_gradient_and_nothing_is_nan(name: str, scale: float) -> None:
    old, new, _, logits, masks = draw(name, scale)
    kl = kl_divergence(old, new)
    assert not kl.isnan().any()
    kl[kl.isfinite()].sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    # They only pass through a normaliser that cancels
    assert logits.grad[~th.as_tensor(masks)].abs().max() < 1e-12
    assert logits.grad[th.as_tensor(masks)].abs().max() > 1e-3


@pytest.mark.parametrize("observations", mostly_slow([VECTOR, DICT], [DICT]))
@pytest.mark.parametrize("family", ["Maskable", "MaskableRecurrent"])
def test_each_action_is_valid_under_the_mask_that_is_stored_with_it(family: str, observations: Any) -> None:
    model = make_model(class_of(family, "ClipPPO"), make_masked_env(observations, DISCRETE, 3)).learn(96)
    seen = 0
    for samples in model.rollout_buffer.get(20):
        is_real = samples.mask.bool() if family == "MaskableRecurrent" else th.ones(len(samples.actions), dtype=th.bool)
        masks, actions = samples.action_masks[is_real], samples.actions[is_real].long()
        assert (masks.gather(1, actions) == 1).all()
        assert 0 < masks.mean() < 1
        seen += len(actions)
    assert seen == 96


class AsksThePolicy(BaseCallback):
    """Calls the policy as the collecting loop does, before and after each step, for one state and for all."""

    def __init__(self) -> None:
        super().__init__()
        self.actions: list[int] = []

    def _on_rollout_start(self) -> None:
        self._ask()

    def _on_step(self) -> bool:
        self._ask()
        return True

    @th.no_grad()
    def _ask(self) -> None:
        zeros = th.zeros(1, 3, 8)
        memory = RNNStates((zeros, zeros), (zeros, zeros))
        self.model.policy(th.zeros(3, 4), memory, th.ones(3), True)
        one = RNNStates(*((zeros[:, :1], zeros[:, :1]) for _ in range(2)))
        self.actions += self.model.policy(th.zeros(1, 4), one, th.ones(1), True)[0].tolist()


@pytest.mark.parametrize("family", mostly_slow(["Recurrent", "MaskableRecurrent"], ["MaskableRecurrent"]))
def test_callbacks_may_call_the_policy(family: str) -> None:
    make = make_env if family == "Recurrent" else make_masked_env
    callback = AsksThePolicy()
    left_alone, asked = (
        make_model(class_of(family, "ClipPPO"), make(n_envs=3), n_epochs=1).learn(96, callback=present)
        for present in (None, callback)
    )
    assert differing(tensors_of(left_alone), tensors_of(asked)) == []
    assert len(callback.actions) == 33
    assert len(set(callback.actions)) == 1, "one policy, one state, and no mask of the environment's"


# Padding --------------------------------------------------------------------------------------------------------------


PADDED = ("observations", "actions", "old_values", "old_log_prob", "advantages", "returns", "action_masks")
CASES = {
    "Discrete": ("Recurrent", VECTOR, DISCRETE, {}),
    "Box": ("Recurrent", VECTOR, BOX, {}),
    "MultiDiscrete": ("Recurrent", VECTOR, MULTI_DISCRETE, {}),
    "MultiBinary": ("Recurrent", VECTOR, MULTI_BINARY, {}),
    "gSDE": ("Recurrent", VECTOR, BOX, {"use_sde": True}),
    "Dict": ("Recurrent", DICT, DISCRETE, {}),
    "masked Discrete": ("MaskableRecurrent", VECTOR, DISCRETE, {}),
    "masked MultiDiscrete, Dict": ("MaskableRecurrent", DICT, MULTI_DISCRETE, {}),
}


def model_and_samples(name: str) -> tuple[Any, Any]:
    family, observations, actions, kwargs = CASES[name]
    env = (make_env if family == "Recurrent" else make_masked_env)(observations, actions, n_envs=2)
    model = make_model(class_of(family, "KLPenaltyPPO"), env, **kwargs).learn(64)
    samples = next(model.rollout_buffer.get(None))
    assert 0.1 < (samples.mask == 0).float().mean() < 0.9, "there should be padding"
    return model, samples


def scribbled(name: str, values: Any, is_padding: th.Tensor) -> Any:
    """Return a copy in which the padding holds something else."""
    if isinstance(values, dict):
        return {key: scribbled(name, value, is_padding) for key, value in values.items()}
    changed = values.clone()
    # Actions and discrete observations have to exist
    exists = name == "actions" or not values.is_floating_point()
    changed[is_padding] = 1 if exists else 0 if name == "action_masks" else 3.7
    return changed


def gradients(model: Any, samples: Any) -> dict[str, th.Tensor]:
    """Return the gradient of everything in the minibatch that a loss may read."""
    batch: MiniBatch = model._evaluate(samples)
    total = batch.values.sum() + batch.log_prob.sum()
    total = (
        total
        + kl_divergence(rows_of(batch.distribution, th.arange(4)), rows_of(batch.distribution, th.arange(4, 8))).sum()
    )
    if batch.entropy is not None:
        total = total + batch.entropy.sum()
    model.policy.zero_grad()
    total.backward()
    return {name: parameter.grad.clone() for name, parameter in model.policy.named_parameters()}


@pytest.mark.parametrize("name", CASES)
def test_padding_changes_nothing_that_a_hook_sees(name: str) -> None:
    model, samples = model_and_samples(name)
    is_padding = samples.mask < 0.5
    present = [field for field in PADDED if hasattr(samples, field)]
    junk = samples._replace(**{field: scribbled(field, getattr(samples, field), is_padding) for field in present})
    clean, dirty = (model._evaluate(one) for one in (samples, junk))
    for field in ("actions", "advantages", "returns", "old_values", "old_log_prob", "values", "log_prob", "entropy"):
        assert len(getattr(clean, field)) == 64
        assert th.equal(getattr(clean, field), getattr(dirty, field)), field
    assert th.equal(kl_divergence(clean.distribution, dirty.distribution), th.zeros(64))
    assert th.allclose(clean.distribution.log_prob(clean.actions), clean.log_prob)
    ours, theirs = gradients(model, samples), gradients(model, junk)
    for key, gradient in ours.items():
        assert th.allclose(gradient, theirs[key], rtol=1e-5, atol=1e-6), key


def test_rows_of_a_state_dependent_noise_distribution_can_be_sampled() -> None:
    distribution = StateDependentNoiseDistribution(2)
    distribution.proba_distribution_net(3)
    distribution.proba_distribution(th.zeros(5, 2), th.zeros(3, 2), th.ones(5, 3))
    assert rows_of(distribution, th.tensor([4, 1])).sample().shape == (2, 2)


# The rollout in chunks ------------------------------------------------------------------------------------------------


def test_chunks_hold_whole_sequences_as_many_as_fit_and_one_at_least() -> None:
    assert list(_chunks(np.array([600, 1024, 1500, 4000, 4001]))) == [
        (0, 1024),
        (1024, 1500),
        (1500, 4000),
        (4000, 4001),
    ]
    assert list(_chunks(np.array([7]))) == [(0, 7)]


def test_the_kl_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    kls = []
    for size in (1, 13, 10_000):
        monkeypatch.setattr("sb3_ppo_variants.families.recurrent._MEASURE_CHUNK", size)
        model = make_model(RecurrentSPO, make_env(n_envs=2), learning_rate=0.01).learn(64)
        kls.append(model.logger.name_to_value["train/kl"])
    assert kls[0] > 1e-3
    assert kls == pytest.approx([kls[0]] * 3, rel=1e-5)


def test_a_chunk_never_cuts_a_sequence() -> None:
    model = make_model(RecurrentClipPPO, make_env(n_envs=3)).learn(96)
    sizes = [int(chunk.mask.sum()) for chunk in model._rollout_chunks()]
    assert sum(sizes) == 96
    assert all(chunk.episode_starts[0] in (0, 1) for chunk in model._rollout_chunks())
