"""Exploration noise with memory: its spectrum and marginals, what of a run it touches, and that it goes on."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import ARRAY_ENGINES, SETTINGS, assert_same_run, mostly_slow, train
from resume_helpers import StopAt, Stopped
from scipy.signal import welch
from scipy.stats import kstest
from stable_baselines3 import PPO

from sb3_ppo_variants import RPO, ClipPPO, MaskableClipPPO, RecurrentClipPPO
from sb3_ppo_variants.resume import ResumableCheckpoint, has_checkpoint
from sb3_ppo_variants.testing import BOX, DISCRETE, VECTOR, MaskedSpaceEnv, make_env
from sb3_ppo_variants.update_parts.colored_noise import ColoredNoise

SMALL: dict[str, Any] = {"n_steps": 8, "batch_size": 16, "n_epochs": 1, "seed": 3, "device": "cpu"}
ENGINES = ("torch", *ARRAY_ENGINES)
COLORS = (0.5, 1.0, 2.0)


def make(cls: Any = ClipPPO, **kwargs: Any) -> Any:
    """Return a model whose policy stays as it is, so that its draws can be told from its actions."""
    still = {"learning_rate": 0.0, "exploration_noise_color": 1.0}
    return cls("MlpPolicy", make_env(VECTOR, BOX, n_envs=2), **(SMALL | still | kwargs))


def saved(model: Any) -> io.BytesIO:
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    return file


def reloaded(model: Any, **kwargs: Any) -> Any:
    return type(model).load(saved(model), env=make_env(VECTOR, BOX, n_envs=2), device="cpu", **kwargs)


def draws_of(model: Any, rollouts: int, **kwargs: Any) -> np.ndarray:
    """Train; return the standard normal numbers behind the actions, shape (steps, environments, dimensions)."""
    draws = []

    def keep(seen: dict[str, Any], _: Any) -> bool:
        obs = th.as_tensor(model._last_obs)
        if hasattr(model, "_last_lstm_states"):
            starts = th.as_tensor(model._last_episode_starts, dtype=th.float32)
            normal = model.policy.get_distribution(obs, model._last_lstm_states.pi, starts)[0].distribution
        else:
            normal = model.policy.get_distribution(obs).distribution
        draws.append(((th.as_tensor(seen["actions"]) - normal.mean) / normal.stddev).detach().numpy())
        return True

    model.learn(rollouts * model.n_steps * model.n_envs, callback=keep, **kwargs)
    return np.stack(draws)


def expected(model: Any, steps: int, first: int = 0) -> np.ndarray:
    """Return some of the draws of the model's noise as one stretch."""
    noise = model.exploration_noise
    fresh = ColoredNoise(noise.color, noise.seed, noise.n_envs, noise.n_dims)
    return np.stack([fresh.at(step) for step in range(first, first + steps)])


