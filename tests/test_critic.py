"""A critic of its own, and advantages that are computed again: what they are, and that they are nothing when off."""

import io
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import ARRAY_ENGINES, mostly_slow
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_ppo_variants import (
    AdaptiveLRPPO,
    ClipPPO,
    KLStopPPO,
    MaskableClipPPO,
    MaskableRecurrentClipPPO,
    NonFiniteUpdateError,
    RecurrentClipPPO,
    TrustRegionPPO,
)
from sb3_ppo_variants.testing import BOX, DISCRETE, IMAGE, VECTOR, make_env
from sb3_ppo_variants.training.update_loop import UpdateLoop

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 3, "device": "cpu"}
OWN: dict[str, Any] = {"critic_epochs": 3, "critic_batch_size": 32, "critic_learning_rate": 1e-3}
ENGINES = ("torch", *ARRAY_ENGINES)


def make(cls: Any = ClipPPO, n_envs: int = 2, actions: spaces.Space[Any] = BOX, **kwargs: Any) -> Any:
    return cls("MlpPolicy", make_env(VECTOR, actions, n_envs=n_envs), **(SMALL | kwargs))


def of(model: Any, part: str) -> list[th.Tensor]:
    """The parameters of the actor or of the critic."""
    words = {"actor": ("policy_net", "action_net", "log_std"), "critic": ("value_net",)}[part]
    return [p.detach().clone() for name, p in model.policy.named_parameters() if any(word in name for word in words)]


def equal(a: list[th.Tensor], b: list[th.Tensor]) -> bool:
    return all(th.equal(x, y) for x, y in zip(a, b, strict=True))


def one_update(model: Any) -> Any:
    return model.learn(model.n_steps * model.n_envs)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_actor_does_not_feel_how_its_critic_is_trained(engine: str) -> None:
    """In the first update; afterwards other values give other advantages."""
    settings = ({}, {"critic_epochs": 1}, {"critic_max_grad_norm": 0.01}, {"critic_gae_lambda": 0.1})
    models = [one_update(make(engine=engine, **(OWN | other))) for other in settings]
    assert all(equal(of(models[0], "actor"), of(model, "actor")) for model in models[1:])
    assert not any(equal(of(models[0], "critic"), of(model, "critic")) for model in models[1:])
    joint = one_update(make(engine=engine))
    assert not equal(of(models[0], "actor"), of(joint, "actor"))  # its norm is clipped without the critic's part


@pytest.mark.parametrize("engine", ENGINES)
def test_the_critic_s_passes_are_adam_on_the_squared_error_of_its_targets(engine: str) -> None:
    rates = {"critic_learning_rate": 2e-3, "critic_batch_size": 64, "critic_max_grad_norm": float("inf")}
    model = make(engine=engine, critic_epochs=4, **rates)
    before = of(model, "critic")
    one_update(model)
    buffer, reference = model.rollout_buffer, make(seed=4)
    critic = [p for name, p in reference.policy.named_parameters() if "value_net" in name]
    for parameter, value in zip(critic, before, strict=True):
        parameter.data.copy_(value)
    optimizer = th.optim.Adam(critic, lr=2e-3, eps=1e-5)
    observations, returns = th.from_numpy(buffer.observations), th.from_numpy(buffer.returns.flatten())
    for _ in range(4):  # one minibatch of the whole rollout: its order does not matter
        loss = th.nn.functional.mse_loss(reference.policy.predict_values(observations).flatten(), returns)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for ours, theirs in zip(of(model, "critic"), critic, strict=True):
        assert th.allclose(ours, theirs, atol=1e-6)
    assert model.logger.name_to_value["train/value_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert model.logger.name_to_value["train/critic_learning_rate"] == 2e-3
    values = reference.policy.predict_values(observations).detach().flatten().numpy()
    expected = 1 - np.var(buffer.returns.flatten() - values) / np.var(buffer.returns.flatten())
    assert model.logger.name_to_value["train/explained_variance_after"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        OWN,
        OWN | {"critic_first": True, "recompute_advantages": "epoch", "clip_range_vf": 0.2},
        {"recompute_advantages": "epoch"},
        OWN | {"critic_gae_lambda": 0.5, "critic_batch_size": 24},  # the last minibatch is shorter
    ],
    ids=", ".join,
)
@pytest.mark.parametrize("cls", mostly_slow([ClipPPO, TrustRegionPPO], [TrustRegionPPO]))
@pytest.mark.parametrize("engine", ARRAY_ENGINES)
def test_the_engines_agree(engine: str, cls: Any, options: dict[str, Any]) -> None:
    models = [one_update(make(cls, engine=name, **options)) for name in ("torch", engine)]
    for a, b in zip(*(model.policy.parameters() for model in models), strict=True):
        assert th.allclose(a, b, atol=2e-6)
    logs = [model.logger.name_to_value for model in models]
    assert logs[0].keys() == logs[1].keys()
    for key in ("train/value_loss", "train/explained_variance", "train/loss", "train/policy_gradient_loss"):
        assert logs[0][key] == pytest.approx(logs[1][key], abs=1e-4), key


