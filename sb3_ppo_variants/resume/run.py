"""One call of ``learn`` with a :class:`ResumableCheckpoint`: what is written and put back, and in which order."""

import io
import secrets
import time
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_ppo_variants.resume import archive, callbacks, environments, generators, logs
from sb3_ppo_variants.resume.callback import ResumableCheckpoint


class Run:
    """A run under way.

    :param model: in training
    :param checkpoint: one of its callbacks
    :param asked_steps: ``total_timesteps`` as ``learn`` is given it
    :param first_step: environment steps at which ``learn`` begins
    :param interrupted: what the run goes on from; None: it begins here
    :raises ValueError: if checkpoints of another run would be lost, or the run had other arguments before
    """

    def __init__(
        self,
        model: OnPolicyAlgorithm,
        checkpoint: ResumableCheckpoint,
        *,
        asked_steps: int,
        first_step: int,
        interrupted: archive.Checkpoint | None,
    ) -> None:
        self._model = model
        self._checkpoint = checkpoint
        self._asked_steps = asked_steps
        self._interrupted = interrupted
        self._last = first_step
        if interrupted is None:
            checkpoint.refuse_other_runs(first_step)
            # Without a seed nobody can repeat the run, but it can be resumed
            self._seed = secrets.randbits(31) if model.seed is None else model.seed
        else:
            self._check_arguments(interrupted.state)
            self._seed = interrupted.state["seed"]

    def _check_arguments(self, state: dict[str, Any]) -> None:
        if self._checkpoint.every != state["every"]:
            raise ValueError(
                f"every={self._checkpoint.every}, and the run that is resumed has checkpoints every {state['every']} "
                f"steps, at which its environments are reset: pass ResumableCheckpoint with every={state['every']}."
            )
        if self._asked_steps != state["asked_steps"]:
            raise ValueError(
                f"total_timesteps={self._asked_steps}, and the run that is resumed was given {state['asked_steps']}, "
                "on which its schedules depend: pass the same number. To train beyond, call learn again afterwards "
                "with reset_num_timesteps=False."
            )

    @property
    def is_resumed(self) -> bool:
        """Whether the run had begun in another process, or call of ``learn``."""
        return self._interrupted is not None

    def begin(self, root: BaseCallback) -> int:
        """Take the callbacks, once SB3 has set them up, and the clock of an interrupted run.

        :param root: the outermost callback
        :return: environment steps at which training ends
        """
        model = self._model
        assert model.env is not None
        self._root = root
        self._settings = callbacks.settings(root, model.env)
        if self._interrupted is not None:
            state = self._interrupted.state
            model._total_timesteps = state["total_steps"]
            model._num_timesteps_at_start = state["first_step"]
            model.start_time = time.time_ns() - state["nanoseconds"]
        return model._total_timesteps

    def before_rollout(self) -> None:
        """Go on from the checkpoint, or write one if it is time, and begin all environments afresh there."""
        steps = self._model.num_timesteps
        if self._interrupted is not None and steps == self._interrupted.steps:
            self._restore(self._interrupted.state)
        elif steps // self._checkpoint.every > self._last // self._checkpoint.every:
            archive.write(self._checkpoint.folder, steps, self._model_file(), self._state())
        else:
            return
        self._last = steps
        self._begin_afresh(steps)

    def _model_file(self) -> bytes:
        stream = io.BytesIO()
        self._model.save(stream)
        return stream.getvalue()

    def _state(self) -> dict[str, Any]:
        model = self._model
        assert model.env is not None
        return {
            "class": type(model).__name__,
            "n_envs": model.n_envs,
            "seed": self._seed,
            "every": self._checkpoint.every,
            "asked_steps": self._asked_steps,
            "total_steps": model._total_timesteps,
            "first_step": model._num_timesteps_at_start,
            "nanoseconds": time.time_ns() - int(model.start_time),
            "environment": environments.read(model.env, self._settings),
            "callbacks": callbacks.read(self._root, model.env, self._settings),
            "logger": logs.read(model.logger),
            "generators": generators.read(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        assert self._model.env is not None
        environments.restore(self._model.env, state["environment"])
        callbacks.restore(self._root, state["callbacks"])
        logs.restore(self._model.logger, state["logger"])
        generators.restore(state["generators"])  # last: what came before may have drawn

    def _begin_afresh(self, steps: int) -> None:
        model = self._model
        env = model.env
        assert env is not None
        model._last_obs = environments.reset(env, environments.seed_at(self._seed, steps))
        model._last_episode_starts = np.ones(env.num_envs, dtype=bool)
        if model._vec_normalize_env is not None:
            model._last_original_obs = model._vec_normalize_env.get_original_obs()
        memory: Any = getattr(model, "_last_lstm_states", None)
        if memory is not None:
            no_memory = type(memory)(*(tuple(th.zeros_like(state) for state in pair) for pair in memory))
            vars(model)["_last_lstm_states"] = no_memory
        for index, held in enumerate(callbacks.environments_of(self._root, env), start=1):
            environments.reset(held, environments.seed_at(self._seed, steps, index))
