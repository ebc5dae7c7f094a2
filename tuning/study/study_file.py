"""Study files: what is tuned and ranked, on which environments, with which budget."""

import difflib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypedDict

import gymnasium
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_serializer,
)
from typing_extensions import Unpack

from sb3_ppo_variants.entries.entry import Entry
from sb3_ppo_variants.tuning_space import TuningSpace

from ..runs.faults import describe
from .configurations import Configuration, check_plain, chosen_algorithms, read_algorithms, written_algorithms
from .kept_protocol import kept_study
from .scales import Scale, scale_of
from .unique_keys import load_unique
from .validation_text import one_line


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class EnvironmentBudget(_Section):
    """One environment of a study.

    :param steps: training steps of a run
    :param random: return that normalises to 0, for environments outside the table
    :param reference: return that normalises to 1, for environments outside the table
    :param env_kwargs: arguments of the environment; with them it is another task, which needs its own returns above
    :param n_envs: copies of it that a run trains on
    :param env_wrapper: wrappers of each copy, as in a zoo entry
    :param vec_env_wrapper: wrappers of all copies together, as in a zoo entry
    :param vec_env: "gymnasium" for a vector environment of Gymnasium, as in a zoo entry
    :param normalize: whether, or with which arguments, VecNormalize is put around it
    :param frame_stack: observations that are shown at a time
    """

    steps: int = Field(ge=1)
    random: FiniteFloat | None = None
    reference: FiniteFloat | None = None
    env_kwargs: dict[str, Any] | None = None
    n_envs: int | None = Field(default=None, ge=1)
    env_wrapper: str | dict[str, Any] | list[Any] | None = None
    vec_env_wrapper: str | dict[str, Any] | list[Any] | None = None
    vec_env: str | dict[str, Any] | None = None
    normalize: bool | dict[str, Any] | None = None
    frame_stack: int | None = Field(default=None, ge=1)

    @property
    def settings(self) -> dict[str, Any]:
        """What is given of a zoo entry, for every algorithm: it replaces registered values, and is not tuned."""
        given = self.model_dump(exclude={"steps", "random", "reference"})
        return {name: value for name, value in given.items() if value is not None}


