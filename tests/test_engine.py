"""The engines on arrays as a user meets them: same run as SB3, shared memory, choice of engine."""

import itertools
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import ARRAY_ENGINES, mostly_slow
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import load_results
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ppo_variants import AdaptiveClipPPO, ClipPPO, KLStopPPO, NonFiniteUpdateError, TrustRegionPPO, UpdateLoop
from sb3_ppo_variants.engines.array_engine import ArrayEngine
from sb3_ppo_variants.engines.kernels.adam import Adam
from sb3_ppo_variants.engines.kernels.layout import ParameterGroup
from sb3_ppo_variants.registry import VARIANTS
from sb3_ppo_variants.testing import check_variant


@pytest.fixture(params=ARRAY_ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


SETTINGS: dict[str, dict[str, Any]] = {
    "CartPole-v1": {},
    "Pendulum-v1": {"gamma": 0.9, "ent_coef": 0.01, "clip_range_vf": 0.3},
}


def make(cls: type, env_id: Any, n_envs: int = 2, **kwargs: Any) -> Any:
    env = make_vec_env(env_id, n_envs, seed=1)
    defaults = {"n_steps": 256 // n_envs, "batch_size": 64, "n_epochs": 3, "seed": 1, "device": "cpu"}
    return cls("MlpPolicy", env, **(defaults | kwargs))


def largest_difference(a: PPO, b: PPO) -> float:
    pairs = zip(a.policy.parameters(), b.policy.parameters(), strict=True)
    return max(float((x - y).detach().abs().max()) for x, y in pairs)


@pytest.mark.parametrize("n_envs", [1, 8])
@pytest.mark.parametrize("env_id", SETTINGS)
def test_first_rollout_and_first_update_are_those_of_sb3(env_id: str, n_envs: int, engine: str) -> None:
    models = []
    for cls, chosen in ((PPO, {}), (ClipPPO, {"engine": engine})):
        model = make(cls, env_id, n_envs, **SETTINGS[env_id], **chosen)
        models.append(model.learn(256))
    sb3, ours = models
    # Only NumPy's engine has PyTorch compute continuous actions, for their bits
    exact = ("episode_starts",) if (env_id, engine) == ("Pendulum-v1", "compiled") else ("observations", "actions")
    for name in exact:
        assert np.array_equal(getattr(ours.rollout_buffer, name), getattr(sb3.rollout_buffer, name)), name
    for name in (
        "observations",
        "actions",
        "rewards",
        "episode_starts",
        "log_probs",
        "values",
        "advantages",
        "returns",
    ):
        ours_array = getattr(ours.rollout_buffer, name)
        np.testing.assert_allclose(ours_array, getattr(sb3.rollout_buffer, name), rtol=1e-4, atol=1e-4, err_msg=name)
    assert largest_difference(sb3, ours) < 1e-5
    for key, value in sb3.logger.name_to_value.items():
        if key.startswith("train/"):
            assert ours.logger.name_to_value[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key


class Vectors(gym.Env[np.ndarray, Any]):
    """Random observations and rewards that depend on the action, in episodes of ten steps."""

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        self.action_space = action_space
        self.observation_space = spaces.Box(-4, 4, (3,), np.float64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._step = 0
        return self.np_random.normal(size=3), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._step += 1
        return self.np_random.normal(size=3), float(np.sum(action)), self._step == 10, False, {}


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([3, 2, 5]), spaces.MultiBinary(4)])
def test_other_action_spaces_draw_the_actions_of_sb3(space: spaces.Space[Any], engine: str) -> None:
    sb3, ours = (
        make(cls, lambda: Vectors(space), **chosen).learn(256)
        for cls, chosen in ((PPO, {}), (ClipPPO, {"engine": engine}))
    )
    assert ours.engine_in_use == engine
    assert np.array_equal(ours.rollout_buffer.actions, sb3.rollout_buffer.actions)
    assert largest_difference(sb3, ours) < 1e-5


class Episodes(BaseCallback):
    """Keeps the return and length of every episode that Monitor reports."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes: list[tuple[float, int]] = []

    def _on_step(self) -> bool:
        infos = [info["episode"] for info in self.locals["infos"] if "episode" in info]
        self.episodes += [(episode["r"], episode["l"]) for episode in infos]
        return True


@cache
def episodes_of(cls: type, env_id: str, **chosen: Any) -> Any:
    """Returns and lengths of the episodes of six rollouts."""
    recorder = Episodes()
    model = make(cls, env_id, **SETTINGS[env_id], **chosen).learn(6 * 256, callback=recorder)
    assert model.num_timesteps == 6 * 256
    return np.array(recorder.episodes)


@pytest.mark.parametrize(
    ("env_id", "followed"), mostly_slow([("CartPole-v1", 40), ("Pendulum-v1", 5)], [("CartPole-v1", 40)])
)
def test_six_rollouts_follow_sb3_until_rounding_flips_an_action(env_id: str, followed: int, engine: str) -> None:
    """CartPole's actions are discrete: equal for long. Pendulum's drift apart bit by bit, and its motion is chaotic."""
    sb3, ours = episodes_of(PPO, env_id), episodes_of(ClipPPO, env_id, engine=engine)
    assert len(sb3) > followed
    np.testing.assert_allclose(ours[:followed], sb3[:followed], rtol=1e-3)


def test_torch_and_numpy_hold_the_same_memory_after_training_loading_and_setting(tmp_path: Path, engine: str) -> None:
    model = make(ClipPPO, "CartPole-v1", engine=engine).learn(512)
    assert_shared(model)
    before = model.get_parameters()
    model.set_parameters(before)
    assert_shared(model)
    model.learn(256, reset_num_timesteps=False)
    assert_shared(model)
    model.save(tmp_path / "model")
    loaded = ClipPPO.load(tmp_path / "model", env=model.get_env())
    assert loaded.engine_in_use == engine
    assert_shared(loaded)
    for group in groups_of(loaded):
        assert group.steps > 0


def groups_of(model: UpdateLoop) -> list[ParameterGroup]:
    engine = engine_of(model)
    engine.bind()
    return [engine.kernels.actor_group, engine.kernels.critic_group]


def engine_of(model: UpdateLoop) -> ArrayEngine:
    engine = model._choose_engine()
    assert isinstance(engine, ArrayEngine)
    return engine


def assert_shared(model: UpdateLoop) -> None:
    kernels = engine_of(model).kernels
    parameters = set()
    for group in (kernels.actor_group, kernels.critic_group):
        for parameter in group.parameters:
            assert parameter.data_ptr() == group.value(parameter).ctypes.data
            state = model.policy.optimizer.state[parameter]
            if state:
                for key, buffer in (("exp_avg", group.first_moments), ("exp_avg_sq", group.second_moments)):
                    assert state[key].data_ptr() == group._view(buffer, parameter).ctypes.data
            parameters.add(id(parameter))
    assert parameters == {id(parameter) for parameter in model.policy.parameters()}


def test_set_parameters_reaches_the_next_action(engine: str) -> None:
    model = make(ClipPPO, "Pendulum-v1", engine=engine).learn(256)
    other = make(ClipPPO, "Pendulum-v1", engine="torch", seed=9).learn(256)
    model.set_parameters(other.get_parameters())
    kernels = engine_of(model).kernels
    observations = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    with th.no_grad():
        expected = other.policy.predict_values(th.as_tensor(observations)).flatten()
    np.testing.assert_allclose(kernels.values(observations), expected, rtol=1e-5)
    assert kernels.actor_group.steps == int(next(iter(other.policy.optimizer.state.values()))["step"].item()), (
        "Adam's step count must come along"
    )


def test_gradients_of_the_last_step_stand_where_torch_leaves_them(engine: str) -> None:
    """Callbacks log their norms; clipped, as SB3's are."""
    sb3, ours = (
        make(cls, "CartPole-v1", n_epochs=1, max_grad_norm=0.1, **chosen).learn(256)
        for cls, chosen in ((PPO, {}), (ClipPPO, {"engine": engine}))
    )
    for parameter, expected in zip(ours.policy.parameters(), sb3.policy.parameters(), strict=True):
        th.testing.assert_close(parameter.grad, expected.grad, rtol=1e-3, atol=1e-5)
    norm = th.cat([parameter.grad.flatten() for parameter in ours.policy.parameters()]).norm()
    assert float(norm) == pytest.approx(0.1, rel=1e-3), "the bound binds"


def test_switching_the_engine_in_mid_training_continues_the_run() -> None:
    straight = make(ClipPPO, "CartPole-v1", engine="torch").learn((2 + len(ARRAY_ENGINES)) * 256)
    switching = make(ClipPPO, "CartPole-v1", engine="torch").learn(256)
    for name in (*ARRAY_ENGINES, "torch"):
        switching.engine = name
        switching.learn(256, reset_num_timesteps=False)
        assert switching.engine_in_use == name
        if name != "torch":
            assert_shared(switching)
    assert len(switching.policy.optimizer.state) == len(list(switching.policy.parameters()))
    assert {int(state["step"]) for state in switching.policy.optimizer.state.values()} == {
        (2 + len(ARRAY_ENGINES)) * 4 * 3
    }
    assert largest_difference(straight, switching) < 5e-3


def test_auto_takes_the_fastest_for_plain_mlps_and_torch_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert make(ClipPPO, "CartPole-v1", engine="auto", verbose=1).engine_in_use == ARRAY_ENGINES[-1]
    assert f"Engine: {ARRAY_ENGINES[-1]}" in capsys.readouterr().out
    model = make(ClipPPO, "Pendulum-v1", engine="auto", use_sde=True, verbose=1)
    assert model.engine_in_use == "torch"
    assert "StateDependentNoise" in capsys.readouterr().out
    model.learn(256)
    assert capsys.readouterr().out.count("Engine:") == 0, "the choice is reported once"


def test_the_default_is_the_fastest_and_sb3s_bits_are_one_word_away(capsys: pytest.CaptureFixture[str]) -> None:
    assert make(ClipPPO, "CartPole-v1", verbose=1).engine_in_use == ARRAY_ENGINES[-1]
    assert f"Engine: {ARRAY_ENGINES[-1]}" in capsys.readouterr().out
    assert make(ClipPPO, "CartPole-v1", engine="torch").engine_in_use == "torch"


def test_whatever_changes_the_forward_pass_of_one_model_sends_auto_to_torch(capsys: pytest.CaptureFixture[str]) -> None:
    model = make(ClipPPO, "CartPole-v1", engine="auto").learn(256)
    evaluate = model.policy.evaluate_actions
    model.policy.evaluate_actions = evaluate
    assert model.engine_in_use == "torch"
    del model.policy.evaluate_actions
    assert model.engine_in_use == ARRAY_ENGINES[-1]
    for register in ("register_forward_pre_hook", "register_full_backward_pre_hook", "register_forward_hook"):
        handle = getattr(model.policy.mlp_extractor.policy_net[0], register)(lambda *_: None)
        assert model.engine_in_use == "torch", register
        handle.remove()
    th.nn.utils.spectral_norm(model.policy.mlp_extractor.policy_net[0])
    assert model.engine_in_use == "torch"
    assert not capsys.readouterr().out


class _SurrogateOnly(UpdateLoop):
    def _surrogate(self, batch: Any) -> th.Tensor:
        return batch.ratio * batch.advantages


class SurrogateOnlyPPO(_SurrogateOnly, PPO):
    pass


class _CustomAdam(th.optim.Adam):
    pass


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"use_sde": True}, "StateDependentNoise"),
        ({"policy_kwargs": {"activation_fn": th.nn.GELU}}, "GELU"),
        ({"policy_kwargs": {"optimizer_class": th.optim.SGD}}, "SGD"),
        ({"policy_kwargs": {"optimizer_class": _CustomAdam}}, "_CustomAdam"),
        ({"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.1}}}, "weight_decay"),
    ],
)
def test_what_arrays_cannot_run_is_refused_with_the_reason(kwargs: dict[str, Any], reason: str, engine: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make(ClipPPO, "Pendulum-v1", engine=engine, **kwargs)


def test_one_hook_is_enough() -> None:
    assert make(SurrogateOnlyPPO, "CartPole-v1", engine="numpy").engine_in_use == "numpy"


def test_a_frozen_or_hooked_parameter_sends_auto_to_torch() -> None:
    model = make(ClipPPO, "CartPole-v1", engine="auto").learn(256)
    parameter = next(model.policy.parameters())
    handle = parameter.register_hook(lambda gradient: gradient * 0)
    assert model.engine_in_use == "torch"
    handle.remove()
    assert model.engine_in_use == ARRAY_ENGINES[-1]
    parameter.requires_grad = False
    assert model.engine_in_use == "torch"


# What surrounds the slopes is the same for all: one variant that measures and goes back. All others, whose gradients
# and updates are held against PyTorch's in tests of their own, with the slow tests.
_ALWAYS = [("trust_region_ppo", ARRAY_ENGINES[-1])]


@pytest.mark.parametrize(
    ("algorithm_id", "engine"),
    mostly_slow(itertools.product(VARIANTS, ARRAY_ENGINES), _ALWAYS),
)
def test_every_variant_conforms_on_the_engine(algorithm_id: str, engine: str) -> None:
    """All checks pass; those whose model is not eligible are left out, and no others."""
    left_out = check_variant(VARIANTS[algorithm_id].cls, engine=engine)
    names = {line.partition(":")[0] for line in left_out}
    assert names <= {
        "check_image_observations",
        "check_dict_observations",
        "check_state_dependent_noise",
        "check_non_finite_gradient",
    }, left_out


def test_unknown_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="engine='cuda'"):
        make(ClipPPO, "CartPole-v1", engine="cuda")


