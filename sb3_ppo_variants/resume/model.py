"""A model that can take up an interrupted run."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from typing_extensions import Self

from sb3_ppo_variants.resume import archive, callbacks, logs
from sb3_ppo_variants.resume.callback import ResumableCheckpoint
from sb3_ppo_variants.resume.run import Run

if TYPE_CHECKING:  # the mixin is type-checked as what it always stands in front of
    _Base = OnPolicyAlgorithm
else:
    _Base = object


class Resumable(_Base):
    """Stands in front of an on-policy algorithm; every variant has it."""

    _run: Run | None = None
    _interrupted: archive.Checkpoint | None = None
    _log_interval: int | None = None

    @classmethod
    def resume(cls, folder: str | Path, env: GymEnv, device: th.device | str = "auto") -> Self:
        """Return the model of an interrupted run; ``learn`` with the arguments of that run brings it to its end.

        All bits are then those of a run that was never interrupted. See
        :class:`~sb3_ppo_variants.resume.ResumableCheckpoint`, which has to be among the callbacks again.

        :param folder: of the checkpoints. If the newest is not whole, the one before is taken, with a warning
        :param env: an environment made as that of the run was
        :param device: as that of the run was
        :raises ValueError: if no checkpoint is whole, or it is one of another class or number of environments
        """
        checkpoint = archive.read_newest(Path(folder))
        state = checkpoint.state
        if state["class"] != cls.__name__:
            raise ValueError(
                f"{checkpoint.path} is of {state['class']}: call {state['class']}.resume, not {cls.__name__}'s."
            )
        model = cls.load(io.BytesIO(checkpoint.model), env=env, device=device)
        assert model.env is not None
        if model.n_envs != state["n_envs"]:
            raise ValueError(f"The run has {state['n_envs']} environments, and env has {model.n_envs}: give as many.")
        model.action_space = model.env.action_space  # one object, and so one generator, as in a model that was made
        model._interrupted = checkpoint
        return model

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        *arguments: Any,
        **keywords: Any,
    ) -> Self:
        """Train as SB3 does; a resumed model goes on where its run was interrupted.

        :raises ValueError: if the run is resumed without its ``ResumableCheckpoint``, or with other arguments
        """
        self._log_interval = log_interval
        if self._interrupted is not None and log_interval is not None:
            log_interval = 1  # SB3 counts rollouts from here: dump_logs counts from the run's beginning
        try:
            return super().learn(total_timesteps, callback, log_interval, *arguments, **keywords)
        finally:
            self._run = None

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log as SB3 does, in a resumed run too at every ``log_interval``-th rollout since its beginning.

        :param iteration: number of the rollout in this process, from 1; 0: the call is not about a rollout
        """
        if iteration > 0 and self._run is not None and self._run.is_resumed:
            assert self._log_interval is not None
            iteration = (self.num_timesteps - self._num_timesteps_at_start) // (self.n_steps * self.n_envs)
            if iteration % self._log_interval != 0:
                return
        super().dump_logs(iteration)

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        interrupted = self._interrupted
        checkpoint = _checkpoint_in(callback)
        if checkpoint is None:
            if interrupted is not None:
                raise ValueError(
                    "The run that is resumed had a ResumableCheckpoint among its callbacks: pass its callbacks again, "
                    "for they get their states back, and without its resets the run would be another one."
                )
            return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        reset_num_timesteps = reset_num_timesteps and interrupted is None
        self._run = Run(
            self,
            checkpoint,
            asked_steps=total_timesteps,
            first_step=0 if reset_num_timesteps else self.num_timesteps,
            interrupted=interrupted,
        )
        was_custom = self._custom_logger
        logger = None
        if interrupted is not None and not was_custom:
            logger = logs.same_folder(interrupted.state["logger"], self.verbose)
        if logger is not None:
            self.set_logger(logger)
        _, root = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        self._custom_logger = was_custom
        return self._run.begin(root), root

    def _before_rollout(self) -> None:
        """Do what is to be done between rollouts."""
        if self._run is not None:
            self._run.before_rollout()
            self._interrupted = None

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_run", "_interrupted", "_log_interval"]


def resumable(cls: type[OnPolicyAlgorithm]) -> Any:
    """Return a class of SB3 or sb3-contrib with ``resume``, such as ``resumable(TRPO)``; the variants have it.

    :param cls: an on-policy algorithm
    :return: a subclass of it with its name, which trains with the same bits
    """
    if issubclass(cls, Resumable):
        return cls
    return type(cls.__name__, (_BeforeItsRollouts, cls), {"__doc__": cls.__doc__, "__module__": cls.__module__})


class _BeforeItsRollouts(Resumable):
    def collect_rollouts(self, *arguments: Any, **keywords: Any) -> bool:
        self._before_rollout()
        return super().collect_rollouts(*arguments, **keywords)


def _checkpoint_in(callback: MaybeCallback) -> ResumableCheckpoint | None:
    roots = callback if isinstance(callback, list) else [callback]
    trees = [callbacks.tree(root) for root in roots if isinstance(root, BaseCallback)]
    found = {id(one): one for tree in trees for one in tree if isinstance(one, ResumableCheckpoint)}
    if len(found) > 1:
        raise ValueError("There are several ResumableCheckpoint among the callbacks: a run has one.")
    return next(iter(found.values()), None)
