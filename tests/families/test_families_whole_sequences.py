"""The LSTM is taken through whole sequences at once: to measure a rollout, and to learn with engine="auto"."""

from typing import Any

import pytest
import torch as th
from families_helpers import LSTM, class_of, make_masked_env, make_model
from helpers import mostly_slow, tensors_of
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates

from sb3_ppo_variants.families.recurrent import forgotten_where_episodes_start
from sb3_ppo_variants.testing import BOX, DICT, DISCRETE, VECTOR, make_env

LSTMS: dict[str, dict[str, Any]] = {
    "two LSTMs": {},
    "two layers": {"n_lstm_layers": 2},
    "shared": {"shared_lstm": True, "enable_critic_lstm": False},
    "none for the critic": {"enable_critic_lstm": False},
}
FORMS = ["Recurrent", "MaskableRecurrent"]


def model_of(family: str, variant: str = "ClipPPO", lstm: dict[str, Any] | None = None, **arguments: Any) -> Any:
    make, actions = (make_env, BOX) if family == "Recurrent" else (make_masked_env, DISCRETE)
    arguments["policy_kwargs"] = LSTM["policy_kwargs"] | (lstm or {})
    return make_model(class_of(family, variant), make(VECTOR, actions, n_envs=2), **arguments)


def samples_of(model: Any) -> Any:
    model.learn(64)
    samples = next(model.rollout_buffer.get(None))
    starts = samples.episode_starts.reshape(samples.lstm_states.pi[0].shape[1], -1)
    assert 0 < starts[:, 0].mean() < 1, "some sequences begin with an episode, some do not"
    return samples


def lstm_calls(model: Any, samples: Any) -> int:
    calls: list[Any] = []
    hook = model.policy.lstm_actor.register_forward_hook(lambda *_: calls.append(1))
    try:
        model._evaluate(samples)
    finally:
        hook.remove()
    return len(calls)


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_the_engine_decides_how_minibatches_are_taken(engine: str) -> None:
    model = model_of("Recurrent", engine=engine)
    episode_length = 11
    assert lstm_calls(model, samples_of(model)) == (episode_length if engine == "torch" else 1)


@pytest.mark.parametrize("lstm", LSTMS)
@pytest.mark.parametrize("family", mostly_slow(FORMS, FORMS[:1]))
def test_a_rollout_is_measured_in_whole_sequences(family: str, lstm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(family, lstm=LSTMS[lstm])
    samples_of(model)
    (chunk,) = model._rollout_chunks()
    assert lstm_calls(model, chunk) == 1
    at_once = model._evaluate(chunk)
    monkeypatch.setattr(type(model), "_at_once", lambda _, sequences: sequences)
    (chunk,) = model._rollout_chunks()
    assert lstm_calls(model, chunk) > 1
    stepwise = model._evaluate(chunk)
    for name in ("values", "log_prob", "entropy"):
        assert th.allclose(getattr(at_once, name), getattr(stepwise, name), rtol=1e-5, atol=1e-6), name


_FORMS = [("Recurrent", "TrustRegionPPO"), ("MaskableRecurrent", "KLPenaltyPPO")]


@pytest.mark.parametrize(
    ("family", "variant", "lstm"),
    mostly_slow(
        [
            (*form, lstm)
            for form in (("Recurrent", "TrustRegionPPO"), ("MaskableRecurrent", "KLPenaltyPPO"))
            for lstm in LSTMS
        ],
        [("Recurrent", "TrustRegionPPO", "two layers"), ("Recurrent", "TrustRegionPPO", "shared")],
    ),
)
def test_auto_learns_the_same_up_to_rounding(family: str, variant: str, lstm: str) -> None:
    arguments = {"learning_rate": 6e-3, "n_epochs": 2}
    stepwise, at_once = (
        model_of(family, variant, LSTMS[lstm], engine=engine, **arguments).learn(128) for engine in ("torch", "auto")
    )
    before = tensors_of(model_of(family, variant, LSTMS[lstm], **arguments))
    ours, expected = tensors_of(at_once), tensors_of(stepwise)
    for name, tensor in expected.items():
        assert th.allclose(ours[name], tensor, rtol=1e-3, atol=1e-4), name
    moved = max(float((expected[name] - tensor).abs().max()) for name, tensor in before.items())
    assert moved > 0.01, "much more than the tolerance"


def test_an_episode_that_starts_within_a_sequence_is_left_to_the_step_by_step_way() -> None:
    one = th.ones(1, 2, 3)
    states = RNNStates((one, one), (one, one))
    starts = th.tensor([1.0, 0.0, 0.0, 0.0])
    forgotten, none_left = forgotten_where_episodes_start(states, starts)
    assert not none_left.any()
    for pair in forgotten:
        for state in pair:
            assert th.equal(state, th.stack([th.zeros(3), th.ones(3)]).unsqueeze(0))
    within = th.tensor([1.0, 0.0, 0.0, 1.0])
    assert forgotten_where_episodes_start(states, within)[0] is states
    assert forgotten_where_episodes_start(states, within)[1] is within


class OwnStart(RecurrentActorCriticPolicy):
    """Understands the start of an episode in its own way: it begins with a memory of ones."""

    @staticmethod
    def _process_sequence(features: Any, lstm_states: Any, episode_starts: Any, lstm: Any) -> Any:
        n_seq = lstm_states[0].shape[1]
        began = episode_starts.reshape(n_seq, -1)[:, 0].view(1, n_seq, 1)
        ones = tuple(began + (1 - began) * state for state in lstm_states)
        return RecurrentActorCriticPolicy._process_sequence(features, ones, th.zeros_like(episode_starts), lstm)


def test_a_policy_with_its_own_way_to_start_an_episode_keeps_it() -> None:
    cls = class_of("Recurrent", "ClipPPO")
    model = cls(OwnStart, make_env(n_envs=2), n_steps=32, batch_size=None, n_epochs=1, engine="auto", **LSTM).learn(64)
    # No update before the first minibatch, which is the whole rollout
    assert model.logger.name_to_value["train/approx_kl"] == pytest.approx(0.0, abs=1e-6)


def test_dropout_draws_the_numbers_that_it_draws_step_by_step() -> None:
    dropout = {"n_lstm_layers": 2, "lstm_kwargs": {"dropout": 0.5}}
    runs = [model_of("Recurrent", lstm=dropout, engine=engine).learn(64) for engine in ("torch", "auto")]
    ours, expected = (tensors_of(run) for run in runs)
    assert all(th.equal(ours[name], tensor) for name, tensor in expected.items())


def test_dict_observations_are_run_through_at_once_too() -> None:
    env = make_env(DICT, BOX, n_envs=2)
    model = make_model(class_of("Recurrent", "SPO"), env, engine="auto")
    assert lstm_calls(model, samples_of(model)) == 1
