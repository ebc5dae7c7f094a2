"""optimize: the harness' space on rl_zoo3's optimiser, trials that can be trained again, failures called failures."""

import math
import pickle
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from helpers import mostly_slow
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER, sample_ppo_params
from rl_zoo3.utils import get_saved_hyperparams
from sb3_contrib import TRPO
from stable_baselines3 import PPO
from zoo_helpers import TESTS, command, refusal

from sb3_ppo_variants import SPO, KLStopPPO
from sb3_ppo_variants.entries.constructors import constructor_parameters
from sb3_ppo_variants.registry import ALGORITHMS, FAMILIES, get_algorithm
from sb3_ppo_variants.search_space import FloatRange
from sb3_ppo_variants.tuning_space import SHARED, TuningSpace
from sb3_ppo_variants.zoo import register

# Of rl_zoo3's two kinds of storage the one that is quicker to open; those that differ are tested on both
FILE, DATABASE = "folder/study.log", "sqlite:///study.db"
STORAGE = ["--storage", FILE, "--study-name", "study"]
FEW = ["-n", 64, "--eval-episodes", 1, "--no-optim-plots", "--seed", 1, "--n-evaluations", 1]


def optimize(algo: str, *arguments: object, trials: int = 1, env: str = "CartPole-v1") -> optuna.Study:
    command("optimize", "--algo", algo, "--env", env, *FEW, "--n-trials", trials, *STORAGE, *arguments)
    return stored_study()


def stored_study() -> optuna.Study:
    return optuna.load_study(storage=JournalStorage(JournalFileBackend(FILE)), study_name="study")


def train_trial(algo: str, number: int, *arguments: object, storage: str = FILE) -> Any:
    trial = ["--trial-id", number, "--storage", storage, "--study-name", "study"]
    command("train", "--algo", algo, "--env", "CartPole-v1", "-n", 64, "--eval-freq", -1, *trial, *arguments)
    return get_algorithm(algo).cls.load(f"logs/{algo}/CartPole-v1_1/CartPole-v1.zip")


@pytest.fixture(scope="session")
def spo_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a study of SPO with one trial, which nobody may change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("spo"))
        optimize("spo")
        return Path.cwd()


