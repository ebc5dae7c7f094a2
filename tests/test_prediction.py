"""``predict`` on the array engines: SB3's actions bit for bit, of the policy as it is now, whatever it is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import BOX, DICT, DISCRETE, MULTI_BINARY, MULTI_DISCRETE, VECTOR
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from sb3_ppo_variants import ClipPPO
from sb3_ppo_variants.engines import prediction
from sb3_ppo_variants.testing import make_env

ACTIONS = {
    "discrete": DISCRETE,
    "box": BOX,
    "box in float64": spaces.Box(-0.1, 0.2, (2, 2), np.float64),
    "multi-discrete": MULTI_DISCRETE,
    "multi-binary": MULTI_BINARY,
}


def make(actions: spaces.Space[Any] = BOX, observations: spaces.Space[Any] = VECTOR, **arguments: Any) -> ClipPPO:
    policy = "MultiInputPolicy" if isinstance(observations, spaces.Dict) else "MlpPolicy"
    settings = {"engine": "numpy", "n_steps": 8, "batch_size": 8, "seed": 3, "device": "cpu"} | arguments
    return ClipPPO(policy, make_env(observations, actions), **settings)


def with_strong_opinions(model: ClipPPO) -> ClipPPO:
    """Larger weights in the last layer, whose initial ones make all actions nearly equally likely."""
    with th.no_grad():
        model.policy.action_net.weight *= 300
    return model


def observations(rows: int = 40) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, *VECTOR.shape)).astype(np.float32)


def outcome(predict: Callable[..., Any], *arguments: Any, **keywords: Any) -> tuple[Any, Any]:
    """What came of it, dtype and all, or the error; and the state of PyTorch's generator."""
    th.manual_seed(7)
    try:
        actions, state = predict(*arguments, **keywords)
        result = (type(actions), actions.dtype, actions.shape, actions.tobytes(), state)
    except Exception as error:
        result = (type(error), str(error))
    return result, th.get_rng_state().tolist()


def assert_as_sb3(model: ClipPPO, *arguments: Any, **keywords: Any) -> None:
    for deterministic in (True, False):
        theirs, ours = (
            outcome(predict, *arguments, deterministic=deterministic, **keywords)
            for predict in (model.policy.predict, model.predict)
        )
        assert ours == theirs


