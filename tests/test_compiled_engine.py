"""engine="compiled": the runs of NumPy's engine, and where it does not run."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import ARRAY_ENGINES, mostly_slow
from stable_baselines3.common.callbacks import BaseCallback

from sb3_ppo_variants import ESPO, AdaptiveLRPPO, ClipPPO, KLStopPPO, TrustRegionPPO, UpdateLoop
from sb3_ppo_variants.engines.kernels import extension
from sb3_ppo_variants.registry import VARIANTS
from sb3_ppo_variants.testing import BOX, DISCRETE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, make_env

# 129 samples in minibatches of 32: the last has one sample
pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
compiled = pytest.mark.skipif("compiled" not in ARRAY_ENGINES, reason="the extension is not there, or switched off")


def make(cls: type[UpdateLoop], actions: spaces.Space[Any] = DISCRETE, **kwargs: Any) -> UpdateLoop:
    defaults = {"n_steps": 43, "batch_size": 32, "n_epochs": 3, "seed": 1, "device": "cpu", "ent_coef": 0.01}
    return cls("MlpPolicy", make_env(VECTOR, actions, n_envs=3), **(defaults | kwargs))


def distance(one: UpdateLoop, other: UpdateLoop) -> float:
    """Return the norm of the difference of all parameters, relative to their norm."""
    vectors = [th.nn.utils.parameters_to_vector(model.policy.parameters()).detach().double() for model in (one, other)]
    return float((vectors[0] - vectors[1]).norm() / vectors[0].norm())


_SPACES = {type(space).__name__: space for space in (DISCRETE, BOX, MULTI_DISCRETE, MULTI_BINARY)}
# Each variant with continuous actions and, in turn, with one of the other spaces; the rest with the slow tests
_ALWAYS = {(name, space) for number, name in enumerate(VARIANTS) for space in ("Box", list(_SPACES)[number % 4])}


@compiled
@pytest.mark.parametrize(
    ("algorithm_id", "actions"),
    mostly_slow(
        [case for case in itertools.product(VARIANTS, _SPACES) if case[0] != "rpo" or case[1] == "Box"],
        lambda case: case in _ALWAYS,
    ),
)
def test_an_update_of_every_variant_is_that_of_numpy(algorithm_id: str, actions: str) -> None:
    numpy_run, compiled_run = (
        make(VARIANTS[algorithm_id].cls, _SPACES[actions], engine=engine).learn(129) for engine in ("numpy", "compiled")
    )
    assert compiled_run.engine_in_use == "compiled"
    assert distance(numpy_run, compiled_run) < 1e-6
    for name in ("actions", "log_probs", "values"):
        mine, theirs = (getattr(model.rollout_buffer, name) for model in (compiled_run, numpy_run))
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@compiled
@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (AdaptiveLRPPO, {"adapt_every": "epoch", "desired_kl": 1e-3}),
        (ClipPPO, {"learning_rate": lambda remaining: 1e-2 * remaining}),
        (ClipPPO, {"clip_range_vf": 0.05, "value_clip": "max", "max_grad_norm": 0.01}),
        (KLStopPPO, {"max_kl": 2e-4, "learning_rate": 1e-3, "stop_at": "minibatch"}),
        (KLStopPPO, {"max_kl": 2e-4, "learning_rate": 1e-3, "stop_critic": False}),
        (TrustRegionPPO, {"max_kl": 1e-4, "learning_rate": 1e-3}),
        (ESPO, {"max_ratio_deviation": 0.02, "learning_rate": 1e-3}),
        (ClipPPO, {"target_kl": 1e-3, "learning_rate": 3e-3}),
    ],
)
def test_rates_stops_and_clips_are_those_of_numpy(cls: type[UpdateLoop], options: dict[str, Any]) -> None:
    """Over three updates: where they stop, what they log, where they end."""
    runs = [make(cls, engine=engine, n_epochs=6, **options).learn(3 * 129) for engine in ("numpy", "compiled")]
    logs = [run.logger.name_to_value for run in runs]
    for key in ("train/n_updates", "train/epochs", "train/stop_epoch", "train/stop_reason"):
        assert logs[0].get(key) == logs[1].get(key), key
    assert logs[0]["train/learning_rate"] == pytest.approx(logs[1]["train/learning_rate"])
    may_stop = options.keys() & {"max_kl", "max_ratio_deviation", "target_kl"}
    assert not may_stop or "train/stop_epoch" in logs[0], "the setting does not show what it is for"
    assert distance(*runs) < 1e-5


@compiled
def test_a_rate_that_changes_between_minibatches_is_that_of_numpy() -> None:
    """Over one update: the rule compares with a threshold, on whose other side rounding may put a later one."""
    options = {"adapt_every": "minibatch", "desired_kl": 1e-3, "batch_size": 43}
    runs = [make(AdaptiveLRPPO, engine=engine, **options).learn(129) for engine in ("numpy", "compiled")]
    rates = [run.adapted_learning_rate for run in runs]
    assert rates[0] == rates[1] != 3e-4
    assert distance(*runs) < 1e-5


@pytest.mark.parametrize("engine", ARRAY_ENGINES)
def test_parameters_that_a_callback_writes_act_from_the_next_step_on(engine: str) -> None:
    class Silencer(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls == 5:
                with th.no_grad():
                    self.model.policy.value_net.weight.zero_()
                    self.model.policy.value_net.bias.fill_(7.0)
            return True

    model = make(ClipPPO, engine=engine)
    model.learn(129, callback=Silencer())
    values = model.rollout_buffer.values.reshape(3, 43)  # flattened by the update
    assert (values[:, 5:] == 7.0).all()
    assert (values[:, :5] != 7.0).all()


@pytest.mark.parametrize("engine", ARRAY_ENGINES)
def test_a_parameter_that_was_replaced_is_never_trained_behind_the_optimizers_back(engine: str) -> None:
    """The optimizer still holds the old one, so no engine on arrays has the same meaning as SB3."""
    model = make(ClipPPO, engine=engine).learn(129)
    policy = model.policy
    policy.value_net.bias = th.nn.Parameter(policy.value_net.bias.detach().clone())
    with pytest.raises(ValueError, match="other parameters than the policy"):
        model.learn(129)
    policy.optimizer = policy.optimizer_class(policy.parameters(), lr=1e-3, eps=1e-5)
    before = policy.value_net.bias.detach().clone()
    model.learn(129)
    assert model.engine_in_use == engine
    assert not th.equal(policy.value_net.bias, before)


# Where it does not run ----------------------------------------------------------------------------------------------


@compiled
def test_float64_and_other_activations_run_on_numpy() -> None:
    leaky = {"activation_fn": th.nn.LeakyReLU}
    with pytest.raises(ValueError, match=r"engine='compiled' cannot run this model: .* activation LeakyReLU"):
        make(ClipPPO, engine="compiled", policy_kwargs=leaky)
    assert make(ClipPPO, engine="auto", policy_kwargs=leaky).learn(129).engine_in_use == "numpy"
    model = make(ClipPPO, engine="auto").learn(129)
    assert model.engine_in_use == "compiled"
    model.policy.double()
    assert model.engine_in_use == "numpy"
    model.policy.float()
    assert model.learn(129).engine_in_use == "compiled"


def test_the_environment_variable_switches_the_extension_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(extension.VARIABLE, "numpy")
    assert make(ClipPPO, engine="auto", verbose=1).learn(129).engine_in_use == "numpy"
    assert f"Engine: numpy (the environment variable {extension.VARIABLE} is 'numpy')" in capsys.readouterr().out
    with pytest.raises(ValueError, match=extension.VARIABLE):
        make(ClipPPO, engine="compiled")
    monkeypatch.setenv(extension.VARIABLE, "off")
    with pytest.raises(ValueError, match="'off'; set it to 'numpy', or not at all"):
        make(ClipPPO, engine="auto")


def test_an_installation_without_the_extension_runs_on_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(extension.VARIABLE, raising=False)
    monkeypatch.setattr(extension, "native", None)
    assert make(ClipPPO, engine="auto").learn(129).engine_in_use == "numpy"
    with pytest.raises(ValueError, match="not built when the package was installed"):
        make(ClipPPO, engine="compiled")