def close(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and np.allclose(one, other, atol=2e-5)


# The numbers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=COLORS)
def stretch(request: pytest.FixtureRequest) -> tuple[float, np.ndarray]:
    """Return a color and three sequences' worth of its noise, shape (steps, environments, dimensions)."""
    noise = ColoredNoise(request.param, seed=1, n_envs=64, n_dims=2)
    return request.param, np.stack([noise.at(step) for step in range(3 * 2048)])


def test_the_spectrum_falls_with_the_color(stretch: tuple[float, np.ndarray]) -> None:
    color, draws = stretch
    frequencies, power = welch(draws, axis=0, nperseg=2048)
    inside = (frequencies > 0.004) & (frequencies < 0.4)
    slope, _ = np.polyfit(np.log(frequencies[inside]), np.log(power.mean(axis=(1, 2))[inside]), 1)
    assert slope == pytest.approx(-color, abs=0.02)


@pytest.mark.parametrize("color", mostly_slow(COLORS, COLORS[-1:]))
def test_each_draw_is_standard_normal_at_every_time(color: float) -> None:
    """Over 1,000 independent dimensions: where one sequence rules, and where two are mixed.

    The library's sequences have a mean beyond their unit variance, a third more for red noise.
    """
    noise = ColoredNoise(color, seed=0, n_envs=1, n_dims=1000)
    for step in (0, 512, 1024, 2047):
        draws = noise.at(step).ravel()
        assert kstest(draws, "norm").pvalue > 1e-3, step
        assert draws.mean() == pytest.approx(0.0, abs=0.13), step  # four standard errors
        assert draws.var() == pytest.approx(1.0, abs=0.18), step


def test_no_seam_anywhere(stretch: tuple[float, np.ndarray]) -> None:
    """Neighbours are as correlated where sequences cross, begin and end as elsewhere."""
    _, draws = stretch
    columns = draws.reshape(len(draws), -1)
    steps = np.square(np.diff(columns, axis=0)).mean(axis=1)  # 2 (1 - correlation)
    usual = np.median(steps)
    for seam in (2047, 4095):
        assert steps[seam] == pytest.approx(usual, rel=0.5), seam
    assert steps[2040:2056].mean() == pytest.approx(usual, rel=0.15)


def test_environments_dimensions_and_seeds_are_independent(stretch: tuple[float, np.ndarray]) -> None:
    color, draws = stretch
    white = np.diff(draws, n=1 if color < 2 else 2, axis=0)  # slow waves look correlated in any finite stretch
    columns = white[:4000].reshape(4000, -1)[:, :24]
    correlations = np.corrcoef(columns.T) - np.eye(columns.shape[1])
    assert np.abs(correlations).max() < 0.1
    same, other = (ColoredNoise(color, seed=seed, n_envs=1, n_dims=2).at(0) for seed in (1, 2))
    assert np.array_equal(same, draws[0, :1])
    assert not np.allclose(other, draws[0, :1])


def test_a_step_that_is_asked_for_again_is_the_same_one() -> None:
    noise = ColoredNoise(0.5, seed=1, n_envs=2, n_dims=3)
    first, second, again = noise.at(0), noise.at(1), noise.at(1)
    assert np.array_equal(second, again)
    assert not np.array_equal(first, second)
    assert noise.position == 2


# A run with it --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cls", [ClipPPO, RPO])
def test_the_noise_goes_on_over_rollouts_episodes_and_learns(cls: Any, engine: str) -> None:
    model = make(cls, engine=engine)
    assert model.engine_in_use == engine
    draws = draws_of(model, 2)
    assert close(draws, expected(model, 16))
    more = draws_of(model, 1, reset_num_timesteps=False)
    assert close(more, expected(model, 8, first=16))
    again = draws_of(model, 1)
    assert close(again, expected(model, 8, first=24))


@pytest.mark.parametrize("engine", ARRAY_ENGINES)
@pytest.mark.parametrize("cls", [ClipPPO, RPO])
def test_all_engines_draw_the_same_numbers(cls: Any, engine: str) -> None:
    """Noise, and what else is drawn: the order of minibatches, RPO's shifts."""
    runs = []
    for name in ("torch", engine):
        model = make(cls, engine=name, learning_rate=1e-3, n_epochs=2).learn(64)
        runs.append((model.rollout_buffer.actions, model.rollout_buffer.log_probs, th.get_rng_state()))
    (actions, log_probs, state), (other_actions, other_log_probs, other_state) = runs
    np.testing.assert_allclose(actions, other_actions, atol=1e-4)
    np.testing.assert_allclose(log_probs.ravel(), other_log_probs.ravel(), atol=1e-3)
    assert th.equal(state, other_state)


def test_the_first_rollout_s_actions_have_the_same_bits_in_numpy() -> None:
    actions = [make(engine=engine).learn(16).rollout_buffer.actions for engine in ("torch", "numpy")]
    assert np.array_equal(*actions)


def test_float64_policies_take_it_too() -> None:
    model = make(engine="numpy")
    model.policy.double()
    model.policy.optimizer = th.optim.Adam(model.policy.parameters(), lr=0.0, eps=1e-5)
    assert model.engine_in_use == "numpy"
    model.learn(16)
    assert np.isfinite(model.rollout_buffer.log_probs).all()


def test_log_probabilities_are_those_of_independent_draws() -> None:
    model = make().learn(16)
    buffer = model.rollout_buffer
    _, log_prob, _ = model.policy.evaluate_actions(th.as_tensor(buffer.observations), th.as_tensor(buffer.actions))
    np.testing.assert_allclose(buffer.log_probs.ravel(), log_prob.detach(), atol=1e-5)


def test_with_memory() -> None:
    model = make(RecurrentClipPPO, policy_kwargs={"lstm_hidden_size": 8, "net_arch": [8]})
    assert close(draws_of(model, 2), expected(model, 16))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rollout_that_was_broken_off_leaves_no_gap(engine: str) -> None:
    model = make(engine=engine)
    model.learn(16, callback=lambda *_: model.num_timesteps < 2 * 5)
    assert close(draws_of(model, 1), expected(model, 8, first=5))


@pytest.mark.parametrize("engine", ENGINES)
def test_predict_draws_as_always_and_a_callback_takes_nothing_away(engine: str) -> None:
    model, predicted = make(engine=engine), []
    obs = np.zeros((2, 4), np.float32)

    def interfere(*_: Any) -> bool:
        state = th.get_rng_state()
        predicted.append(model.predict(obs)[0])
        th.set_rng_state(state)
        normal = model.policy.get_distribution(th.as_tensor(obs)).distribution
        fresh = th.clamp(normal.sample(), -1, 1).numpy()  # from the same generator
        assert np.allclose(predicted[-1], fresh)
        with th.no_grad():
            model.policy(th.as_tensor(obs))
            model.policy(th.zeros(5, 4))
        return True

    model.learn(32, callback=interfere)
    assert not model.policy._forward_pre_hooks
    assert not model.policy._forward_hooks
    assert close(draws_of(model, 1), expected(model, 8, first=16))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_loaded_model_goes_on_where_the_noise_was(engine: str) -> None:
    original = make(engine=engine).learn(32)
    model = reloaded(original)
    assert close(draws_of(model, 1), expected(original, 8, first=16))
    assert close(draws_of(original, 1), expected(original, 8, first=16))


def test_files_hold_no_draws() -> None:
    with_noise, without = make().learn(16), make(exploration_noise_color=0.0).learn(16)
    assert len(saved(with_noise).getvalue()) < len(saved(without).getvalue()) + 4096


@pytest.mark.parametrize("engine", ["torch", "numpy"])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path, engine: str) -> None:
    def run(folder: Path, *more: Any) -> Any:
        env = make_env(VECTOR, BOX, n_envs=2)
        if has_checkpoint(folder):
            model = ClipPPO.resume(folder, env, device="cpu")
        else:
            arguments = SMALL | {"engine": engine, "exploration_noise_color": 0.5}
            model = ClipPPO("MlpPolicy", env, **arguments)
        return model.learn(80, callback=[ResumableCheckpoint(folder, 32), *more])

    undisturbed = run(tmp_path / "one")
    with pytest.raises(Stopped):
        run(tmp_path / "other", StopAt(54))
    resumed = run(tmp_path / "other")
    assert np.array_equal(undisturbed.rollout_buffer.actions, resumed.rollout_buffer.actions)
    assert all(map(th.equal, undisturbed.policy.parameters(), resumed.policy.parameters()))
    assert resumed.exploration_noise.position == 40


