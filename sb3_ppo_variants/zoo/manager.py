"""rl_zoo3's experiment manager with a way in for third-party algorithms, and without what is broken in 2.9.

Each work-around is one function that names the release it is for.
"""

import copy
import io
import math
from collections import OrderedDict
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from rl_zoo3.callbacks import TrialEvalCallback
from rl_zoo3.exp_manager import ExperimentManager as ZooExperimentManager  # register() puts ours in its place
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.entries.checks import ENVIRONMENT_KEYS, check_keys, check_values
from sb3_ppo_variants.entries.constructors import constructor_parameters
from sb3_ppo_variants.entries.policy_kwargs import resolve_policy_kwargs
from sb3_ppo_variants.entries.schedules import resolve_schedule, resolve_schedules
from sb3_ppo_variants.entries.vector import resolve_vec_env
from sb3_ppo_variants.entries.zoo_files import zoo_file
from sb3_ppo_variants.evaluation import MaskedEvalCallback, knows_masks
from sb3_ppo_variants.registry import Algorithm
from sb3_ppo_variants.search_space import suggest
from sb3_ppo_variants.update_parts.errors import NonFiniteUpdateError
from sb3_ppo_variants.zoo.algorithms import ours, tuned
from sb3_ppo_variants.zoo.search import constructor_arguments, sampling_from, tuning_space

# Keys of rl-zoo's entries that are no constructor arguments, and arguments that come from its options
_ZOO_KEYS = (*ENVIRONMENT_KEYS, "callback", "monitor_kwargs")
_FROM_OPTIONS = ("env", "tensorboard_log", "seed", "verbose", "device", "_init_setup_model")
_NO_BEST_TRIAL = ("Record does not exist.", "No trials are completed yet.")  # Optuna 5, in a database and in memory
_Preprocessed = tuple[dict[str, Any], Callable[..., Any] | None, list[BaseCallback], Callable[..., Any] | None]


class MaskedTrialEvalCallback(MaskedEvalCallback, TrialEvalCallback):
    """rl_zoo3's evaluation of a trial, with action masks where the model knows them."""