@pytest.mark.parametrize("engine", ENGINES)
def test_targets_of_another_lambda_are_those_of_sb3s_buffer(engine: str) -> None:
    seen: list[th.Tensor] = []

    class Spy(ClipPPO):
        def _value_loss(self, batch: Any) -> th.Tensor:
            seen.append(batch.returns.clone())
            return super()._value_loss(batch)

        def _value_loss_slope(self, values: Any, old_values: Any, returns: Any, clip_range_vf: Any) -> Any:
            seen.append(th.from_numpy(returns.copy()))
            return super()._value_loss_slope(values, old_values, returns, clip_range_vf)

    own_lambda = {"critic_epochs": 1, "critic_batch_size": 64, "critic_gae_lambda": 0.3}
    model = one_update(make(Spy, engine=engine, **own_lambda))
    other = one_update(make(gae_lambda=0.3))
    expected = th.from_numpy(other.rollout_buffer.returns.flatten())
    assert th.allclose(seen[0].sort().values, expected.sort().values, atol=1e-5)
    assert np.allclose(model.rollout_buffer.returns, one_update(make()).rollout_buffer.returns, atol=1e-6)


class _Counting(gym.Env[np.ndarray, int]):
    """Observations count the steps; each is worth 1; episodes end after seven steps, or are cut off after five."""

    observation_space = spaces.Box(-10.0, 10.0, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self._episode = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._steps = 0
        self._episode += 1
        return np.array([0.0, self._episode], np.float32), {}

    def step(self, action: int) -> Any:
        self._steps += 1
        observation = np.array([self._steps, self._episode], np.float32)
        return observation, 1.0, self._steps == 7, self._episode % 2 == 0 and self._steps == 5, {}


@pytest.mark.parametrize("engine", ENGINES)
def test_advantages_of_an_epoch_are_those_of_the_critic_of_that_moment(engine: str) -> None:
    epochs: list[tuple[np.ndarray, np.ndarray]] = []

    class Spy(ClipPPO):
        def _should_stop(self, point: Any, stats: Any) -> str | None:
            if point == "before_step" and stats.step == 0:
                order = self.rollout_buffer.swap_and_flatten
                flat = [self.rollout_buffer.advantages, self.rollout_buffer.returns]
                if not self.rollout_buffer.generator_ready:
                    flat = [order(array) for array in flat]
                epochs.append((flat[0].flatten(), self._advantages_with_the_critic_of_now()))
            return super()._should_stop(point, stats)

        def _advantages_with_the_critic_of_now(self) -> np.ndarray:
            buffer, policy = self.rollout_buffer, self.policy
            again = RolloutBuffer(20, self.observation_space, self.action_space, "cpu", 0.95, 0.99, n_envs=2)
            observations = buffer.observations.reshape(2, 20, 2).swapaxes(0, 1)
            for step in range(20):
                with th.no_grad():
                    values = policy.predict_values(th.from_numpy(observations[step]))
                    rewards = np.ones(2, np.float32)
                    for env in range(2):
                        episode, steps = int(observations[step, env, 1]), int(observations[step, env, 0])
                        if episode % 2 == 0 and steps == 4:  # the step that reaches 5
                            terminal = th.tensor([[5.0, float(episode)]])
                            rewards[env] += 0.99 * policy.predict_values(terminal).item()
                starts = buffer.episode_starts[step]
                again.add(observations[step], np.zeros((2, 1)), rewards, starts, values.flatten(), th.zeros(2))
            with th.no_grad():
                last = policy.predict_values(th.from_numpy(self._last_obs))
            again.compute_returns_and_advantage(last, self._last_episode_starts)
            return again.swap_and_flatten(again.advantages).flatten()

    env = DummyVecEnv([_Counting, _Counting])
    settings = SMALL | {"n_steps": 20, "batch_size": 10, "n_epochs": 4, "learning_rate": 1e-2}
    model = Spy("MlpPolicy", env, engine=engine, recompute_advantages="epoch", **settings)
    rollout = model.learn(40).rollout_buffer
    assert len(epochs) == 4
    for used, expected in epochs:
        assert np.allclose(used, expected, atol=1e-4)
    assert not np.allclose(epochs[0][0], epochs[3][0], atol=1e-2)
    assert np.allclose(rollout.advantages.flatten(), epochs[0][0], atol=1e-6)  # the buffer keeps the rollout's own


@pytest.mark.parametrize("engine", ENGINES)
def test_one_epoch_has_nothing_to_compute_again(engine: str) -> None:
    plain, again = (make(engine=engine, n_epochs=1, recompute_advantages=how).learn(192) for how in ("never", "epoch"))
    assert equal(list(plain.policy.parameters()), list(again.policy.parameters()))


def test_a_critic_that_goes_first_gives_the_first_epoch_its_advantages() -> None:
    stale, fresh = (
        one_update(make(n_epochs=1, critic_first=True, recompute_advantages=how, **OWN)) for how in ("never", "epoch")
    )
    assert equal(of(stale, "critic"), of(fresh, "critic"))
    assert not equal(of(stale, "actor"), of(fresh, "actor"))


@pytest.mark.parametrize("stop_critic", [True, False], ids=["stop_critic", "go_on"])
@pytest.mark.parametrize("engine", ENGINES)
def test_an_early_stop_ends_the_actor_only(engine: str, stop_critic: bool) -> None:
    stopped = one_update(make(KLStopPPO, engine=engine, max_kl=1e-9, n_epochs=5, stop_critic=stop_critic, **OWN))
    logs = stopped.logger.name_to_value
    assert (logs["train/actor_epochs"], logs["train/critic_epochs"], logs["train/epochs"]) == (1, 3, 1)
    untouched = one_update(make(engine=engine, n_epochs=5, **OWN))
    assert not equal(of(stopped, "critic"), of(make(), "critic"))
    assert untouched.logger.name_to_value["train/actor_epochs"] == 5


@pytest.mark.parametrize("cls", [TrustRegionPPO, ClipPPO])
def test_the_critic_may_go_on_after_any_stop(cls: Any) -> None:
    limit = {"target_kl": 1e-9} if cls is ClipPPO else {"max_kl": 1e-9}
    ends, goes_on = (one_update(make(cls, stop_critic=stops, n_epochs=4, **limit)) for stops in (True, False))
    assert equal(of(ends, "actor"), of(goes_on, "actor"))
    assert not equal(of(ends, "critic"), of(goes_on, "critic"))
    assert ends.logger.name_to_value["train/critic_epochs"] == 1
    assert goes_on.logger.name_to_value["train/critic_epochs"] == 4
    assert goes_on.logger.name_to_value["train/actor_epochs"] == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_saved_moments_go_on(engine: str) -> None:
    """Loaded and set parameters train on as the original does, its critic's moments included."""
    model = make(engine=engine, **OWN).learn(128)
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    loaded = ClipPPO.load(file, env=make_env(VECTOR, BOX, n_envs=2), device="cpu")
    given = make(engine=engine, **OWN)
    given.set_parameters(model.get_parameters())
    for other in (loaded, given):
        moments, theirs = (m.critic_optimizer.state_dict()["state"] for m in (model, other))
        assert moments.keys() == theirs.keys()
        for key, state in moments.items():
            assert all(th.equal(th.as_tensor(state[name]), th.as_tensor(theirs[key][name])) for name in state)
        assert float(theirs[0]["step"]) == 12  # two rollouts, three passes, two minibatches
        assert one_update(other) is other


def test_files_with_and_without_a_critic_of_its_own_are_read_either_way() -> None:
    plain, own, env = make().learn(64), make(**OWN).learn(64), make_env(VECTOR, BOX, n_envs=2)
    files = []
    for model in (plain, own, PPO("MlpPolicy", env, **SMALL).learn(64)):
        files.append(io.BytesIO())
        model.save(files[-1])
        files[-1].seek(0)
    for file in (files[0], files[2]):
        assert ClipPPO.load(file, env=env, device="cpu", **OWN).learn(64).critic_optimizer is not None
    joint = ClipPPO.load(files[1], env=env, device="cpu", **dict.fromkeys(OWN)).learn(64)
    assert joint.critic_optimizer is None


def test_the_rate_follows_its_schedule_or_the_actor_s() -> None:
    falling = make(critic_epochs=1, critic_learning_rate=lambda progress: 1e-2 * (1 + progress)).learn(128)
    assert falling.logger.name_to_value["train/critic_learning_rate"] == pytest.approx(1e-2)  # at the end
    adaptive = make(AdaptiveLRPPO, critic_epochs=1, desired_kl=1e-9, learning_rate=1e-3).learn(128)
    assert adaptive.logger.name_to_value["train/critic_learning_rate"] == adaptive.adapted_learning_rate


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"critic_epochs": 0}, "critic_epochs=0"),
        ({"critic_epochs": 1.5}, "critic_epochs=1.5"),
        ({"critic_learning_rate": 1e-3}, "critic_learning_rate=0.001 .* critic_epochs"),
        ({"critic_batch_size": 64}, "critic_batch_size=64 .* critic_epochs"),
        ({"critic_first": True}, "critic_first=True .* critic_epochs"),
        ({"critic_epochs": 1, "critic_batch_size": 0}, "critic_batch_size=0"),
        ({"critic_epochs": 1, "critic_gae_lambda": 1.1}, "critic_gae_lambda=1.1"),
        ({"critic_epochs": 1, "critic_max_grad_norm": 0}, "critic_max_grad_norm=0"),
        ({"critic_epochs": 1, "critic_learning_rate": -1.0}, "critic_learning_rate=-1.0"),
        ({"recompute_advantages": True}, "recompute_advantages=True"),
        ({"stop_critic": None}, "stop_critic=None"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ClipPPO("MlpPolicy", "no environment is made before the check", **options)
    file = io.BytesIO()
    make().save(file)
    file.seek(0)
    with pytest.raises(ValueError, match=named):
        ClipPPO.load(file, **options)


@pytest.mark.parametrize("options", [{"critic_epochs": 1}, {"stop_critic": False}])
def test_shared_parameters_are_refused_with_the_remedy(options: dict[str, Any]) -> None:
    arguments = {"n_steps": 16, "batch_size": 16, "device": "cpu", **options}
    with pytest.raises(ValueError, match="share_features_extractor=False"):
        ClipPPO("CnnPolicy", make_env(IMAGE, BOX), **arguments)
    separate = {"share_features_extractor": False}
    ClipPPO("CnnPolicy", make_env(IMAGE, BOX), policy_kwargs=separate, **arguments).learn(16)


@pytest.mark.parametrize(
    "cls", mostly_slow([MaskableClipPPO, RecurrentClipPPO, MaskableRecurrentClipPPO], [MaskableRecurrentClipPPO])
)
def test_the_forms_have_a_critic_of_its_own_too(cls: Any) -> None:
    env = make_vec_env(_Masked, 2, seed=0)
    others = ({}, {"critic_epochs": 1})
    models = [one_update(cls("MlpPolicy", env, **(SMALL | OWN | other))) for other in others]
    for model in models:
        assert "train/explained_variance_after" in model.logger.name_to_value
    differing = [
        name
        for (name, a), (_, b) in zip(*(m.policy.named_parameters() for m in models), strict=True)
        if not th.equal(a, b)
    ]
    assert differing
    assert all("value_net" in name or "critic" in name for name in differing)


class _Masked(gym.Env[np.ndarray, int]):
    observation_space, action_space = VECTOR, DISCRETE

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.np_random.random(4, np.float32), {}

    def step(self, action: int) -> Any:
        return self.np_random.random(4, np.float32), float(action), bool(self.np_random.random() < 0.2), False, {}

    def action_masks(self) -> np.ndarray:
        return np.array([True, False, True])


def test_with_memory_advantages_cannot_be_computed_again() -> None:
    with pytest.raises(ValueError, match="recompute_advantages='epoch'"):
        RecurrentClipPPO("MlpPolicy", make_env(VECTOR, DISCRETE), recompute_advantages="epoch", device="cpu")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_critic_that_is_not_finite_is_reported_before_it_moves(engine: str) -> None:
    class Broken(ClipPPO):
        def _value_loss(self, batch: Any) -> th.Tensor:
            return super()._value_loss(batch) * float("nan")

        def _value_loss_slope(self, *arguments: Any) -> Any:
            return super()._value_loss_slope(*arguments) * float("nan")

    model = make(Broken, engine=engine, **OWN)
    before = of(model, "critic")
    with pytest.raises(NonFiniteUpdateError, match=r"gradient|loss"):
        one_update(model)
    assert equal(before, of(model, "critic"))
    assert isinstance(model, UpdateLoop)