def test_seeds_decide() -> None:
    first = make().learn(16)
    assert first.exploration_noise.seed == make().learn(16).exploration_noise.seed
    assert first.exploration_noise.seed != make(seed=4).learn(16).exploration_noise.seed
    other = reloaded(first, seed=4).learn(16)
    assert other.exploration_noise.seed != first.exploration_noise.seed
    before = first.exploration_noise
    first.set_random_seed(None)
    assert first.exploration_noise is before
    first.set_random_seed(5)
    assert close(draws_of(first, 1), expected(first, 8))
    assert first.exploration_noise.seed != before.seed


def test_the_color_can_change() -> None:
    model = make().learn(16)
    model.exploration_noise_color = 0.5
    assert model.learn(16).exploration_noise.color == 0.5
    model.exploration_noise_color = 0.0
    assert model.learn(16).exploration_noise is None


# Off ------------------------------------------------------------------------------------------------------------------


def test_color_zero_is_sb3_bit_for_bit() -> None:
    setting = SETTINGS["box"]
    assert_same_run(train(ClipPPO, setting, exploration_noise_color=0.0), train(PPO, setting))


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_off_does_nothing(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "colorednoise", None)  # an import of it fails
    model = make(engine=engine, exploration_noise_color=0.0, learning_rate=1e-3)
    hooks: list[int] = []
    model.learn(32, callback=lambda *_: hooks.append(len(model.policy._forward_pre_hooks)) or True)
    assert set(hooks) == {0}
    plain = ClipPPO("MlpPolicy", make_env(VECTOR, BOX, n_envs=2), **SMALL, engine=engine, learning_rate=1e-3).learn(32)
    assert all(map(th.equal, model.policy.parameters(), plain.policy.parameters()))
    with pytest.raises(ImportError):
        make(engine=engine).learn(16)