@pytest.mark.parametrize(
    "space",
    mostly_slow([spaces.Discrete(3), spaces.Box(-1, 1, (2,)), spaces.MultiBinary(2)], [spaces.Box(-1, 1, (2,))]),
)
def test_callbacks_see_the_locals_of_sb3(space: spaces.Space[Any], engine: str) -> None:
    class Recorder(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[dict[str, Any]] = []

        def _on_step(self) -> bool:
            self.seen.append(dict(self.locals))
            return True

    seen = []
    for cls, chosen in ((PPO, {}), (ClipPPO, {"engine": engine})):
        recorder = Recorder()
        make(cls, lambda: Vectors(space), n_envs=2, **chosen).learn(64, callback=recorder)
        seen.append(recorder.seen)
    for theirs, ours in zip(*seen, strict=True):
        assert theirs.keys() <= ours.keys()
        for name in ("actions", "clipped_actions", "new_obs", "rewards", "dones", "values", "log_probs", "obs_tensor"):
            assert type(theirs[name]) is type(ours[name]), name
            assert theirs[name].shape == ours[name].shape, name
            assert theirs[name].dtype == ours[name].dtype, name
            np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-4, atol=1e-4, err_msg=name)
        assert theirs["n_steps"] == ours["n_steps"]


def test_a_callback_can_end_training(engine: str) -> None:
    class Stopper(BaseCallback):
        def _on_step(self) -> bool:
            return self.num_timesteps < 100

    model = make(ClipPPO, "CartPole-v1", engine=engine).learn(512, callback=Stopper())
    assert model.num_timesteps == 100