@pytest.fixture
def spo_study(spo_once: Path) -> None:
    """Put a copy of that study, and of its logs, into the folder of the test."""
    shutil.copytree(spo_once, ".", dirs_exist_ok=True)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the arguments that SPO is built with."""
    calls = []
    original = SPO.__init__

    def init(self: SPO, *arguments: Any, **keywords: Any) -> None:
        if "learning_rate" in keywords and keywords.get("_init_setup_model", True):  # else its options are checked
            calls.append(keywords)
        original(self, *arguments, **keywords)

    monkeypatch.setattr(SPO, "__init__", init)
    return calls


@pytest.mark.parametrize("algo", [*ALGORITHMS, *FAMILIES])
def test_a_trial_is_sampled_from_the_harness_space(algo: str) -> None:
    register()
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    arguments = HYPERPARAMS_SAMPLER[algo](trial, 1, 1, {})
    assert trial.distributions == distributions(algo, steps=2**20)
    assert arguments.keys() <= constructor_parameters(get_algorithm(algo).cls).keys()


def distributions(algo: str, steps: int) -> dict[str, optuna.distributions.BaseDistribution]:
    """Return what the harness samples an algorithm from in a study of CartPole-v1."""
    asked = optuna.create_study().ask()
    for name, parameter in TuningSpace.of(algo, "CartPole-v1", steps).parameters.items():
        parameter.suggest(asked, name)
    return asked.distributions


def test_trials_run_and_are_reported() -> None:
    study = optimize("spo", trials=2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]
    assert all(trial.value >= 8 for trial in study.trials)
    assert study.trials[0].params.keys() == TuningSpace(get_algorithm("spo"), {}, 64).parameters.keys()
    (report,) = Path("logs/spo").glob("report_*.csv")
    assert len(report.read_text().splitlines()) == 3
    with report.with_suffix(".pkl").open("rb") as file:
        assert len(pickle.load(file).trials) == 2  # noqa: S301


@pytest.mark.usefixtures("spo_study")
def test_a_study_is_not_taken_for_a_run() -> None:
    command("train", "--algo", "spo", "--env", "CartPole-v1", "-n", 64, "--eval-freq", -1, "-params", "n_steps:8")
    command("enjoy", "--algo", "spo", "--env", "CartPole-v1", "-f", "logs", "--no-render", "-n", 10)


@pytest.mark.parametrize("algo", mostly_slow(["recurrent_kl_stop_ppo", "trpo"], ["trpo"]))
def test_optimize_searches_what_rank_searches(algo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHARED, "gae_lambda", FloatRange(0.123, 0.124))  # one definition: a change reaches both
    memory = ["policy_kwargs:dict(lstm_hidden_size=8)"] if "recurrent" in algo else []
    study = optimize(algo, "-n", 1024, "-params", "n_envs:2", *memory)
    assert study.trials[0].state.name == "COMPLETE"
    assert study.trials[0].distributions == distributions(algo, steps=1024)
    assert study.trials[0].distributions["gae_lambda"].low == 0.123


def test_what_the_harness_has_no_space_for_keeps_the_zoos() -> None:
    study = optimize("a2c", "-params", "n_envs:1")
    assert study.trials[0].params.keys() >= {"ent_coef", "net_arch"}
    assert "log2_net_width" not in study.trials[0].params


@pytest.mark.parametrize(("algo", "cls"), mostly_slow([("ppo", PPO), ("trpo", TRPO)], [("ppo", PPO)]))
def test_a_trial_of_a_baseline_is_trained_again(algo: str, cls: type) -> None:
    study = optimize(algo, "-params", "n_envs:1")
    model = train_trial(algo, 0, "-params", "n_envs:1", "policy_kwargs:dict(ortho_init=False)")
    params = study.trials[0].params
    assert type(model) is cls
    assert model.gamma == 1 - params["one_minus_gamma"]
    assert model.target_kl == params["target_kl"]
    assert model.n_steps == 2 ** params["log2_rollout_size"]
    assert model.lr_schedule(0.5) == params["learning_rate"] * (
        0.5 if params["learning_rate_schedule"] == "linear" else 1
    )
    assert model.policy_kwargs["activation_fn"].__name__.lower() == params["activation_fn"]
    assert model.policy_kwargs["ortho_init"] is False
    saved, _ = get_saved_hyperparams(f"logs/{algo}/CartPole-v1_1/CartPole-v1")
    assert saved["policy_kwargs"]["activation_fn"] == params["activation_fn"]


def test_a_trial_of_a_study_in_the_zoos_own_space_is_trained_too() -> None:
    study = optuna.create_study(storage=DATABASE, study_name="study")
    study.enqueue_trial({"n_steps_pow": 6, "batch_size_pow": 6, "n_epochs": 1})
    trial = study.ask()
    arguments = sample_ppo_params(trial, 1, 1, {})
    study.tell(trial, 1.0)
    model = train_trial("ppo", 0, "-params", "n_envs:1", storage=DATABASE)
    assert model.n_steps == 64
    assert model.gamma == arguments["gamma"]
    assert model.gae_lambda == arguments["gae_lambda"]
    assert model.policy_kwargs["net_arch"] == arguments["policy_kwargs"]["net_arch"]


@pytest.mark.parametrize("storage", mostly_slow([FILE, DATABASE], [FILE]))
def test_a_study_of_another_algorithm_is_not_gone_on_with(storage: str) -> None:
    place = ["--storage", storage, "--study-name", "study"]
    arguments = ["--env", "CartPole-v1", *FEW, "--n-trials", 1, *place]
    command("optimize", "--algo", "kl_penalty_ppo", *arguments)
    command("optimize", "--algo", "kl_penalty_ppo", *arguments)
    message = refusal("optimize", "--algo", "ppo", *arguments)
    assert "kl_coef" in message
    assert "choose another --study-name" in message


def test_a_trial_of_another_algorithm() -> None:
    optimize("kl_penalty_ppo")
    for algo in ("clip_ppo", "ppo"):
        message = refusal("train", "--algo", algo, "--env", "CartPole-v1", "--trial-id", 0, *STORAGE)
        assert "kl_coef" in message
        assert "another algorithm" in message


def test_the_first_trial_is_trained_again_as_it_was(built: list[dict[str, Any]]) -> None:
    study = optimize("spo", "-params", "policy_kwargs:dict(ortho_init=False)")
    model = train_trial("spo", 0, "-params", "policy_kwargs:dict(ortho_init=False)")
    params = study.trials[0].params
    sampled, trained = built
    assert model.gae_lambda == params["gae_lambda"]
    assert model.gamma == 1 - params["one_minus_gamma"]
    assert trained["policy_kwargs"] == sampled["policy_kwargs"]
    assert sampled["policy_kwargs"]["ortho_init"] is False
    assert sampled["policy_kwargs"]["net_arch"]["pi"] == [2 ** params["log2_net_width"]] * 2
    same = (trained.keys() & sampled.keys()) - {"env", "learning_rate", "seed", "verbose", "device", "tensorboard_log"}
    assert {"n_steps", "batch_size", "n_epochs", "clip_range"} <= same
    for name in same - {"clip_range"}:
        assert trained[name] == sampled[name], name
    for name in ("learning_rate", "clip_range"):
        assert trained[name](0.5) == _at_half(sampled[name])
    saved, _ = get_saved_hyperparams("logs/spo/CartPole-v1_1/CartPole-v1")
    assert saved["gae_lambda"] == params["gae_lambda"]


def _at_half(value: Any) -> float:
    return value(0.5) if callable(value) else value


@pytest.mark.usefixtures("spo_study")
def test_the_command_line_rules_over_a_trial() -> None:
    model = train_trial("spo", 0, "-params", "gae_lambda:0.123", "policy_kwargs:dict(ortho_init=False)")
    assert model.gae_lambda == 0.123
    assert model.policy_kwargs["ortho_init"] is False
    assert "net_arch" in model.policy_kwargs


def test_normalisation_has_the_sampled_gamma(monkeypatch: pytest.MonkeyPatch) -> None:
    from sb3_ppo_variants.zoo.manager import ZooExperimentManager

    gammas = []
    original = ZooExperimentManager._maybe_normalize

    def maybe_normalize(self: Any, env: Any, eval_env: bool) -> Any:
        env = original(self, env, eval_env)
        gammas.append(getattr(env, "gamma", None))
        return env

    monkeypatch.setattr(ZooExperimentManager, "_maybe_normalize", maybe_normalize)
    study = optimize("spo", "-params", "normalize:True", "gamma:0.5", trials=4)
    expected = [1 - trial.params["one_minus_gamma"] if trial.params["normalize"] else None for trial in study.trials]
    assert any(gamma is None for gamma in expected)
    assert any(gamma is not None for gamma in expected)
    assert gammas[1::2] == expected  # after the environment that tells the spaces: training and evaluation per trial


@pytest.mark.parametrize("algo", mostly_slow(["spo", "ppo"], ["spo"]))
def test_a_trial_that_breaks_numerically_failed_and_is_not_pruned(algo: str) -> None:
    arguments = [*FEW, "--n-trials", 1, *STORAGE, "-params", "policy_kwargs:dict(log_std_init=200.0)"]
    assert "No trial was completed" in refusal("optimize", "--algo", algo, "--env", "Pendulum-v1", *arguments)
    assert [trial.state.name for trial in stored_study().trials] == ["FAIL"]


def test_an_infinite_score_is_not_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([(math.inf, 0.0), (1.0, 0.0)])

    def evaluate(*arguments: Any, **keywords: Any) -> Any:
        score, _ = next(scores)
        return [score], [1]

    monkeypatch.setattr("stable_baselines3.common.callbacks.evaluate_policy", evaluate)
    study = optimize("spo", trials=2)
    assert study.best_trial.number == 1


def test_a_fall_of_an_own_parameter_does_not_overrule_its_sampled_value(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = KLStopPPO.train

    def train(self: KLStopPPO) -> None:
        seen.append(self.max_kl)
        original(self)

    monkeypatch.setattr(KLStopPPO, "train", train)
    study = optimize("kl_stop_ppo", "-params", "max_kl:'lin_0.4'")
    assert set(seen) == {study.trials[0].params["max_kl"]}


def test_masks_reach_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TESTS)
    study = optimize("maskable_clip_ppo", "--gym-packages", "masked_env", env="OneValidAction-v0")
    assert study.trials[0].value == 10


@pytest.mark.usefixtures("spo_study")
@pytest.mark.parametrize("trial", [["--trial-id", 0], []], ids=["a trial", "the best trial"])
def test_a_study_that_is_not_there(trial: list[Any]) -> None:
    train = ["train", "--algo", "spo", "--env", "CartPole-v1", *trial]
    assert "has no study other" in refusal(*train, "--storage", FILE, "--study-name", "other")
    for nothing in ("sqlite:///nothing.db", "nothing.log"):
        assert f"{nothing} does not exist" in refusal(*train, "--storage", nothing, "--study-name", "study")
        assert not Path(nothing.removeprefix("sqlite:///")).exists()
    assert "--study-name" in refusal(*train, "--storage", FILE)


@pytest.mark.usefixtures("spo_study")
def test_a_trial_that_is_not_there() -> None:
    where = ["--storage", FILE, "--study-name", "study"]
    message = refusal("train", "--algo", "spo", "--env", "CartPole-v1", "--trial-id", 7, *where)
    assert "has no study study with a trial 7" in message


def test_a_trial_of_no_study() -> None:
    assert "--storage" in refusal("train", "--algo", "spo", "--env", "CartPole-v1", "--trial-id", 0)


@pytest.mark.usefixtures("spo_study")
def test_values_of_a_trial_become_an_entry_that_can_be_read_again() -> None:
    train_trial("spo", 0)
    saved, _ = get_saved_hyperparams("logs/spo/CartPole-v1_1/CartPole-v1")
    entry = {key: value for key, value in saved.items() if key not in ("normalize_kwargs",)}
    Path("mine.yml").write_text(yaml.safe_dump({"CartPole-v1": entry}))
    command("train", "--algo", "spo", "--env", "CartPole-v1", "--conf-file", "mine.yml", "-n", 64, "--eval-freq", -1)
    first, second = (SPO.load(f"logs/spo/CartPole-v1_{number}/CartPole-v1.zip") for number in (1, 2))
    assert (first.n_steps, first.gae_lambda) == (second.n_steps, second.gae_lambda)
