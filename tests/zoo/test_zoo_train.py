"""train: rl_zoo3's options for our algorithms, and folders as a user of rl-zoo expects them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rl_zoo3.utils import get_saved_hyperparams
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize
from zoo_helpers import TESTS, command, refusal

from sb3_ppo_variants import SPO, AdaptiveClipPPO, ClipPPO, KLStopPPO, MaskableRecurrentSPO, RecurrentClipPPO
from sb3_ppo_variants.experiment import registered_entry
from sb3_ppo_variants.zoo.manager import ExperimentManager

SMALL = ["-n", 128, "--eval-freq", -1, "-params", "n_steps:16", "n_envs:2", "batch_size:32", "n_epochs:1"]


def saved_config(run: Path, env_id: str) -> dict[str, Any]:
    # rl_zoo3 writes an OrderedDict, as a tag that only its own unsafe loader reads
    hyperparams, _ = get_saved_hyperparams(str(run / env_id))
    return {key: value for key, value in hyperparams.items() if key != "normalize_kwargs"}


class Watcher(BaseCallback):
    """Keep the model of the last run, and what it was at each update."""

    model_seen: Any
    history: list[dict[str, Any]]

    def __init__(self) -> None:
        super().__init__()
        Watcher.history = []

    def _on_rollout_end(self) -> None:
        Watcher.model_seen = self.model
        env_types = [type(env) for env in _unwrapped(self.training_env)]
        Watcher.history.append({"env_types": env_types, **vars(self.model)})

    def _on_step(self) -> bool:
        return True


def _unwrapped(env: Any) -> list[Any]:
    layers = [env]
    while hasattr(layers[-1], "venv"):
        layers.append(layers[-1].venv)
    return layers


def watched(algo: str, env_id: str, *arguments: object) -> Any:
    """Train and return the model as it was after the last rollout."""
    typed = [str(argument) for argument in arguments]
    if "-params" not in typed:
        typed.append("-params")
    command("train", "--algo", algo, "--env", env_id, *typed, f"callback:'{__name__}.Watcher'")
    return Watcher.model_seen


def test_a_run_leaves_the_files_that_a_user_of_rl_zoo_expects(cartpole_logs: Path) -> None:
    run = cartpole_logs / "adaptive_clip_ppo" / "CartPole-v1_1"
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    expected = {"CartPole-v1.zip", "best_model.zip", "evaluations.npz", "rl_model_256_steps.zip"}
    expected |= {f"CartPole-v1/{name}" for name in ("args.yml", "config.yml", "command.txt")} | {"0.monitor.csv"}
    assert expected <= files
    assert saved_config(run, "CartPole-v1") == registered_entry("adaptive_clip_ppo", "CartPole-v1") | {
        "normalize": False
    }
    arguments = yaml.unsafe_load((run / "CartPole-v1/args.yml").read_text())
    assert (arguments["algo"], arguments["n_timesteps"], arguments["seed"]) == ("adaptive_clip_ppo", 512, 1)
    assert len(np.load(run / "evaluations.npz")["timesteps"]) == 2
    model = AdaptiveClipPPO.load(run / "CartPole-v1.zip")
    assert model.num_timesteps == 512
    assert model.n_epochs == registered_entry("adaptive_clip_ppo", "CartPole-v1")["n_epochs"]


def test_the_zoos_algorithms_stay_the_zoos(capsys: pytest.CaptureFixture[str]) -> None:
    command("train", "--algo", "ppo", "--env", "CartPole-v1", "-n", 8, "--eval-freq", -1)
    output = capsys.readouterr().out
    assert "rl_zoo3/hyperparams/ppo.yml" in output.replace("\\", "/")
    model = PPO.load("logs/ppo/CartPole-v1_1/CartPole-v1.zip")
    assert type(model) is PPO
    # A model of SB3's own holds the zoo's schedule, not ours
    assert type(model.lr_schedule).__module__ != "sb3_ppo_variants"
    assert model.num_timesteps == 256


def test_an_environment_without_entry_has_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    command("train", "--algo", "spo", "--env", "MountainCar-v0", *SMALL)
    assert "Using 'default' hyperparameters" in capsys.readouterr().out
    assert SPO.load("logs/spo/MountainCar-v0_1/MountainCar-v0.zip").n_steps == 16


def test_hyperparameters_on_the_command_line_rule() -> None:
    model = watched(
        "clip_ppo", "CartPole-v1", *SMALL, "dual_clip:3.0", "policy_kwargs:dict(net_arch=[8])", "engine:'numpy'"
    )
    assert type(model) is ClipPPO
    assert (model.n_envs, model.n_steps, model.dual_clip, model.engine) == (2, 16, 3.0, "numpy")
    assert model.policy_kwargs["net_arch"] == [8]


def test_an_own_file_of_hyperparameters_is_read() -> None:
    entry = {"n_timesteps": 32, "policy": "MlpPolicy", "n_steps": 32, "batch_size": 16, "desired_kl": 0.5}
    Path("mine.yml").write_text(yaml.safe_dump({"CartPole-v1": entry}))
    command("train", "--algo", "adaptive_clip_ppo", "--env", "CartPole-v1", "--conf-file", "mine.yml")
    model = AdaptiveClipPPO.load("logs/adaptive_clip_ppo/CartPole-v1_1/CartPole-v1.zip")
    assert (model.desired_kl, model.n_steps, model.num_timesteps) == (0.5, 32, 32)


@pytest.mark.parametrize(
    ("typed", "at_start", "at_half"),
    [("'lin_0.4'", 0.4, 0.2), ("'const_0.4'", 0.4, 0.4), ("0.4", 0.4, 0.4)],
)
def test_schedules_do_what_their_names_say(typed: str, at_start: float, at_half: float) -> None:
    keys = ("learning_rate", "clip_range", "clip_range_vf")
    model = watched("clip_ppo", "CartPole-v1", *SMALL, *(f"{key}:{typed}" for key in keys))
    for schedule in (model.lr_schedule, model.clip_range, model.clip_range_vf):
        assert [schedule(1.0), schedule(0.5)] == pytest.approx([at_start, at_half])


def test_a_constant_schedule_is_constant_for_the_zoos_algorithms_too() -> None:
    model = watched("ppo", "CartPole-v1", *SMALL, "learning_rate:'const_0.01'", "clip_range_vf:None")
    assert [model.lr_schedule(1.0), model.lr_schedule(0.1)] == [0.01, 0.01]
    assert model.clip_range_vf is None


def test_no_value_clipping_can_be_asked_for() -> None:
    assert watched("clip_ppo", "CartPole-v1", *SMALL, "clip_range_vf:None").clip_range_vf is None


def test_own_parameters_of_a_variant_fall_with_a_schedule() -> None:
    texts = ["max_kl:'lin_0.4'", "ent_coef:'lin_0.2_0.1'", "vf_coef:'const_0.4'"]
    logged = watched("kl_stop_ppo", "CartPole-v1", "-n", 96, *SMALL[2:], *texts).logger.name_to_value
    # Two updates after 32 and 64 of 96 steps are over, the third is the last that was logged
    assert [logged[f"train/{name}"] for name in ("max_kl", "ent_coef", "vf_coef")] == pytest.approx([1e-8, 0.1, 0.4])
    again = KLStopPPO.load("logs/kl_stop_ppo/CartPole-v1_1/CartPole-v1.zip")
    assert [again.max_kl(progress) for progress in (1.0, 0.25)] == pytest.approx([0.4, 0.1])


def test_a_schedule_where_a_controller_steers_is_refused() -> None:
    message = refusal("train", "--algo", "kl_penalty_ppo", "--env", "CartPole-v1", *SMALL, "kl_coef:'lin_1.0'")
    assert "kl_coef must be constant" in message
    assert not Path("logs/kl_penalty_ppo").exists()


def test_environments_in_processes_of_their_own() -> None:
    watched("clip_ppo", "CartPole-v1", "--vec-env", "subproc", *SMALL)
    assert SubprocVecEnv in Watcher.history[0]["env_types"]
    watched("clip_ppo", "CartPole-v1", *SMALL)
    assert DummyVecEnv in Watcher.history[0]["env_types"]


def test_arguments_of_the_environment_are_passed_on_and_kept() -> None:
    model = watched("clip_ppo", "Pendulum-v1", "--env-kwargs", "g:2.5", *SMALL, "use_sde:False")
    assert model.env.get_attr("g") == [2.5, 2.5]
    arguments = yaml.unsafe_load(Path("logs/clip_ppo/Pendulum-v1_1/Pendulum-v1/args.yml").read_text())
    assert arguments["env_kwargs"] == {"g": 2.5}


def test_normalisation_shares_gamma_and_its_statistics_are_saved_and_taken_up() -> None:
    watched("clip_ppo", "CartPole-v1", *SMALL, "normalize:True", "gamma:0.9")
    run = Path("logs/clip_ppo/CartPole-v1_1")
    first = VecNormalize.load(str(run / "CartPole-v1/vecnormalize.pkl"), DummyVecEnv([_cartpole]))
    assert first.gamma == 0.9
    assert first.obs_rms.count == pytest.approx(128 + 2, abs=1)
    watched("clip_ppo", "CartPole-v1", "-i", run / "CartPole-v1.zip", *SMALL, "normalize:True", "gamma:0.9")
    second_run = Path("logs/clip_ppo/CartPole-v1_2")
    second = VecNormalize.load(str(second_run / "CartPole-v1/vecnormalize.pkl"), DummyVecEnv([_cartpole]))
    assert second.obs_rms.count == pytest.approx(2 * (128 + 2), abs=2)


def _cartpole() -> Any:
    import gymnasium as gym

    return gym.make("CartPole-v1")


def test_training_goes_on_from_a_saved_model_with_its_adapted_state() -> None:
    # One epoch moves the policy little, so the clip range grows from its start of 0.2
    bounds = ["clip_range:0.2", "clip_range_min:0.01", "clip_range_max:0.9"]
    command("train", "--algo", "adaptive_clip_ppo", "--env", "CartPole-v1", *SMALL, *bounds)
    saved = "logs/adaptive_clip_ppo/CartPole-v1_1/CartPole-v1.zip"
    adapted = AdaptiveClipPPO.load(saved).adapted_clip_range
    assert adapted > 0.2
    model = watched("adaptive_clip_ppo", "CartPole-v1", "-i", saved, *SMALL, *bounds)
    assert Watcher.history[0]["adapted_clip_range"] == adapted
    assert model.num_timesteps == 128  # rl_zoo3 counts each run's own steps


@pytest.mark.parametrize(("algo", "cls"), [("recurrent_clip_ppo", RecurrentClipPPO)])
def test_forms_with_memory_use_the_variants_entry(algo: str, cls: type) -> None:
    assert type(watched(algo, "CartPole-v1", *SMALL)) is cls
    assert (
        saved_config(Path("logs", algo, "CartPole-v1_1"), "CartPole-v1")["learning_rate"]
        == (registered_entry("clip_ppo", "CartPole-v1")["learning_rate"])
    )


def test_masks_reach_training_and_its_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TESTS)
    options = [*SMALL[:2], "--eval-freq", 32, "--eval-episodes", 2, "--gym-packages", "masked_env", *SMALL[4:]]
    model = watched("maskable_recurrent_spo", "OneValidAction-v0", *options, "policy_kwargs:dict(lstm_hidden_size=8)")
    assert type(model) is MaskableRecurrentSPO
    # A wrong action is an error there, so every one of the ten steps of each episode was valid
    run = Path("logs/maskable_recurrent_spo/OneValidAction-v0_1")
    assert (np.load(run / "evaluations.npz")["ep_lengths"] == 10).all()
    assert (run / "best_model.zip").is_file()


def test_masks_where_the_environment_has_none() -> None:
    message = refusal("train", "--algo", "maskable_clip_ppo", "--env", "CartPole-v1", *SMALL)
    assert "ActionMasker" in message


def test_masks_for_a_variant_of_continuous_actions() -> None:
    message = refusal("train", "--algo", "maskable_rpo", "--env", "CartPole-v1", *SMALL)
    assert "maskable_rpo is no algorithm: masks need discrete actions" in message


def test_a_learned_progress_bar_and_tensorboard_logs() -> None:
    command("train", "--algo", "clip_ppo", "--env", "CartPole-v1", "--progress", "-tb", "tb", *SMALL)
    assert list(Path("tb/CartPole-v1").rglob("events.out.tfevents.*"))


def test_the_manager_serves_scripts_without_arguments_of_ours() -> None:
    import argparse

    manager = ExperimentManager(argparse.Namespace(), "spo", "CartPole-v1", "logs", n_timesteps=64, eval_freq=-1)
    results = manager.setup_experiment()
    assert results is not None
    assert type(results[0]) is SPO
