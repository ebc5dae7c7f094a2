"""The search space: shared ranges in one place, entries that always make sense, defaults that survive."""

import math

import optuna
import pytest
from helpers import mostly_slow
from hypothesis import given, settings
from hypothesis import strategies as st
from sb3_ppo_variants.tuning.decisions.proposals import Proposal, distributions, propose

from sb3_ppo_variants import SPO
from sb3_ppo_variants.experiment import Experiment, registered_entry
from sb3_ppo_variants.registry import ALGORITHMS
from sb3_ppo_variants.search_space import FloatRange, IntRange
from sb3_ppo_variants.tuning_space import SHARED, TuningSpace

PAIRS = [(algorithm, env_id) for algorithm in ALGORITHMS for env_id in ("CartPole-v1", "Pendulum-v1", "LunarLander-v3")]


CRITIC = ("own_critic", "critic_epochs", "critic_learning_rate")


def sample(space: TuningSpace, seed: int) -> dict[str, object]:
    return propose(space.parameters, [], sampler="random", seed=seed)


@given(seed=st.integers(0, 2**32 - 1), pair=st.sampled_from(PAIRS), steps=st.sampled_from([20_000, 98_304, 10**6]))
@settings(max_examples=60, deadline=None)
def test_every_sampled_entry_is_a_valid_experiment_that_divides_and_fits(seed, pair, steps) -> None:
    space = TuningSpace.of(*pair, steps)
    entry = space.entry(sample(space, seed))
    Experiment(*pair, entry)
    rollout = entry["n_steps"] * entry.get("n_envs", 1)
    assert rollout % entry["batch_size"] == 0
    assert entry["batch_size"] >= 2
    assert 4 * rollout <= steps
    assert entry["n_timesteps"] == steps


@pytest.mark.parametrize("n_envs", [1, 3, 10, 16, 100])
def test_batches_divide_whatever_the_number_of_environments(n_envs: int) -> None:
    space = TuningSpace.of("ppo", "CartPole-v1", 50_000)
    space = TuningSpace(space.algorithm, {**space.default, "n_envs": n_envs}, 50_000)
    for seed in range(30):
        entry = space.entry(sample(space, seed))
        assert entry["n_steps"] * n_envs % entry["batch_size"] == 0
        assert entry["batch_size"] >= 2


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_shared_ranges_are_the_same_for_every_algorithm(algorithm: str) -> None:
    parameters = TuningSpace.of(algorithm, "CartPole-v1", 10**6).parameters
    shared = {name: parameter for name, parameter in parameters.items() if name in SHARED}
    missing = set(SHARED) - set(shared)
    left_out = {
        "ppo": {*CRITIC}, "trpo": {"n_epochs", "ent_coef", *CRITIC}, "adaptive_lr_ppo": {"learning_rate_schedule"},
    }  # fmt: skip
    assert missing == left_out.get(algorithm, set())
    assert shared == {name: SHARED[name] for name in shared}
    own = ALGORITHMS[algorithm].own_search_space
    assert {name: parameters[name] for name in own} == dict(own)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_registered_configuration_is_a_point_of_the_space(pair: tuple[str, str]) -> None:
    space = TuningSpace.of(*pair, 10**6)
    point = space.default_params
    assert list(point) == list(space.parameters)
    for name, parameter in space.parameters.items():
        if isinstance(parameter, FloatRange | IntRange):
            assert parameter.low <= point[name] <= parameter.high
        else:
            assert point[name] in parameter.options
    optuna.trial.create_trial(params=point, distributions=distributions(space.parameters), value=0.0)


def test_the_nearest_point_of_a_registered_configuration_says_the_same_where_it_can() -> None:
    space = TuningSpace.of("ppo", "Pendulum-v1", 10**6)
    registered, nearest = registered_entry("ppo", "Pendulum-v1"), space.entry(space.default_params)
    for name in ("n_envs", "n_steps", "gae_lambda", "n_epochs", "learning_rate"):
        assert nearest[name] == registered[name]
    assert nearest["batch_size"] == 64, "SB3's, which the entry does not name"
    assert nearest["gamma"] == pytest.approx(registered["gamma"])
    assert nearest["clip_range"] == 0.2


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_an_entry_leads_back_to_its_point(seed: int) -> None:
    space = TuningSpace.of("ppo", "CartPole-v1", 10**6)
    point = sample(space, seed)
    point["log2_batch_size"] = min(point["log2_batch_size"], point["log2_rollout_size"])
    again = TuningSpace(space.algorithm, space.entry(point), 10**6).default_params
    assert again == pytest.approx(point)


def test_nobody_may_train_a_critic_in_a_range_that_another_lacks() -> None:
    trpo = TuningSpace.of("trpo", "CartPole-v1", 10**6).parameters
    assert SHARED["critic_epochs"] == trpo["n_critic_updates"]
    assert SHARED["critic_learning_rate"] == trpo["learning_rate"]