# Refused --------------------------------------------------------------------------------------------------------------

REFUSED = [
    (ClipPPO, DISCRETE, {}, "Discrete"),
    (ClipPPO, BOX, {"use_sde": True}, "use_sde=True"),
    (ClipPPO, BOX, {"use_sde": True, "policy_kwargs": {"squash_output": True}}, "use_sde=True"),
    (RecurrentClipPPO, DISCRETE, {}, "Discrete"),
]


@pytest.mark.parametrize(("cls", "actions", "kwargs", "named"), REFUSED)
def test_what_cannot_draw_it_is_refused_wherever_it_arrives(cls: Any, actions: Any, kwargs: Any, named: str) -> None:
    def build(**more: Any) -> Any:
        return cls("MlpPolicy", make_env(VECTOR, actions), **(SMALL | kwargs | more))

    match = f"exploration_noise_color=0.5.*{named}"
    with pytest.raises(ValueError, match=match):
        build(exploration_noise_color=0.5)
    model = build()
    with pytest.raises(ValueError, match=match):
        cls.load(saved(model), env=make_env(VECTOR, actions), exploration_noise_color=0.5)
    model.exploration_noise_color = 0.5
    with pytest.raises(ValueError, match=match):
        model.learn(8)
    assert model.num_timesteps == 0


def test_masked_forms_refuse_it() -> None:
    env = make_env(VECTOR, DISCRETE, env_class=MaskedSpaceEnv)
    with pytest.raises(ValueError, match=r"exploration_noise_color=0.5.*Discrete"):
        MaskableClipPPO("MlpPolicy", env, exploration_noise_color=0.5, **SMALL)


def test_a_distribution_that_draws_in_its_own_way_is_refused() -> None:
    model = make(exploration_noise_color=0.0)

    class Own(type(model.policy.action_dist)):
        def sample(self) -> th.Tensor:
            return self.distribution.mean

    model.policy.action_dist.__class__ = Own
    model.exploration_noise_color = 0.5
    with pytest.raises(ValueError, match=r"exploration_noise_color=0.5.*Own"):
        model.learn(16)


@pytest.mark.parametrize("color", [-0.1, 2.1, float("nan"), None, "pink", True])
def test_other_colors_are_refused(color: Any) -> None:
    with pytest.raises(ValueError, match="exploration_noise_color="):
        make(exploration_noise_color=color)