def test_eval_callback_sees_live_parameters(tmp_path: Path, engine: str) -> None:
    env = make_vec_env("CartPole-v1", 1, seed=5)
    callback = EvalCallback(env, eval_freq=64, n_eval_episodes=2, log_path=str(tmp_path), verbose=0)
    model = make(ClipPPO, "CartPole-v1", engine=engine).learn(512, callback=callback)
    assert len(np.load(tmp_path / "evaluations.npz")["results"]) == 4
    assert_shared(model)


def test_time_limits_are_bootstrapped_as_in_sb3(engine: str) -> None:
    models = [
        make(cls, "Pendulum-v1", n_envs=1, n_steps=256, gamma=0.99, **chosen).learn(256)
        for cls, chosen in ((PPO, {}), (ClipPPO, {"engine": engine}))
    ]
    sb3, ours = (model.rollout_buffer.rewards for model in models)
    np.testing.assert_allclose(ours, sb3, rtol=1e-5, atol=1e-5)


def test_a_time_limit_adds_the_discounted_value_of_the_last_state(engine: str) -> None:
    """The first reward after which an episode was cut is the environment's plus gamma V(terminal observation)."""

    class Rewards(BaseCallback):
        def _on_step(self) -> bool:
            if self.locals["dones"][0]:
                self.reward = float(self.locals["rewards"][0])
                self.terminal = self.locals["infos"][0]["terminal_observation"]
                self.value = self.model.policy.predict_values(th.as_tensor(self.terminal)[None]).item()
            return True

    recorder = Rewards()
    model = make(ClipPPO, "Pendulum-v1", n_envs=1, n_steps=256, gamma=0.99, engine=engine)
    model.learn(256, callback=recorder)
    bootstrapped = model.rollout_buffer.rewards[199, 0]
    assert abs(recorder.value) > 1e-3
    assert bootstrapped == pytest.approx(recorder.reward + 0.99 * recorder.value, rel=1e-5)