class ExperimentManager(ZooExperimentManager):
    """rl_zoo3's own for its algorithms; it finds the variants' hyperparameters, and tunes in the harness' spaces."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._entry: dict[str, Any] = {}
        self._vec_env: Any = None
        if self.algo in ours() and kwargs.get("config") is None:
            # rl_zoo3 2.9 looks for hyperparameters in its own package only
            self.config = str(zoo_file(ours()[self.algo].config))

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read the entry of the environment, then a trial's values, then the command line's."""
        if self.trial_id is None and not self.optimize_hyperparameters:
            self.trial_id = self._best_trial_id()
        if self.trial_id is not None:
            self._take_trial(self.trial_id)
        try:
            hyperparams, saved_hyperparams = super().read_hyperparameters()
        except KeyError as error:  # rl_zoo3 2.9 takes "atari" for granted
            raise ValueError(
                f"{self.config} has no entry {error}, so {self.algo} has no settings for it: add one, in a file that "
                "--conf-file names."
            ) from error
        except (AttributeError, TypeError) as error:
            raise ValueError(
                f"{self.config} must map each environment to its hyperparameters, name: value: {error}."
            ) from error
        self._entry = copy.deepcopy(dict(saved_hyperparams))
        return hyperparams, OrderedDict(copy.deepcopy(saved_hyperparams))

    def _best_trial_id(self) -> int | None:
        """Return the number of the best trial of the study that a training run was given, or None without a study."""
        if not self.storage and not self.study_name:
            return None
        if not self.storage or not self.study_name:
            given, missing = ("--storage", "--study-name") if self.storage else ("--study-name", "--storage")
            raise ValueError(f"{given} without {missing} names no study to take hyperparameters from: give both.")
        finished = [trial for trial in self._trials_of_study() if trial.state is TrialState.COMPLETE]
        if not finished:
            raise ValueError(f"Study {self.study_name} in {self.storage} has no finished trial to take values from.")
        best = max(finished, key=lambda trial: trial.value if trial.value is not None else -math.inf)
        print(f"Best trial of study {self.study_name}: {best.number}, value {best.value:g} (--trial-id takes another)")
        return int(best.number)

    def _trials_of_study(self) -> list[optuna.trial.FrozenTrial]:
        """Return the trials of the study that was named.

        :raises ValueError: if there is none; asking Optuna would make an empty file of that name
        """
        assert self.storage
        assert self.study_name
        file = self.storage.removeprefix("sqlite:///")
        if (file != self.storage or file.endswith(".log")) and not Path(file).exists():
            raise ValueError(f"{self.storage} does not exist, so it has no study {self.study_name}.")
        try:
            return _trials(self.storage, self.study_name)
        except KeyError as error:
            raise ValueError(f"{self.storage} has no study {self.study_name}.") from error

    def _take_trial(self, trial_id: int) -> None:
        """Put a trial's values between the entry and the command line.

        rl_zoo3 2.9 ignores ``--trial-id 0``, and its converters do not know the entry that a trial was sampled around.
        """
        if not self.storage or not self.study_name:
            raise ValueError(f"--trial-id {trial_id} needs --storage and --study-name, to say of which study.")
        self.trial_id = None
        try:
            params = self._trials_of_study()[trial_id].params
        except IndexError as error:
            raise ValueError(f"{self.storage} has no study {self.study_name} with a trial {trial_id}.") from error
        values = self._values_of_trial(params, trial_id)
        print(f"Loaded trial {trial_id} of study {self.study_name}")
        typed = dict(self.custom_hyperparams or {})
        if isinstance(typed.get("policy_kwargs"), dict):
            typed["policy_kwargs"] = {**values.get("policy_kwargs", {}), **typed["policy_kwargs"]}
        self.custom_hyperparams = {**values, **typed}

    def _values_of_trial(self, params: dict[str, Any], trial_id: int) -> dict[str, Any]:
        if self.algo in tuned():
            with redirect_stdout(io.StringIO()):  # the entry without the trial is nobody's news
                _, entry = super().read_hyperparameters()
                hyperparams = copy.copy(self)._preprocess_hyperparams(copy.deepcopy(dict(entry)))[0]
            space = tuning_space(self.algo, entry | _dictionaries(hyperparams))
            if space.parameters.keys() == params.keys():
                return space.entry(params)
        try:  # a study of rl_zoo3's own, in its own space
            values: dict[str, Any] = HYPERPARAMS_CONVERTER[self.algo](params)
        except KeyError as error:
            raise ValueError(
                f"Trial {trial_id} of study {self.study_name} has {', '.join(params) or 'no values'}, and optimize "
                f"--algo {self.algo} samples something else: is the study one of another algorithm?"
            ) from error
        return values

    def _preprocess_hyperparams(self, hyperparams: dict[str, Any]) -> _Preprocessed:
        """Let rl_zoo3 2.9 preprocess what it does not know: the variants' schedules, an activation given by name."""
        if self.algo in ours():
            hyperparams = self._check_own(hyperparams)
        try:
            preprocessed = super()._preprocess_hyperparams(hyperparams)
        except AttributeError as error:  # a dotted path whose module is there
            if not str(error).startswith("module "):
                raise
            raise ValueError(f"{self._where} names what cannot be imported: {error}.") from error
        arguments = preprocessed[0]
        if isinstance(arguments.get("policy_kwargs"), dict):
            arguments["policy_kwargs"] = resolve_policy_kwargs(arguments["policy_kwargs"])
        return preprocessed

    def _check_own(self, hyperparams: dict[str, Any]) -> dict[str, Any]:
        """Check a variant's entry and resolve its schedules: rl_zoo3 2.9 knows four, and takes const_x for lin_x."""
        algorithm = ours()[self.algo]
        arguments = (name for name in constructor_parameters(algorithm.cls) if name not in _FROM_OPTIONS)
        known = [*_ZOO_KEYS, *arguments]
        if knows_masks(algorithm.cls):  # the class says more of them than that MaskablePPO's constructor has none
            known += ["use_sde", "sde_sample_freq"]
        check_keys(hyperparams, known, self._where)
        self._vec_env = hyperparams.get("vec_env")
        entry = {key: value for key, value in hyperparams.items() if key != "vec_env"}
        check_values(entry, algorithm.cls, self._where)
        resolved = resolve_schedules(algorithm.cls, entry, self._where)
        _check_options(algorithm, resolved)
        if self.n_timesteps <= 0 and resolved.get("n_timesteps") is None:
            raise ValueError(f"{self._where} has no n_timesteps: add it, or type -n STEPS.")
        resolved.setdefault("n_timesteps", self.n_timesteps)  # rl_zoo3 2.9 deletes it, whether it is there or not
        return resolved

    @property
    def _where(self) -> str:
        return f"the {self.algo} entry for {self.env_name.gym_id}"

    def create_log_folder(self) -> None:
        """Make a run's folder, but none for a study.

        rl_zoo3 2.9 makes one then too, and afterwards takes it for the latest run, in which enjoy finds no model.
        """
        if not self.optimize_hyperparameters:
            super().create_log_folder()  # type: ignore[no-untyped-call]

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        """Build the environments, by ``vec_env`` too; where MiniGrid's own observations meet SB3, say what to do."""
        vectors: Any = resolve_vec_env(
            self._vec_env,
            self.env_name.gym_id,
            self.eval_env_kwargs if eval_env else self.env_kwargs,
            wrapped=self.env_wrapper is not None,
            where=f"vec_env in {self._where}",
        )
        if vectors is not None:
            self.vec_env_class, self.vec_env_kwargs = vectors, {}
        try:
            return super().create_envs(n_envs, eval_env, no_log or self.optimize_hyperparameters)
        except TypeError as error:
            env_id = self.env_name.gym_id
            if not self.is_minigrid(env_id) or self.env_wrapper is not None:
                raise
            raise ValueError(
                f"{env_id} observes a text beside its image, which no policy of SB3 reads, and {self.config} has no "
                "entry with a wrapper for it: add -params env_wrapper:\"'minigrid.wrappers.FlatObsWrapper'\"."
            ) from error

    @staticmethod
    def _preprocess_schedules(hyperparams: dict[str, Any]) -> dict[str, Any]:
        """Let through what rl_zoo3 2.9 refuses or mistakes: null ``clip_range_vf``, const_x, schedule objects."""
        ready: dict[str, Any] = {}
        for key in ("learning_rate", "clip_range", "clip_range_vf"):
            value = hyperparams.get(key)
            if callable(value) or (value is None and key == "clip_range_vf" and key in hyperparams):
                ready[key] = value
            elif isinstance(value, str) and value.startswith("const_"):
                ready[key] = resolve_schedule(value, key)
        others = {key: value for key, value in hyperparams.items() if key not in ready}
        return ZooExperimentManager._preprocess_schedules(others) | ready

    def objective(self, trial: optuna.Trial) -> float:
        """Run a trial; one of the harness' algorithms is sampled from its space around the user's entry.

        rl_zoo3 2.9 replaces the user's policy_kwargs by the sampled ones, keeps the entry's normalisation and its
        gamma in VecNormalize, reports a NaN or a bug as pruned and takes an infinite score for the best.
        """
        if self.algo not in tuned():
            return super().objective(trial)
        space = tuning_space(self.algo, self._entry | _dictionaries(self._hyperparams), self.n_timesteps)
        entry = space.entry(suggest(trial, space.parameters))
        for key in ("gamma", "n_steps", "batch_size"):  # the space holds them in other units
            trial.set_user_attr(key, entry[key])
        manager = copy.copy(self)  # trials may run in parallel threads
        manager.normalize, manager.normalize_kwargs = False, {}
        manager._preprocess_normalization({key: entry[key] for key in ("normalize", "gamma")})
        manager._hyperparams = self._hyperparams | constructor_arguments(space.algorithm.cls, entry)
        try:
            with sampling_from(space):
                score = super(ExperimentManager, manager).objective(trial)
        except NonFiniteUpdateError as error:
            print(error)
            return math.nan  # Optuna counts it as failed and goes on
        except optuna.TrialPruned as pruned:
            if pruned.__cause__ is None:
                raise
            return math.nan  # an error, which rl_zoo3 has printed
        return score if math.isfinite(score) else math.nan

    def hyperparameters_optimization(self) -> None:
        """Run a study; where no trial came to its end, say that instead of Optuna's ``Record does not exist``."""
        self._check_study()
        try:
            super().hyperparameters_optimization()
        except ValueError as error:
            if str(error) not in _NO_BEST_TRIAL:
                raise
            raise ValueError("No trial was completed, so none is the best: the lines above say why.") from error

    def _check_study(self) -> None:
        """Refuse to go on with a study of another space: Optuna 5 mixes them, or ends with a traceback."""
        is_new_file = self.storage and self.storage.endswith(".log") and not Path(self.storage).exists()
        if self.algo not in tuned() or not self.storage or not self.study_name or is_new_file:
            return
        names = tuning_space(self.algo, self._entry | _dictionaries(self._hyperparams)).parameters.keys()
        try:
            trials = _trials(self.storage, self.study_name)
        except KeyError:  # it is a new study
            return
        finished = [trial.params for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        differ = next((params.keys() ^ names for params in finished if params.keys() != names), None)
        if differ is not None:
            raise ValueError(
                f"Study {self.study_name} in {self.storage} was made for other parameters than those of {self.algo} "
                f"({', '.join(sorted(differ))}): choose another --study-name."
            )


def _check_options(algorithm: Algorithm, entry: dict[str, Any]) -> None:
    """Run what the constructor checks of options, and build nothing."""
    constructor: Any = algorithm.cls
    names = constructor_parameters(constructor).keys() - {"policy", *_FROM_OPTIONS}
    options = {name: value for name, value in entry.items() if name in names}
    constructor("MlpPolicy", None, _init_setup_model=False, **options)


def _trials(storage: str, study_name: str) -> list[optuna.trial.FrozenTrial]:
    """Read a study's trials, from a URL or a file as rl_zoo3 takes them."""
    source: Any = JournalStorage(JournalFileBackend(storage)) if storage.endswith(".log") else storage
    return optuna.load_study(study_name=study_name, storage=source).trials


def _dictionaries(hyperparams: dict[str, Any]) -> dict[str, Any]:
    """Return policy_kwargs as rl_zoo3 read them: an entry may hold them as text, which it evaluates."""
    return {key: hyperparams[key] for key in ("policy_kwargs",) if hyperparams.get(key)}
