"""Actor and critic that see different keys of Dict observations, in every form."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ppo_variants import ClipPPO, MaskableClipPPO, MaskableRecurrentClipPPO, RecurrentClipPPO
from sb3_ppo_variants.evaluation import evaluate_policy
from sb3_ppo_variants.testing import BOX, DISCRETE, VECTOR, MaskedSpaceEnv, SpaceEnv, make_env

SEEN = spaces.Dict(
    {
        "camera": spaces.Box(-1, 1, (3,), np.float32),
        "kind": spaces.Discrete(3),
        "state": spaces.Box(-1, 1, (2, 3), np.float32),
    }
)
SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}
KEYS = {"actor_keys": ["camera"], "critic_keys": ["state", "kind"]}
FORMS = [ClipPPO, MaskableClipPPO, RecurrentClipPPO, MaskableRecurrentClipPPO]


def env_of(cls: Any, actions: spaces.Space[Any] = DISCRETE) -> Any:
    return make_env(SEEN, actions, n_envs=2, env_class=MaskedSpaceEnv if "Maskable" in cls.__name__ else SpaceEnv)


def make(cls: Any = ClipPPO, env: Any = None, policy_kwargs: Any = None, **kwargs: Any) -> Any:
    small = {"net_arch": [8], **({"lstm_hidden_size": 4} if "Recurrent" in cls.__name__ else {})}
    policy_kwargs = small | (KEYS if policy_kwargs is None else policy_kwargs)
    return cls("MultiInputPolicy", env or env_of(cls), policy_kwargs=policy_kwargs, **(SMALL | kwargs))


def observation(n: int = 2) -> dict[str, th.Tensor]:
    rng = np.random.default_rng(0)
    return {
        "camera": th.as_tensor(rng.normal(size=(n, 3)), dtype=th.float32),
        "kind": th.as_tensor(rng.integers(3, size=n)),
        "state": th.as_tensor(rng.normal(size=(n, 2, 3)), dtype=th.float32),
    }


def gradients(model: Any, of: str) -> dict[str, Any]:
    """Return the gradient of the actor's or the critic's outputs by each part of an observation that has one."""
    seen = {key: part[:1] for key, part in observation().items()}
    leaves = {key: part.requires_grad_() for key, part in seen.items() if part.is_floating_point()}
    if of == "critic":
        output = model.policy.predict_values(seen, **model._no_memory()).sum()
    else:
        output = model._distribution_of(model.policy, seen).log_prob(th.ones(1)).sum()
    found = th.autograd.grad(output, list(leaves.values()), allow_unused=True)
    return {key: gradient for key, gradient in zip(leaves, found, strict=True) if gradient is not None}


@pytest.mark.parametrize("cls", FORMS)
def test_each_sees_its_keys_and_no_others(cls: Any) -> None:
    model = make(cls)
    assert {key for key, gradient in gradients(model, "actor").items() if gradient.any()} == {"camera"}
    assert {key for key, gradient in gradients(model, "critic").items() if gradient.any()} == {"state"}
    everything = make(cls, policy_kwargs={"actor_keys": ["camera"]})
    assert everything.policy.critic_keys == ("camera", "kind", "state")
    assert gradients(everything, "actor").keys() == {"camera"}
    assert gradients(everything, "critic").keys() == {"camera", "state"}


@pytest.mark.parametrize("cls", FORMS)
def test_updates_of_the_actor_do_not_depend_on_what_only_the_critic_sees(cls: Any) -> None:
    """What the critic is shown changes the advantages alone, and those are replaced here."""

    def update(scale: float) -> tuple[list[th.Tensor], list[th.Tensor]]:
        model = make(cls, critic_epochs=1)
        begin = model.rollout_buffer.compute_returns_and_advantage

        def compute(*arguments: Any, **keywords: Any) -> None:
            begin(*arguments, **keywords)
            model.rollout_buffer.observations["state"] *= scale
            model.rollout_buffer.advantages = np.sin(np.arange(32, dtype=np.float32)).reshape(16, 2)

        model.rollout_buffer.compute_returns_and_advantage = compute
        model.learn(32)
        critic = {id(parameter): parameter.detach() for parameter in model._critic_parameters()}
        return [p.detach() for p in model.policy.parameters() if id(p) not in critic], [*critic.values()]

    (actor, critic), (same_actor, other_critic) = update(1.0), update(3.0)
    assert all(map(th.equal, actor, same_actor))
    assert not all(map(th.equal, critic, other_critic))


@pytest.mark.parametrize("cls", FORMS)
@pytest.mark.parametrize("deterministic", [True, False])
def test_predict_needs_the_actor_s_keys_alone(cls: Any, deterministic: bool) -> None:
    model = make(cls)
    whole = {key: part.numpy() for key, part in observation(7).items()}
    actions = []
    for given in (whole, {"camera": whole["camera"]}):
        th.manual_seed(0)
        actions.append(model.predict(given, deterministic=deterministic)[0])
    assert np.array_equal(*actions)
    assert actions[0].shape == (7,)
    single, _ = model.predict({"camera": whole["camera"][0]}, deterministic=True)
    assert single.shape == ()
    with pytest.raises(ValueError, match=r"the actor sees \['camera'\]"):
        model.predict({"state": whole["state"]})


@pytest.mark.parametrize(
    ("cls", "critic"), list(zip(FORMS, [{}, {"critic_epochs": 2}, {}, {"critic_epochs": 2}], strict=True))
)
def test_both_learn_and_files_bring_them_back(cls: Any, critic: dict[str, Any]) -> None:
    model = make(cls, **critic)
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(64)
    assert not any(map(th.equal, before, model.policy.parameters()))
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    loaded = cls.load(file, env=env_of(cls), device="cpu")
    assert all(map(th.equal, loaded.policy.parameters(), model.policy.parameters()))
    assert loaded.policy.actor_keys == ("camera",)
    assert loaded.policy.critic_keys == ("kind", "state")
    loaded.learn(32)
    evaluate_policy(loaded, env_of(cls), n_eval_episodes=1)


def test_a_policy_s_own_file_brings_it_back(tmp_path: Path) -> None:
    policy = make().policy
    policy.save(tmp_path / "policy.pt")
    loaded = type(policy).load(tmp_path / "policy.pt", device="cpu")
    assert (loaded.actor_keys, loaded.critic_keys) == (policy.actor_keys, policy.critic_keys)
    seen = {"camera": np.ones(3, np.float32)}
    assert loaded.predict(seen, deterministic=True)[0] == policy.predict(seen, deterministic=True)[0]


def test_with_vec_normalize() -> None:
    env = VecNormalize(make_env(SEEN, BOX, n_envs=2), norm_obs_keys=["camera", "state"])
    model = make(env=env, engine="auto").learn(64)
    raw = {"camera": np.full((1, 3), 0.5, np.float32)}
    env.norm_obs_keys = ["camera"]
    normalised = env.normalize_obs(raw)
    assert not np.array_equal(normalised["camera"], raw["camera"])
    assert model.predict(normalised, deterministic=True)[0].shape == (1, 2)


class Everything(BaseFeaturesExtractor):
    """Takes whatever it is given."""

    def __init__(self, space: spaces.Dict) -> None:
        super().__init__(space, features_dim=sum(spaces.flatdim(part) for part in space.spaces.values()))

    def forward(self, observations: dict[str, th.Tensor]) -> th.Tensor:
        return th.cat([part.flatten(1) for part in observations.values()], dim=1)


@pytest.mark.parametrize("net_arch", [[], {"pi": [8], "vf": [4, 4]}])
def test_extractors_and_networks_of_a_user_s_own(net_arch: Any) -> None:
    own = {"features_extractor_class": Everything, "net_arch": net_arch, "actor_keys": ["camera"]}
    model = make(policy_kwargs=own).learn(32)
    assert gradients(model, "actor").keys() == {"camera"}
    assert gradients(model, "critic").keys() == {"camera", "state"}


def test_a_critic_without_an_lstm() -> None:
    model = make(RecurrentClipPPO, policy_kwargs=KEYS | {"enable_critic_lstm": False}).learn(32)
    assert gradients(model, "critic").keys() == {"state"}


def test_actor_and_critic_can_share_what_sees_the_same() -> None:
    same = {"actor_keys": ["camera"], "critic_keys": ("camera",)}
    model = make(policy_kwargs=same | {"share_features_extractor": True}).learn(32)
    assert model.policy.vf_features_extractor is model.policy.pi_features_extractor


def test_without_keys_the_policy_is_sb3_s() -> None:
    assert type(make(policy_kwargs={}).policy) is MultiInputActorCriticPolicy


REFUSED = [
    ({"actor_keys": ["camra"]}, r"actor_keys has no key 'camra'.*did you mean 'camera'"),
    ({"critic_keys": ["xyz"]}, r"critic_keys has no key 'xyz'.*\['camera', 'kind', 'state'\]"),
    ({"actor_keys": "camera"}, "actor_keys='camera'.*list"),
    ({"actor_keys": []}, r"actor_keys=\[\].*at least one"),
    ({"actor_keys": {"camera"}}, "actor_keys={'camera'}.*list"),
    (KEYS | {"share_features_extractor": True}, "differ.*leave share_features_extractor out"),
]


@pytest.mark.parametrize(("policy_kwargs", "match"), REFUSED)
def test_bad_keys_are_refused(policy_kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make(policy_kwargs=policy_kwargs)


def test_a_shared_lstm_is_refused() -> None:
    with pytest.raises(ValueError, match="leave shared_lstm out"):
        make(RecurrentClipPPO, policy_kwargs=KEYS | {"shared_lstm": True, "enable_critic_lstm": False})


def test_other_observations_and_policies_are_refused() -> None:
    with pytest.raises(ValueError, match=r"actor_keys in policy_kwargs.*ActorCriticPolicy is no policy for them"):
        ClipPPO("MlpPolicy", make_env(VECTOR, BOX), policy_kwargs={"actor_keys": ["camera"]}, **SMALL)
    with pytest.raises(ValueError, match=r"reads Dict observations, and these are Box.*use 'MlpPolicy'"):
        ClipPPO("MultiInputPolicy", make_env(VECTOR, BOX), policy_kwargs={"actor_keys": ["camera"]}, **SMALL)
