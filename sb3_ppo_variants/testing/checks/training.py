"""What one sees of a training from outside: logs, callbacks, an early stop."""

import contextlib
import io
import math
import tempfile
import warnings
from importlib.util import find_spec
from numbers import Real
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from sb3_ppo_variants.testing.requirements import learn, require
from sb3_ppo_variants.testing.variant import N_STEPS, NotApplicable, Variant
from sb3_ppo_variants.update_parts.stop import StopRule

_SB3_TRAIN_KEYS = (
    *("approx_kl", "clip_fraction", "clip_range", "entropy_loss", "explained_variance", "learning_rate"),
    *("loss", "n_updates", "policy_gradient_loss", "value_loss"),
)
_DIAGNOSTICS = ("effective_sample_size", "epochs", "ratio_q05", "ratio_q95", "zero_gradient_fraction")


def check_log_keys(variant: Variant) -> None:
    """SB3's log keys are there, and the package's diagnostics, all of them finite."""
    logged: dict[str, Any] = variant.trained().logger.name_to_value
    kl = "kl" if "train/kl" in logged else "kl_k3"
    missing = [key for key in (*_SB3_TRAIN_KEYS, *_DIAGNOSTICS, kl) if f"train/{key}" not in logged]
    require(not missing, f"nothing is logged under train/ for {', '.join(missing)}")
    texts = [key for key, value in logged.items() if not isinstance(value, Real)]
    require(not texts, f"{', '.join(texts)} is no number: callbacks and loggers take logged values as numbers")
    odd = [key for key in (*_DIAGNOSTICS, kl) if not math.isfinite(logged[f"train/{key}"])]
    require(not odd, f"what is logged under train/ is not finite for {', '.join(odd)}")


def check_callbacks(variant: Variant) -> None:
    """Callbacks see every step and rollout, and can stop the training."""
    counter = _Count()
    model = learn(variant.make(), rollouts=2, callback=counter)
    require(counter.steps == 2 * N_STEPS, f"on_step was called {counter.steps} times in {2 * N_STEPS} steps")
    require(counter.rollouts == 2, f"on_rollout_end was called {counter.rollouts} times for 2 rollouts")
    require({"rewards", "infos", "dones"} <= counter.names, "locals lack rewards, infos or dones")
    model.learn(N_STEPS, callback=_Count(stop_after=5))
    require(model.num_timesteps == 5, f"a callback said stop after 5 steps, the model took {model.num_timesteps}")


def check_progress_bar(variant: Variant) -> None:
    """The progress bar runs to its end."""
    if find_spec("tqdm") is None or find_spec("rich") is None:
        raise NotApplicable("tqdm or rich is not installed")
    warnings.simplefilter("ignore")  # tqdm calls its rich bar experimental
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        variant.make().learn(N_STEPS, progress_bar=True)


def check_tensorboard(variant: Variant) -> None:
    """A TensorBoard run is named after the class."""
    if find_spec("tensorboard") is None:
        raise NotApplicable("tensorboard is not installed")
    with tempfile.TemporaryDirectory() as folder:
        model = variant.make(tensorboard_log=folder)
        model.learn(N_STEPS)
        model.logger.close()
        runs = [run.name for run in Path(folder).iterdir() if any(run.iterdir())]
    require(runs == [f"{variant.cls.__name__}_1"], f"the TensorBoard runs are {runs}")


def check_target_kl(variant: Variant) -> None:
    """SB3's ``target_kl`` ends an update early, and the logs say so."""
    model = variant.make(target_kl=1e-7, learning_rate=0.01, n_epochs=5)
    model.learn(N_STEPS)
    logged = model.logger.name_to_value
    require(logged["train/epochs"] < 5, "target_kl=1e-7 did not end the update early")
    require("train/stop_epoch" in logged, "no train/stop_epoch is logged after a stop")
    require(
        logged.get("train/stop_reason") == StopRule.TARGET_KL, "train/stop_reason is not the number of SB3's target_kl"
    )


class _Count(BaseCallback):
    """Count steps and rollouts, note the names of the locals, stop after some steps."""

    def __init__(self, stop_after: float = math.inf) -> None:
        super().__init__()
        self.steps = 0
        self.rollouts = 0
        self.names: set[str] = set()
        self.stop_after = stop_after

    def _on_step(self) -> bool:
        self.steps += 1
        self.names |= set(self.locals)
        return self.steps < self.stop_after

    def _on_rollout_end(self) -> None:
        self.rollouts += 1