def test_a_critic_is_joint_or_has_passes_and_a_rate_of_its_own() -> None:
    space = TuningSpace.of("spo", "Acrobot-v1", 10**6)
    point = {**sample(space, 0), "critic_epochs": 9, "critic_learning_rate": 0.002}
    joint = space.entry({**point, "own_critic": False})
    assert not [key for key in joint if key.startswith("critic")], "an entry says nothing of what is SB3's"
    own = space.entry({**point, "own_critic": True})
    assert own == {**joint, "critic_epochs": 9, "critic_learning_rate": 0.002}
    assert space.default_params["own_critic"] is False
    again = TuningSpace(space.algorithm, own, 10**6).default_params
    assert {name: again[name] for name in CRITIC} == {
        "own_critic": True, "critic_epochs": 9, "critic_learning_rate": 0.002,
    }  # fmt: skip


def test_a_joint_critic_takes_back_what_a_registered_one_of_its_own_needed() -> None:
    space = TuningSpace.of("spo", "CartPole-v1", 10**6)
    registered = {**space.default, "critic_epochs": 9, "critic_first": True, "critic_gae_lambda": 1.0}
    space = TuningSpace(space.algorithm, registered, 10**6)
    entry = space.entry({**sample(space, 0), "own_critic": False})
    assert (entry["critic_epochs"], entry["critic_first"], entry["critic_gae_lambda"]) == (None, False, None)
    SPO("MlpPolicy", "CartPole-v1", **{key: value for key, value in entry.items() if key.startswith("critic")})


@pytest.mark.parametrize(
    ("fixed", "searched"),
    [
        ({"critic_epochs": 4}, ["critic_learning_rate"]),
        ({"critic_epochs": None}, []),
        ({"critic_epochs": 4, "critic_learning_rate": 0.1}, []),
        ({"policy": "CnnPolicy"}, []),
        ({"policy": "CnnPolicy", "policy_kwargs": {"share_features_extractor": False}}, [*CRITIC]),
        ({"policy_kwargs": {"shared_lstm": True}}, []),
        ({"policy_kwargs": {"features_extractor_class": object}}, []),
    ],
)
def test_a_critic_is_searched_where_it_is_not_given_and_can_stand_apart(fixed: dict, searched: list[str]) -> None:
    space = TuningSpace.of("spo", "CartPole-v1", 10**6)
    space = TuningSpace(space.algorithm, {**space.default, **fixed}, 10**6, fixed)
    assert [name for name in space.parameters if name in CRITIC] == searched


def test_a_space_says_how_the_critic_is_trained() -> None:
    def critic(algorithm: str, **fixed: object) -> str:
        return TuningSpace.of(algorithm, "CartPole-v1", 10**6, fixed).critic

    assert critic("spo") == "joint or own, tuned"
    assert critic("spo", critic_epochs=None) == "joint"
    assert critic("spo", critic_epochs=3) == critic("trpo") == "own"
    assert critic("ppo") == "joint"


def test_sampled_values_keep_what_the_registered_entry_says_besides() -> None:
    space = TuningSpace.of("ppo", "Pendulum-v1", 100_000)
    default = {**space.default, "policy_kwargs": {"log_std_init": -2}, "normalize": {"norm_reward": False}}
    space = TuningSpace(space.algorithm, default, 100_000)
    entry = space.entry({**sample(space, 0), "normalize": True, "log2_net_width": 7, "activation_fn": "relu"})
    assert entry["use_sde"] is True
    assert entry["policy_kwargs"] == {
        "log_std_init": -2,
        "net_arch": {"pi": [128, 128], "vf": [128, 128]},
        "activation_fn": "relu",
    }
    assert entry["normalize"] == {"norm_reward": False}
    assert space.entry({**sample(space, 0), "normalize": False})["normalize"] is False


def test_rollouts_leave_room_for_updates_when_steps_are_few() -> None:
    parameters = TuningSpace.of("ppo", "CartPole-v1", 2000).parameters
    largest = parameters["log2_rollout_size"]
    assert isinstance(largest, IntRange)
    assert largest.high == int(math.log2(500))


def test_a_budget_below_one_registered_rollout_is_refused() -> None:
    with pytest.raises(ValueError, match=r"LunarLander-v3: steps is 4096, but one rollout .* takes 16384"):
        TuningSpace.of("ppo", "LunarLander-v3", 4096)


@pytest.mark.parametrize("sampler", mostly_slow(["tpe", "gp", "random"], ["tpe", "random"]))
def test_a_proposal_depends_on_the_seed_and_the_trials_before_it_alone(sampler: str) -> None:
    space = TuningSpace.of("trpo", "CartPole-v1", 50_000).parameters
    trials = [Proposal(sample_params, number / 12) for number, sample_params in enumerate(_random_points(space, 12))]
    pending = [Proposal(point) for point in _random_points(space, 3)]
    first = propose(space, [*trials, *pending], sampler=sampler, seed=1)
    assert propose(space, [*trials, *pending], sampler=sampler, seed=1) == first
    assert propose(space, [*trials, *pending], sampler=sampler, seed=2) != first
    assert list(first) == list(space)


def test_tpe_learns_from_earlier_trials() -> None:
    """Half of the trials say that a high gae_lambda is best: proposals follow."""
    space = {"gae_lambda": FloatRange(0.0, 1.0)}
    trials = [Proposal({"gae_lambda": n / 40}, n / 40) for n in range(40)]
    proposals = [propose(space, trials, sampler="tpe", seed=seed)["gae_lambda"] for seed in range(10)]
    assert sum(proposals) / 10 > 0.75


def _random_points(space, number):
    return [propose(space, [], sampler="random", seed=100 + index) for index in range(number)]