@pytest.fixture
def only_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """SB3's ``predict`` cannot be what answers."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("SB3's predict was called")

    monkeypatch.setattr(ActorCriticPolicy, "obs_to_tensor", refuse)


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_actions_are_those_of_sb3_bit_for_bit(name: str, dtype: Any) -> None:
    model = with_strong_opinions(make(ACTIONS[name]))
    rows = (observations() * 3).astype(dtype)
    for given in (rows, rows[:1], rows[0]):
        assert_as_sb3(model, given)
    assert len(np.unique(model.predict(rows, deterministic=True)[0], axis=0)) > 1


@pytest.mark.parametrize("name", ACTIONS)
def test_sb3s_predict_is_not_what_answers(name: str, only_quick: None) -> None:
    model = make(ACTIONS[name])
    for deterministic in (True, False):
        model.predict(observations(), deterministic=deterministic)
    model.engine = "torch"
    with pytest.raises(AssertionError, match="SB3's predict was called"):
        model.predict(observations())


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("size", [0.0, 1e-7, 1e-6])
def test_nearly_equal_probabilities_are_decided_as_sb3_does(name: str, size: float) -> None:
    """Half of these logits differ, and their probabilities do not in float32."""
    model = make(ACTIONS[name])
    with th.no_grad():
        model.policy.action_net.weight *= size / 0.01
    # In parts: one row that is nearly equal sends all of its part to SB3
    for rows in np.array_split(observations(60), 30):
        assert np.array_equal(
            *(predict(rows, deterministic=True)[0] for predict in (model.predict, model.policy.predict))
        )


def _read_only(rows: np.ndarray) -> np.ndarray:
    rows.flags.writeable = False
    return rows


HOSTILE: dict[str, Callable[[], Any]] = {
    "a list": lambda: observations().tolist(),
    "a list of one observation": observations()[0].tolist,
    "Gymnasium's reset": lambda: (observations()[0], {}),
    "too long": lambda: np.zeros((2, 7), np.float32),
    "a dimension too many": lambda: np.zeros((2, 2, *VECTOR.shape), np.float32),
    "a number": lambda: np.float32(1.0),
    "no dimension": lambda: np.array(1.0),
    "none": lambda: None,
    "a string": lambda: "observation",
    "objects": lambda: np.full((2, *VECTOR.shape), None),
    "a dict": lambda: {"observation": observations()},
    "a tensor": lambda: th.from_numpy(observations()),
    "no rows": lambda: observations(0),
    "not a number": lambda: np.full((2, *VECTOR.shape), np.nan, np.float32),
    "infinite": lambda: np.full((2, *VECTOR.shape), np.inf, np.float32),
    "overflows float32": lambda: np.full((2, *VECTOR.shape), 1e300),
    "backwards": lambda: observations()[::-1, ::-1],
    "column by column": lambda: np.asfortranarray(observations()),
    "every second row": lambda: observations()[::2],
    "read-only": lambda: _read_only(observations()),
    "big-endian": lambda: observations().astype(">f4"),
    "complex": lambda: observations().astype(np.complex64),
    "masked": lambda: np.ma.masked_array(observations()),
    "booleans": lambda: observations() > 0,
}


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_is_given_meets_sb3s_answer_or_its_error(name: str) -> None:
    for actions in (DISCRETE, BOX):
        assert_as_sb3(with_strong_opinions(make(actions)), HOSTILE[name]())


def test_memory_and_masks_are_taken_as_sb3_takes_them() -> None:
    model = make()
    state = (np.ones(3),)
    assert model.predict(observations(), state, np.ones(40, bool))[1] is state
    for arguments, keywords in (((), {"action_masks": None}), ((None, None, True, None), {})):
        with pytest.raises(TypeError):
            model.predict(observations(), *arguments, **keywords)


def test_dict_observations_are_left_to_sb3() -> None:
    model = make(observations=DICT, engine="auto")
    assert_as_sb3(model, DICT.sample())


def test_what_predict_returns_is_the_callers() -> None:
    model = make()
    first, _ = model.predict(observations(), deterministic=True)
    kept = first.copy()
    model.predict(-observations(), deterministic=True)
    assert np.array_equal(first, kept)
    first[:] = 9.0
    assert_as_sb3(model, observations())


# Changes after training ----------------------------------------------------------------------------------------------


def _other(model: ClipPPO) -> ClipPPO:
    return with_strong_opinions(make(model.action_space, seed=4))


def _replaced_memory(model: ClipPPO) -> None:
    for parameter in model.policy.parameters():
        parameter.data = parameter.data * 2 + 0.1


def _in_place(model: ClipPPO) -> None:
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.1)


def _other_layer(model: ClipPPO) -> None:
    model.policy.action_net = nn.Linear(64, model.policy.action_net.out_features)


def _longer_network(model: ClipPPO) -> None:
    net = model.policy.mlp_extractor.policy_net
    net.append(nn.Linear(64, 64)), net.append(nn.ReLU())


def _load_state(model: ClipPPO) -> None:
    model.policy.load_state_dict(_other(model).policy.state_dict())


def _set_parameters(model: ClipPPO) -> None:
    model.set_parameters(_other(model).get_parameters())


def _other_policy(model: ClipPPO) -> None:
    model.policy = _other(model).policy


def _hook(model: ClipPPO) -> None:
    model.policy.mlp_extractor.policy_net[0].register_forward_hook(lambda *call: call[2] + 1)


def _hook_on_the_extractor(model: ClipPPO) -> None:
    model.policy.features_extractor.register_forward_pre_hook(lambda *call: (call[1][0] + 1,))


def _spectral_norm(model: ClipPPO) -> None:
    nn.utils.parametrizations.spectral_norm(model.policy.action_net)


def _method(model: ClipPPO) -> None:
    theirs = model.policy.get_distribution
    model.policy.get_distribution = lambda observation: theirs(observation + 1)  # type: ignore[method-assign]


def _train_again(model: ClipPPO) -> None:
    model.learn(8)


def _squashing(model: ClipPPO) -> None:
    model.policy._squash_output = True


CHANGES = {
    "in place": _in_place,
    "other memory": _replaced_memory,
    "another layer": _other_layer,
    "a longer network": _longer_network,
    "a state loaded": _load_state,
    "parameters set": _set_parameters,
    "another policy": _other_policy,
    "a hook": _hook,
    "a hook before": _hook_on_the_extractor,
    "a parametrisation": _spectral_norm,
    "a method": _method,
    "more training": _train_again,
    "squashing": _squashing,
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_policy_of_now_answers(change: str) -> None:
    model = with_strong_opinions(make())
    model.learn(8)
    before, _ = model.predict(observations(), deterministic=True)
    CHANGES[change](model)
    assert_as_sb3(model, observations())
    assert not np.array_equal(model.predict(observations(), deterministic=True)[0], before)


def test_a_loaded_model_answers_as_the_saved_one(tmp_path: Path, only_quick: None) -> None:
    model = with_strong_opinions(make())
    model.save(tmp_path / "model")
    loaded = ClipPPO.load(tmp_path / "model", device="cpu")
    actions = [one.predict(observations(), deterministic=True)[0] for one in (model, loaded)]
    assert np.array_equal(*actions)


@pytest.mark.parametrize("change", [lambda policy: policy.double(), lambda policy: policy.to("meta")])
def test_a_policy_elsewhere_is_refused_in_sb3s_words(change: Callable[[Any], Any]) -> None:
    model = make()
    change(model.policy)
    assert_as_sb3(model, observations())


@pytest.mark.parametrize("log_std", [-200.0, float("nan"), 200.0])
def test_a_deviation_that_is_none_is_refused_in_sb3s_words(log_std: float) -> None:
    model = make()
    with th.no_grad():
        model.policy.log_std.fill_(log_std)
    assert_as_sb3(model, observations())


def test_a_layer_with_a_training_mode_is_left_out_of_it() -> None:
    model = make()
    model.policy.set_training_mode(False)
    model.policy.mlp_extractor.policy_net.append(nn.Dropout(0.5)).train()
    actions = [model.predict(observations(), deterministic=True)[0] for _ in range(2)]
    assert np.array_equal(*actions)


def test_predict_leaves_the_policy_in_evaluation_mode() -> None:
    model = make()
    model.policy.set_training_mode(True)
    model.predict(observations())
    assert not any(module.training for module in model.policy.modules())


def test_state_dependent_noise_is_left_to_sb3() -> None:
    model = make(use_sde=True, engine="auto")
    assert isinstance(model.policy.action_dist, StateDependentNoiseDistribution)
    assert prediction.quick_actions(model.policy, observations(), True) is None
    assert_as_sb3(model, observations())
