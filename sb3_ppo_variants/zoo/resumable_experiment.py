"""rl_zoo3's experiment as a run that can be killed and taken up again."""

from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.resume import Resumable, ResumableCheckpoint, has_checkpoint
from sb3_ppo_variants.zoo.algorithms import ours
from sb3_ppo_variants.zoo.manager import ExperimentManager
from sb3_ppo_variants.zoo.resumable_folder import checkpoints_of, write_arguments

_CHECKPOINTS = 20  # of a run whose user does not say how often


class ResumableExperiment(ExperimentManager):
    """An experiment that keeps checkpoints from which it can be resumed.

    :param every: environment steps between checkpoints; 0: a twentieth of the run
    :param arguments: of the command line, to be used again
    :param folder: of the run to resume; None: it begins here
    :raises ValueError: if the algorithm has no :class:`Resumable`, or hyperparameters are to be tuned
    """

    def __init__(self, *args: Any, every: int, arguments: list[str], folder: Path | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.algo not in ours() or not issubclass(ours()[self.algo].cls, Resumable):
            raise ValueError(f"--resumable: {self.algo} cannot be resumed, the variants can.")
        if self.optimize_hyperparameters:
            raise ValueError("--resumable is for one run: a study goes on by itself with the same --storage.")
        self._every = every
        self._arguments = arguments
        self._is_resumed = folder is not None
        if folder is not None:
            self.save_path = str(folder)
            self.params_path = f"{self.save_path}/{self.env_name}"
            # Without a checkpoint it was killed so early that it begins again
            self.continue_training = has_checkpoint(checkpoints_of(folder))

    def create_log_folder(self) -> None:
        """Make a run's folder, and note in it how it was begun."""
        super().create_log_folder()
        if not self._is_resumed:
            write_arguments(self.save_path, self._every, self._arguments)

    def create_callbacks(self) -> None:
        """Add the callback that writes checkpoints to rl_zoo3's."""
        super().create_callbacks()  # type: ignore[no-untyped-call]
        every = self._every or max(1, self.n_timesteps // _CHECKPOINTS)
        self.callbacks.append(ResumableCheckpoint(checkpoints_of(self.save_path), every))

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        if not self._is_resumed:
            return super()._load_pretrained_agent(hyperparams, env)
        print(f"Resuming the run in {self.save_path}")
        cls: Any = ours()[self.algo].cls
        model: BaseAlgorithm = cls.resume(checkpoints_of(self.save_path), env, device=self.device)
        return model

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        if not self._is_resumed:  # the files tell how the run was begun
            super()._save_config(saved_hyperparams)