@cache
def surroundings(cls: type, **chosen: Any) -> dict[str, Any]:
    """VecNormalize's statistics, Monitor's episodes and files, evaluations and counters, over two rollouts."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        env = VecNormalize(make_vec_env("Pendulum-v1", 2, seed=1, monitor_dir=str(folder)), gamma=0.9)
        eval_env = VecNormalize(make_vec_env("Pendulum-v1", 1, seed=5), training=False, norm_reward=False)
        evaluation = EvalCallback(eval_env, eval_freq=200, n_eval_episodes=1, log_path=str(folder), verbose=0)
        model = cls("MlpPolicy", env, n_steps=200, batch_size=50, n_epochs=3, seed=1, device="cpu", **chosen)
        model.learn(800, callback=evaluation)
        monitored = load_results(str(folder))["r"]
        evaluations = np.load(folder / "evaluations.npz")
        return {
            "observations": np.concatenate([env.obs_rms.mean, env.obs_rms.var, [env.obs_rms.count]]),
            "returns": [env.ret_rms.mean, env.ret_rms.var, env.ret_rms.count],
            "episodes": [(episode["r"], episode["l"]) for episode in model.ep_info_buffer],
            "monitor files": sorted(monitored),
            "evaluations": evaluations["results"],
            "evaluated at": evaluations["timesteps"],
            "counters": [model.num_timesteps, model._n_updates, model._current_progress_remaining],
            "last observation": model._last_obs,
        }


def test_what_surrounds_training_sees_what_it_sees_with_sb3(engine: str) -> None:
    sb3, ours = surroundings(PPO), surroundings(ClipPPO, engine=engine)
    assert len(sb3["episodes"]) == 4
    for name, expected in sb3.items():
        np.testing.assert_allclose(ours[name], expected, rtol=1e-3, atol=1e-3, err_msg=name)


@cache
def logs_of(cls: type[UpdateLoop], engine: str) -> dict[str, Any]:
    kwargs = {} if cls is AdaptiveClipPPO else {"max_kl": 0.002}
    model = make(cls, "CartPole-v1", engine=engine, learning_rate=3e-3, n_epochs=10, **kwargs).learn(512)
    return model.logger.name_to_value


@pytest.mark.parametrize("cls", [KLStopPPO, TrustRegionPPO, AdaptiveClipPPO])
def test_rules_act_as_on_torch(cls: type[UpdateLoop], engine: str) -> None:
    """An early stop, a rollback and a controller fall in the same places on both engines."""
    torch_logs, array_logs = (logs_of(cls, name) for name in ("torch", engine))
    for key, value in torch_logs.items():
        if key.startswith("train/") and isinstance(value, (int, float)):
            assert array_logs[key] == pytest.approx(value, rel=0.02, abs=1e-4), key


def test_critic_alone_goes_on_after_the_actor_stopped(engine: str) -> None:
    model = make(KLStopPPO, "CartPole-v1", engine=engine, max_kl=1e-9, stop_critic=False)
    actor = [p.detach().clone() for name, p in model.policy.named_parameters() if "value" not in name]
    critic = [p.detach().clone() for name, p in model.policy.named_parameters() if "value" in name]
    model.learn(256)
    named = dict(model.policy.named_parameters())
    steps = {name: int(model.policy.optimizer.state[parameter]["step"]) for name, parameter in named.items()}
    assert {count for name, count in steps.items() if "value" in name} == {12}
    # The first minibatch has a KL of zero, rounding aside: at most a step or two reach the actor
    assert max(count for name, count in steps.items() if "value" not in name) <= 2
    assert any(
        not th.equal(old, new) for old, new in zip(critic, (p for n, p in named.items() if "value" in n), strict=True)
    )
    assert len(actor) == 6


def test_non_finite_data_is_refused_before_a_step(engine: str) -> None:
    model = make(ClipPPO, "CartPole-v1", engine=engine).learn(256)
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.rollout_buffer.advantages[3] = np.inf
    with pytest.raises(NonFiniteUpdateError, match="advantage"):
        model.train()
    assert all(th.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))


def test_a_gradient_whose_norm_overflows_is_clipped_to_nothing() -> None:
    """As in SB3: the norm is infinite, so the factor is zero, and the moments must not become NaN on the way."""
    group = ParameterGroup([th.nn.Parameter(th.ones(3))])
    group.values[:3] = 1.0
    group.gradients[:3] = [1e30, -1e30, 1.0]
    Adam(group).step({"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-5}, 0.0)
    assert np.array_equal(group.values[:3], np.ones(3))
    assert not group.first_moments.any()
    assert not group.second_moments.any()


def test_a_non_finite_loss_never_reaches_the_parameters(engine: str) -> None:
    model = make(ClipPPO, "CartPole-v1", engine=engine).learn(256)
    model.vf_coef = float("inf")
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    with pytest.raises(NonFiniteUpdateError, match="loss"):
        model.train()
    assert all(th.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))


def test_saved_file_holds_no_engine(tmp_path: Path, engine: str) -> None:
    model = make(ClipPPO, "CartPole-v1", engine=engine).learn(256)
    model.save(tmp_path / engine)
    make(ClipPPO, "CartPole-v1", engine="torch").learn(256).save(tmp_path / "torch")
    sizes = [(tmp_path / f"{name}.zip").stat().st_size for name in (engine, "torch")]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    # A model trained on arrays is a plain SB3 checkpoint
    plain = PPO.load(tmp_path / engine)
    observation = np.zeros(4, np.float32)
    assert plain.predict(observation, deterministic=True)[0] == model.predict(observation, deterministic=True)[0]
