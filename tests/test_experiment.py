"""From a zoo entry to an environment and a model."""

import pickle
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import RescaleAction, TimeAwareObservation
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import ConstantSchedule
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnv,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
    sync_envs_normalization,
)

from sb3_ppo_variants import AdaptiveClipPPO, ClipPPO, KLStopPPO
from sb3_ppo_variants.entries import zoo_files
from sb3_ppo_variants.experiment import Experiment, registered_entry, registered_envs
from sb3_ppo_variants.training.update_loop import UpdateLoop

MLP = {"policy": "MlpPolicy"}
NOT_CALLABLE = 3


class ImageEnv(gym.Env[np.ndarray, int]):
    """Channels-last images; a step pays 1, an episode lasts 5 steps."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 -- Gymnasium's name and type
    observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 1.0, False, False, {}


class DictEnv(ImageEnv):
    """A vector and a number as observation."""

    observation_space = spaces.Dict(  # type: ignore[assignment]
        {"vector": spaces.Box(-1, 1, (3,)), "number": spaces.Discrete(4)}
    )


@pytest.fixture
def tiny_envs() -> Iterator[None]:
    gym.register("TinyImage-v0", ImageEnv, max_episode_steps=5)
    gym.register("TinyDict-v0", DictEnv, max_episode_steps=5)
    yield
    del gym.registry["TinyImage-v0"], gym.registry["TinyDict-v0"]


def normalized(env: VecEnv) -> VecNormalize:
    assert isinstance(env, VecNormalize)
    return env


def nest(env: VecEnv) -> list[type]:
    """Return the wrappers of the first copy, outermost first."""
    inner = env.unwrapped
    assert isinstance(inner, DummyVecEnv)
    current, types = inner.envs[0], []
    while isinstance(current, gym.Wrapper):
        types.append(type(current))
        current = current.env
    return types


# Entries ---------------------------------------------------------------------------------------------------------


def test_registered_entry_is_the_environments_own_or_the_default() -> None:
    assert registered_entry("ppo", "Pendulum-v1")["learning_rate"] == "lin_0.001"
    assert registered_entry("ppo", "InvertedPendulum-v5") == {"n_timesteps": 1_000_000, "policy": "MlpPolicy"}
    assert "default" not in registered_envs("ppo")


def test_registered_entry_cannot_be_spoiled_by_its_reader() -> None:
    registered_entry("ppo", "Hopper-v5")["policy_kwargs"]["net_arch"]["pi"].append(7)
    assert registered_entry("ppo", "Hopper-v5")["policy_kwargs"]["net_arch"]["pi"] == [256, 256]


def test_a_file_without_entry_and_default_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo_files, "_zoo_file", lambda _: {"CartPole-v1": MLP})
    with pytest.raises(ValueError, match=r"zoo_configs/ppo\.yml has no entry for 'Pendulum-v1'"):
        registered_entry("ppo", "Pendulum-v1")


def test_unknown_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="'pop'"):
        registered_entry("pop", "CartPole-v1")
    with pytest.raises(ValueError, match="'pop'"):
        Experiment("pop", "CartPole-v1", MLP)
    with pytest.raises(ValueError, match="'CartPoole-v1'"):
        Experiment.from_zoo("ppo", "CartPoole-v1")


def test_overrides_replace_registered_values() -> None:
    resolved = Experiment.from_zoo("ppo", "Acrobot-v1", n_envs=2, n_timesteps=1.0e3, gamma=0.5)
    assert (resolved.n_envs, resolved.n_timesteps, resolved.gamma) == (2, 1000, 0.5)
    assert resolved.entry["gae_lambda"] == 0.94


def test_an_unknown_key_is_named_with_its_place_and_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"'lerning_rate' in overrides.*learning_rate\?.*n_steps"):
        Experiment.from_zoo("ppo", "CartPole-v1", lerning_rate=0.1)
    with pytest.raises(ValueError, match="'n_epochs' in the trpo entry for CartPole-v1"):
        Experiment("trpo", "CartPole-v1", {**MLP, "n_epochs": 3})
    with pytest.raises(ValueError, match="'seed'"):
        Experiment("ppo", "CartPole-v1", {**MLP, "seed": 3})
    monkeypatch.setattr(zoo_files, "_zoo_file", lambda _: {"default": {**MLP, "max_kl": 1}})
    with pytest.raises(ValueError, match=r"'max_kl' in entry CartPole-v1 of zoo_configs/ppo\.yml"):
        Experiment.from_zoo("ppo", "CartPole-v1")


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8", float("nan"), float("inf"), [8]])
@pytest.mark.parametrize("key", ["n_envs", "n_timesteps", "frame_stack"])
def test_counts_must_be_positive_whole_numbers(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{key} in the ppo entry for CartPole-v1"):
        Experiment("ppo", "CartPole-v1", {**MLP, key: value})


def test_what_an_entry_leaves_out() -> None:
    bare = Experiment("trpo", "CartPole-v1", MLP)
    assert (bare.n_envs, bare.gamma) == (1, 0.99)
    with pytest.raises(ValueError, match="n_timesteps"):
        _ = bare.n_timesteps
    with pytest.raises(ValueError, match="no policy"):
        Experiment("trpo", "CartPole-v1", {})


def test_an_experiment_is_picklable_and_keeps_its_own_copy_of_the_entry() -> None:
    entry = {**MLP, "policy_kwargs": {"net_arch": [8]}}
    resolved = Experiment("ppo", "CartPole-v1", entry)
    entry["policy_kwargs"]["net_arch"].append(9)  # type: ignore[index]
    assert resolved.entry["policy_kwargs"] == {"net_arch": [8]}
    assert pickle.loads(pickle.dumps(resolved)) == resolved  # noqa: S301 -- made in the line itself


# Hyperparameters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["learning_rate", "clip_range", "clip_range_vf"])
def test_lin_falls_to_zero_and_const_stays(key: str) -> None:
    linear = Experiment("ppo", "CartPole-v1", {**MLP, key: "lin_0.5"}).hyperparameters()[key]
    assert [linear(progress) for progress in (1.0, 0.5, 0.0)] == [0.5, 0.25, 0.0]
    again = pickle.loads(pickle.dumps(linear))  # noqa: S301 -- made in the line itself
    assert again(0.5) == 0.25
    constant = Experiment("ppo", "CartPole-v1", {**MLP, key: "const_5.0e-1"}).hyperparameters()[key]
    assert [constant(progress) for progress in (1.0, 0.0)] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("lin_0.5_0.1", [0.5, 0.3, 0.1]),
        ("cos_0.5", [0.5, 0.25, 0.0]),
        ("cos_0.1_0.5", [0.1, 0.3, 0.5]),
        ("exp_0.4_0.1", [0.4, 0.2, 0.1]),
    ],
)
def test_other_schedules_go_from_one_number_to_another(text: str, values: list[float]) -> None:
    for cls in ("clip_ppo", "ppo"):
        schedule = Experiment(cls, "CartPole-v1", {**MLP, "clip_range": text}).hyperparameters()["clip_range"]
        again = pickle.loads(pickle.dumps(schedule))  # noqa: S301 -- made in the line itself
        assert [again(progress) for progress in (1.0, 0.5, 0.0)] == pytest.approx(values, abs=1e-12)
        assert again(-0.1) == pytest.approx(values[-1], abs=1e-12), "the last rollout may go beyond the end"
    assert Experiment("clip_ppo", "CartPole-v1", {**MLP, "clip_range": "cos_1"}).hyperparameters()["clip_range"](
        0.75
    ) == pytest.approx(0.8535534)


def test_options_of_a_variant_have_schedules_that_sb3s_ppo_has_not() -> None:
    entry = {**MLP, "ent_coef": "lin_0.1", "max_kl": "exp_0.1_0.01", "stop_at": "epoch"}
    arguments = Experiment("kl_stop_ppo", "CartPole-v1", entry).hyperparameters()
    assert [arguments[key](0.5) for key in ("ent_coef", "max_kl")] == pytest.approx([0.05, 0.1**1.5])
    with pytest.raises(ValueError, match=r"gamma in .* cannot be a schedule .*only .*max_kl, .*vf_coef can"):
        Experiment("kl_stop_ppo", "CartPole-v1", {**MLP, "gamma": "lin_0.9"})


@pytest.mark.parametrize(
    "value",
    ["lin", "lin_", "lin_x", "lin_nan", "linear_0.1", "0.1", "1e-3", "lin_0.1_", "lin_0_1_2", "exp_1", "exp_1_0", ""],
)
def test_a_wrong_schedule_names_entry_key_and_value(value: str) -> None:
    with pytest.raises(ValueError, match=f"clip_range in the ppo entry for CartPole-v1 is the text '{value}'"):
        Experiment("ppo", "CartPole-v1", {**MLP, "clip_range": value})


def test_a_schedule_where_sb3_takes_none_is_refused() -> None:
    with pytest.raises(ValueError, match="ent_coef in the ppo entry for CartPole-v1 cannot be a schedule"):
        Experiment("ppo", "CartPole-v1", {**MLP, "ent_coef": "lin_0.1"})


@pytest.mark.parametrize(("key", "value"), [("gamma", "1e-2"), ("gamma", "high"), ("target_kl", "1e-2")])
def test_a_number_that_yaml_reads_as_text_is_refused(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{key} .*'{value}'.*write 1.0e-3"):
        Experiment("ppo", "CartPole-v1", {**MLP, key: value})


def test_texts_numbers_and_null_pass_where_they_belong() -> None:
    resolved = Experiment("kl_stop_ppo", "CartPole-v1", {**MLP, "stop_at": "epoch", "clip_range_vf": None})
    assert resolved.hyperparameters() == {"policy": "MlpPolicy", "stop_at": "epoch", "clip_range_vf": None}


@pytest.mark.parametrize("algorithm_id", ["ppo", "trpo", "clip_ppo"])
def test_an_activation_is_given_by_name_to_baselines_too(algorithm_id: str) -> None:
    resolved = Experiment(algorithm_id, "CartPole-v1", {**MLP, "policy_kwargs": {"activation_fn": "relu"}})
    policy = resolved.make_model(resolved.make_env()).policy
    assert isinstance(policy, ActorCriticPolicy)
    assert policy.activation_fn is th.nn.ReLU


def test_a_policy_is_imported_by_its_dotted_path() -> None:
    path = "stable_baselines3.common.policies.ActorCriticPolicy"
    assert Experiment("ppo", "CartPole-v1", {"policy": path}).hyperparameters()["policy"] is ActorCriticPolicy


@pytest.mark.parametrize("key", ["policy_kwargs", "normalize", "env_kwargs"])
def test_python_in_a_string_is_not_evaluated(key: str) -> None:
    with pytest.raises(ValueError, match=f"{key} in the ppo entry for CartPole-v1 must be a YAML mapping"):
        Experiment("ppo", "CartPole-v1", {**MLP, key: "dict(a=1)"})


# Environments ----------------------------------------------------------------------------------------------------


def test_every_copy_is_monitored_and_seeded_apart() -> None:
    resolved = Experiment("ppo", "CartPole-v1", {**MLP, "n_envs": 3})
    first, again = resolved.make_env(seed=5).reset(), resolved.make_env(seed=5).reset()
    assert isinstance(first, np.ndarray)
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first, axis=0)) == 3
    env = resolved.make_env(n_envs=2)
    assert env.num_envs == 2
    assert env.env_is_wrapped(Monitor) == [True, True]


def test_the_given_vec_env_class_is_used() -> None:
    class Mine(DummyVecEnv):
        pass

    assert isinstance(Experiment("ppo", "CartPole-v1", MLP).make_env(vec_env_cls=Mine), Mine)


def test_env_kwargs_reach_the_environment() -> None:
    env = Experiment("ppo", "Pendulum-v1", {**MLP, "env_kwargs": {"g": 1.5}}).make_env()
    assert env.get_attr("g") == [1.5]


@pytest.mark.parametrize(
    ("entry", "gamma"),
    [
        ({"normalize": True, "gamma": 0.9}, 0.9),
        ({"normalize": True}, 0.99),
        ({"normalize": {"norm_obs": True, "norm_reward": False}, "gamma": 0.5}, 0.5),
    ],
)
@pytest.mark.parametrize("algorithm_id", ["ppo", "trpo", "adaptive_clip_ppo"])
def test_vec_normalize_discounts_as_the_model_does(algorithm_id: str, entry: dict[str, Any], gamma: float) -> None:
    resolved = Experiment(algorithm_id, "Pendulum-v1", {**MLP, **entry})
    env = resolved.make_env()
    assert normalized(env).gamma == resolved.make_model(env).gamma == gamma


def test_normalize_takes_a_mapping_and_false() -> None:
    settings = {"norm_obs": False, "norm_reward": True, "clip_reward": 3.0}
    env = normalized(Experiment("ppo", "Pendulum-v1", {**MLP, "normalize": settings}).make_env())
    assert (env.norm_obs, env.norm_reward, env.clip_reward, env.training) == (False, True, 3.0, True)
    assert isinstance(Experiment("ppo", "Pendulum-v1", {**MLP, "normalize": False}).make_env(), DummyVecEnv)
    for key in ("gamma", "training", "norm_rewards"):
        with pytest.raises(ValueError, match=f"'{key}' in normalize"):
            Experiment("ppo", "Pendulum-v1", {**MLP, "normalize": {key: 1}})


def test_evaluation_sees_raw_rewards_and_frozen_statistics() -> None:
    resolved = Experiment("ppo", "Pendulum-v1", {**MLP, "normalize": True})
    training, evaluation = resolved.make_env(seed=1), resolved.make_env(seed=2, training=False)
    training.reset()
    for _ in range(20):
        training.step(np.zeros((1, 1)))
    sync_envs_normalization(training, evaluation)
    mean = normalized(evaluation).obs_rms.mean.copy()  # type: ignore[union-attr]
    evaluation.reset()
    rewards = [evaluation.step(np.zeros((1, 1)))[1] for _ in range(20)]
    np.testing.assert_array_equal(normalized(evaluation).obs_rms.mean, mean)  # type: ignore[union-attr]
    np.testing.assert_array_equal(normalized(training).obs_rms.mean, mean)  # type: ignore[union-attr]
    bare = Experiment("ppo", "Pendulum-v1", MLP).make_env(seed=2)
    bare.reset()
    np.testing.assert_array_equal(rewards, [bare.step(np.zeros((1, 1)))[1] for _ in range(20)])


def test_wrappers_are_applied_in_order_outside_the_monitor() -> None:
    one, other = "gymnasium.wrappers.TimeAwareObservation", "gymnasium.wrappers.RescaleAction"
    limits = {"min_action": -0.5, "max_action": 0.5}
    for wrappers, expected in [
        (one, [TimeAwareObservation]),
        ({other: limits}, [RescaleAction]),
        ([one, {other: limits}], [RescaleAction, TimeAwareObservation]),
        ([{other: limits}, one], [TimeAwareObservation, RescaleAction]),
        (None, []),
    ]:
        env = Experiment("ppo", "Pendulum-v1", {**MLP, "env_wrapper": wrappers}).make_env()
        assert nest(env)[: len(expected) + 1] == [*expected, Monitor]
        if RescaleAction in expected:
            assert float(env.action_space.high[0]) == 0.5  # type: ignore[attr-defined]
    # rl_zoo3, once imported, puts a class of its own in the place of Gymnasium's
    assert any(wrapper.__name__.endswith("TimeLimit") for wrapper in nest(env))


@pytest.mark.parametrize(
    "wrapper",
    [
        "gymnasium.wrappers.NoSuchWrapper",
        "no_such_module.Wrapper",
        "Wrapper",
        f"{__name__}.NOT_CALLABLE",
        {"gymnasium.wrappers.TimeAwareObservation": {}, "gymnasium.wrappers.RescaleAction": {}},
        {"gymnasium.wrappers.TimeAwareObservation": 3},
    ],
)
@pytest.mark.parametrize("key", ["env_wrapper", "vec_env_wrapper"])
def test_a_wrapper_that_cannot_be_used_is_refused_before_any_work(key: str, wrapper: Any) -> None:
    with pytest.raises(ValueError, match=f"{key} in the ppo entry for CartPole-v1"):
        Experiment("ppo", "CartPole-v1", {**MLP, key: wrapper})


def test_a_vec_env_wrapper_stands_inside_vec_normalize() -> None:
    path = "stable_baselines3.common.vec_env.VecCheckNan"
    entry = {**MLP, "normalize": True, "vec_env_wrapper": path}
    assert isinstance(normalized(Experiment("ppo", "CartPole-v1", entry).make_env()).venv, VecCheckNan)


@pytest.mark.usefixtures("tiny_envs")
def test_frames_are_stacked_and_images_stand_channels_first_in_training_and_evaluation() -> None:
    entry = {"policy": "CnnPolicy", "frame_stack": 4, "normalize": {"norm_obs": False}, "n_steps": 64}
    resolved = Experiment("ppo", "TinyImage-v0", entry)
    for training in (True, False):
        env = resolved.make_env(training=training)
        assert isinstance(env, VecTransposeImage)
        assert isinstance(env.venv, VecFrameStack)
        assert isinstance(env.venv.venv, VecNormalize)
        assert env.observation_space.shape == (4, 36, 36)
    model = resolved.make_model(resolved.make_env())
    assert evaluate_policy(model, resolved.make_env(training=False), n_eval_episodes=2)[0] == 5.0
    assert Experiment("ppo", "TinyImage-v0", entry | {"frame_stack": None}).make_env().observation_space.shape == (
        1,
        36,
        36,
    )


@pytest.mark.usefixtures("tiny_envs")
@pytest.mark.parametrize("algorithm_id", ["trpo", "clip_ppo"])
def test_dictionary_observations_use_the_policy_of_the_entry(algorithm_id: str) -> None:
    entry = {"policy": "MultiInputPolicy", "normalize": {"norm_obs_keys": ["vector"]}, "n_steps": 8, "batch_size": 8}
    resolved = Experiment(algorithm_id, "TinyDict-v0", entry)
    resolved.make_model(resolved.make_env()).learn(8)


# Models ----------------------------------------------------------------------------------------------------------


def test_make_model_takes_the_seed_and_arguments_beside_the_entry() -> None:
    resolved = Experiment("ppo", "CartPole-v1", {**MLP, "n_steps": 32, "batch_size": 32, "n_epochs": 5})
    models = [resolved.make_model(resolved.make_env(), seed=seed, verbose=0, n_epochs=2) for seed in (3, 3, 4)]
    weights = [th.nn.utils.parameters_to_vector(model.policy.parameters()) for model in models]
    assert th.equal(weights[0], weights[1])
    assert not th.equal(weights[0], weights[2])
    assert getattr(models[0], "n_epochs") == 2  # noqa: B009 -- the type is the common base class
    assert models[0].n_steps == 32


@pytest.mark.parametrize("key", ["gamma", "n_envs", "lerning_rate"])
def test_make_model_refuses_what_the_environment_had_to_know_and_what_is_unknown(key: str) -> None:
    resolved = Experiment("ppo", "CartPole-v1", MLP)
    with pytest.raises(ValueError, match=f"'{key}' in arguments of make_model for ppo"):
        resolved.make_model(resolved.make_env(), **{key: 0.5})


def test_from_zoo_of_a_class_is_its_registered_experiment() -> None:
    model = ClipPPO.from_zoo("Pendulum-v1", seed=0)
    assert type(model) is ClipPPO
    env = model.get_env()
    assert env is not None
    assert (env.num_envs, model.n_steps, model.n_epochs, model.gamma) == (4, 1024, 10, 0.9)
    assert model.lr_schedule(0.5) == pytest.approx(0.0005)
    same = ClipPPO.from_zoo("Pendulum-v1", seed=0)
    for one, other in zip(model.policy.parameters(), same.policy.parameters(), strict=True):
        assert th.equal(one, other)
    np.testing.assert_array_equal(env.reset(), same.get_env().reset())  # type: ignore[union-attr]


def test_from_zoo_takes_overrides_of_environment_and_constructor() -> None:
    model = AdaptiveClipPPO.from_zoo("Acrobot-v1", n_envs=2, n_steps=64, gamma=0.9, desired_kl=0.02, verbose=0)
    env = model.get_vec_normalize_env()
    assert env is not None
    assert (env.num_envs, env.gamma, model.gamma, model.n_steps, model.desired_kl) == (2, 0.9, 0.9, 64, 0.02)
    with pytest.raises(ValueError, match=r"'desired_lk' in overrides of AdaptiveClipPPO.*desired_kl\?"):
        AdaptiveClipPPO.from_zoo("Acrobot-v1", desired_lk=0.02)


def test_from_zoo_of_a_users_variant_uses_the_entries_of_its_registered_ancestor() -> None:
    class Mine(UpdateLoop):
        def __init__(self, policy: Any, env: Any, *, own: float = 1.0, **kwargs: Any) -> None:
            self.own = own
            super().__init__(policy, env, **kwargs)

    class MinePPO(Mine, PPO):
        pass

    class NarrowPPO(KLStopPPO):
        pass

    model = MinePPO.from_zoo("CartPole-v1", own=2.0)
    assert (type(model), model.own, model.n_steps) == (MinePPO, 2.0, registered_entry("ppo", "CartPole-v1")["n_steps"])
    assert NarrowPPO.from_zoo("CartPole-v1", n_envs=1).max_kl == KLStopPPO.from_zoo("CartPole-v1").max_kl
    with pytest.raises(ValueError, match="UpdateLoop is a mixin"):
        UpdateLoop.from_zoo("CartPole-v1")


def test_from_zoo_closes_its_environments_when_the_model_cannot_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(DummyVecEnv, "close", lambda self: closed.append(True))
    with pytest.raises(ValueError, match="max_kl"):
        KLStopPPO.from_zoo("CartPole-v1", max_kl=-1.0)
    assert closed == [True]


def test_a_registered_schedule_survives_saving_and_loading(tmp_path: Any) -> None:
    ClipPPO.from_zoo("Pendulum-v1").save(tmp_path / "model")
    loaded = ClipPPO.load(tmp_path / "model")
    assert loaded.lr_schedule(0.5) == pytest.approx(0.0005)
    assert not isinstance(loaded.learning_rate, ConstantSchedule)