class Budget(_Section):
    """Work per (algorithm, environment), the same for all.

    :param trials: configurations tried; the first is the registered one; 0 ranks the registered ones without tuning
    :param tuning_seeds: runs that score a trial
    :param validation_seeds: runs of each of the best configurations that choose the one to test
    :param test_seeds: runs of the chosen configuration that are ranked
    :param one_for_all: whether, where there are several environments, the best configuration for all of them is sought
        too, among their winners: with many environments as many runs again; false leaves that view out
    :param trials_in_flight: a trial is proposed from all trials this far or further before it; the
        ranking depends on it, and does not depend on the number of workers
    :param time_limit: seconds after which a run is stopped and counts as failed
    :param memory_limit: GiB of memory above which a run's process is stopped and the run counts as failed
    :param checkpoint_every: environment steps after which a run writes a checkpoint, from which it goes on when the
        study was killed, and begins new episodes in its environments: many times as long as an episode, and a part of
        what is ranked; None: a run that was killed begins anew. A Dask cluster's workers keep no checkpoints
    """

    trials: int = Field(ge=0, le=100_000)
    tuning_seeds: int = Field(ge=1, le=10_000)
    validation_seeds: int = Field(default=3, ge=1, le=10_000)
    test_seeds: int = Field(ge=1, le=10_000)
    one_for_all: bool = True
    trials_in_flight: int = Field(default=4, ge=1, le=10_000)
    time_limit: FiniteFloat = Field(default=3600.0, gt=0)
    memory_limit: FiniteFloat = Field(default=4.0, ge=0.5)
    checkpoint_every: int | None = Field(default=None, ge=1)

    @model_serializer(mode="wrap")
    def _without_what_is_not_asked_for(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Protocols of studies that were begun before there were these keys stay what they are
        content: dict[str, Any] = serialise(self)
        neutral = {"checkpoint_every": None, "one_for_all": True}
        return {name: value for name, value in content.items() if name not in neutral or value != neutral[name]}


class EvaluationBudget(_Section):
    """How runs are scored.

    :param episodes: evaluation episodes at each checkpoint
    :param checkpoints: points of the learning curves of test runs; tuning runs are scored at their end only
    """

    episodes: int = Field(default=20, ge=1, le=1000)
    checkpoints: int = Field(default=10, ge=1, le=1000)


class Study(_Section):
    """A study file.

    :param description: one line for the report
    :param algorithms: name -> what is ranked under it. In the file a list: registered algorithm ids, and configurations
        of algorithms under names of their own, ``own_name: {algorithm: clip_ppo, hyperparameters: {n_epochs: 5}}``,
        whose hyperparameters stay as they are when the others are tuned. ``algorithm`` is the name itself by default
    :param environments: gymnasium environment id -> budget
    :param budget: work per (algorithm, environment)
    :param evaluation: how runs are scored
    :param sampler: Optuna's sampler
    :param pruner: "median" gives a trial up between its seeds when it falls behind, "none" never does
    :param seed: every random number of the study follows from it
    :param registered_configurations: name of an algorithm -> environment -> zoo entry that stands in place of the
        registered one: the first trial, or what is ranked without tuning. The folder of a study brings its own
    """

    description: str = ""
    algorithms: dict[str, Configuration] = Field(min_length=1)
    environments: dict[str, EnvironmentBudget] = Field(min_length=1)
    budget: Budget
    evaluation: EvaluationBudget = EvaluationBudget()
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    pruner: Literal["median", "none"] = "median"
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    registered_configurations: dict[str, dict[str, dict[str, Any]]] = {}

    @field_validator("algorithms", mode="before")
    @classmethod
    def _read_algorithms(cls, entries: Any) -> Any:
        return read_algorithms(entries)

    @field_serializer("algorithms")
    def _write_algorithms(self, algorithms: dict[str, Configuration]) -> list[Any]:
        return written_algorithms(algorithms)

    @field_validator("registered_configurations")
    @classmethod
    def _must_be_of_the_study(cls, entries: dict[str, dict[str, Any]], info: ValidationInfo) -> dict[str, Any]:
        for name, by_environment in entries.items():
            _check_known(name, info.data.get("algorithms", entries), "algorithms")
            for env_id in by_environment:
                _check_known(env_id, info.data.get("environments", by_environment), "environments")
        return entries

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every (name of an algorithm, environment), in the order of the file."""
        return [(algorithm, env_id) for algorithm in self.algorithms for env_id in self.environments]

    @property
    def seeks_one_for_all(self) -> bool:
        """Whether each algorithm's best configuration for all environments is sought, among several that were tuned."""
        return self.budget.one_for_all and self.budget.trials > 0 and len(self.environments) > 1

    def scale(self, env_id: str) -> Scale:
        """How returns of ``env_id`` are normalised."""
        budget = self.environments[env_id]
        if budget.env_kwargs and budget.random is None and budget.reference is None:
            raise ValueError(f"{env_id}: env_kwargs make another task of it: give its random and reference returns")
        return scale_of(env_id, budget.random, budget.reference)

    def space(self, algorithm: str, env_id: str) -> TuningSpace:
        """What is tuned for one pair."""
        configuration = self.algorithms[algorithm]
        environment = self.environments[env_id]
        fixed = environment.settings | configuration.hyperparameters
        registered = self.registered_configurations.get(algorithm, {}).get(env_id)
        return TuningSpace.of(configuration.algorithm, env_id, environment.steps, fixed, registered)


def _check_known(name: str, known: Iterable[str], what: str) -> None:
    if name not in known:
        raise ValueError(f"{name} is not one of its {what} ({', '.join(known)})")


def shipped_studies() -> list[str]:
    """Names of the studies that come with the package."""
    folder = resources.files("sb3_ppo_variants.tuning") / "studies"
    return sorted(file.name.removesuffix(".yml") for file in folder.iterdir() if file.name.endswith(".yml"))


class StudyChoices(TypedDict, total=False):
    """What the command line may change in a study; None leaves it as it is.

    :param algorithms: rank these instead of the study's: its own names, or ids; ["all"] for every registered one and
        the study's own
    :param environments: only these of the study's environments; of a folder of a shipped study's results, those too
        that the shipped study has beside the folder's
    :param seed: instead of the study's
    :param sampler: instead of the study's
    :param pruner: instead of the study's
    :param tune: False ranks the registered configurations: no trials
    """

    algorithms: list[str] | None
    environments: list[str] | None
    seed: int | None
    sampler: str | None
    pruner: str | None
    tune: bool


def load_study(name_or_path: str, **choices: Unpack[StudyChoices]) -> Study:
    """Read and check a study, before any work is done.

    :param name_or_path: name of a shipped study, path of a YAML file, or folder of a study's results, whose registered
        configurations of then take the place of those of now
    :param choices: what is to be different
    :raises ValueError: one line that says what is wrong, where, and what would be right
    """
    try:
        return _checked(_changed(Study.model_validate(_content(name_or_path, choices)), choices))
    except ValidationError as error:
        raise ValueError(f"study {name_or_path}: {one_line(error)}") from error
    except ValueError as error:
        raise ValueError(f"study {name_or_path}: {error}") from error


def study_name(name_or_path: str) -> str:
    """What a study is called: of a folder of results, what it was called there.

    :param name_or_path: as in :func:`load_study`
    :raises ValueError: a folder without a study's results
    """
    return kept_study(Path(name_or_path))[0] if _is_folder(name_or_path) else Path(name_or_path).stem


def _is_folder(name_or_path: str) -> bool:
    return name_or_path not in shipped_studies() and Path(name_or_path).is_dir()


def _content(name_or_path: str, choices: StudyChoices) -> dict[str, Any]:
    if _is_folder(name_or_path):
        name, kept = kept_study(Path(name_or_path))
        shipped = load_unique(_read(name))["environments"] if name in shipped_studies() else {}
        more = [env_id for env_id in choices.get("environments") or [] if env_id not in kept["environments"]]
        kept["environments"] |= {env_id: shipped[env_id] for env_id in more if env_id in shipped}
        return kept
    try:
        content = load_unique(_read(name_or_path))
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected keys and values, got {type(content).__name__}")
    return content


def _read(name_or_path: str) -> str:
    if name_or_path in shipped_studies():
        return (resources.files("sb3_ppo_variants.tuning") / "studies" / f"{name_or_path}.yml").read_text("utf-8")
    path = Path(name_or_path)
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(shipped_studies())
        raise ValueError(f"no such file or folder, and no shipped study of that name ({known})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read: {error}") from error


def _changed(study: Study, choices: StudyChoices) -> Study:
    content = study.model_dump()
    instead = {name: choices.get(name) for name in ("seed", "sampler", "pruner")}
    content |= {name: value for name, value in instead.items() if value is not None}
    names = choices.get("algorithms")
    content["algorithms"] = chosen_algorithms(study.algorithms if names is None else names, study.algorithms)
    environments = choices.get("environments")
    if environments is not None:
        unknown = [env_id for env_id in environments if env_id not in study.environments]
        if unknown:
            raise ValueError(f"{unknown[0]} is not one of its environments ({', '.join(study.environments)})")
        content["environments"] = {env_id: content["environments"][env_id] for env_id in environments}
    if not choices.get("tune", True):
        content["budget"]["trials"] = 0
    stays = read_algorithms(content["algorithms"])
    content["registered_configurations"] = {
        name: {env_id: entry for env_id, entry in entries.items() if env_id in content["environments"]}
        for name, entries in study.registered_configurations.items()
        if name in stays
    }
    return Study.model_validate(content)


def _checked(study: Study) -> Study:
    """Everything a model of types cannot know: names, normalisation, rollouts that fit."""
    for name, configuration in study.algorithms.items():
        configuration.check(name)
    for env_id, environment in study.environments.items():
        check_plain(environment.settings, env_id)
        _check_environment(env_id, environment.env_kwargs or {})
        study.scale(env_id)
    for algorithm, env_id in study.pairs:
        space = study.space(algorithm, env_id)
        Entry(space.algorithm.cls, env_id, space.default, name=algorithm)
        space.entry(space.default_params)
    return study


def _check_environment(env_id: str, env_kwargs: dict[str, Any]) -> None:
    try:
        gymnasium.make(env_id, **env_kwargs).close()
    except gymnasium.error.DependencyNotInstalled as error:
        raise ValueError(
            f"{env_id}: {error}. For Box2D and MuJoCo that is pip install 'sb3-ppo-variants[box2d,mujoco]'"
        ) from error
    except Exception as error:  # an environment's constructor may raise anything
        if isinstance(error, TypeError) and env_kwargs:
            raise ValueError(f"{env_id} cannot be made with env_kwargs {env_kwargs}: {error}") from error
        name = env_id.rpartition(":")[2]
        near = [other for other in difflib.get_close_matches(name, gymnasium.registry, n=4) if other != name][:3]
        hint = f" (near: {', '.join(near)})" if near else ""
        known = isinstance(error, gymnasium.error.Error | ImportError)
        reason = " ".join(str(error).split()) if known else describe(error)
        raise ValueError(f"environment {env_id} cannot be made: {reason}{hint}") from error
