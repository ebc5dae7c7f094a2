"""Tell rl_zoo3 about the algorithms of this package."""

from collections.abc import Mapping
from typing import Any

from sb3_ppo_variants.zoo import INSTALL
from sb3_ppo_variants.zoo.algorithms import ours
from sb3_ppo_variants.zoo.search import samplers


def register() -> None:
    """Make rl_zoo3 train, tune, load and film variants and plug-ins under their ids, in this process.

    rl_zoo3's own algorithms stay what they are. What changes, once, however often it is called:

    - ``rl_zoo3.ALGOS`` and ``rl_zoo3.hyperparams_opt.HYPERPARAMS_SAMPLER`` know the variants; the second samples PPO
      and TRPO too from the harness' spaces;
    - ``rl_zoo3.exp_manager`` and ``rl_zoo3.train`` use this package's experiment manager, a subclass of theirs: it
      finds the registered hyperparameters and mends what :mod:`sb3_ppo_variants.zoo.manager` lists;
    - evaluations, in training, in trials and in ``rl_zoo3.enjoy``, pass action masks to the models that know them.

    :raises ImportError: if rl_zoo3, or something it needs, is not installed
    :raises ValueError: if something else is already registered under one of these names; nothing is changed then
    """
    try:
        import rl_zoo3.enjoy
        import rl_zoo3.exp_manager
        import rl_zoo3.hyperparams_opt
        import rl_zoo3.train
    except ModuleNotFoundError as error:
        raise ImportError(f"rl_zoo3's commands need {error.name}: {INSTALL}", name=error.name) from error
    managers = [rl_zoo3.exp_manager, rl_zoo3.train]
    for place in managers:
        _check_origin(f"{place.__name__}.ExperimentManager", place.ExperimentManager, "exp_manager", "manager")
    enjoy = vars(rl_zoo3.enjoy)
    _check_origin("rl_zoo3.enjoy.create_test_env", enjoy["create_test_env"], "utils", "masks")
    algorithms = {algorithm.id: algorithm.cls for algorithm in ours().values()}
    _check_free("rl_zoo3.ALGOS", rl_zoo3.ALGOS, algorithms)
    zoo_samplers = rl_zoo3.hyperparams_opt.HYPERPARAMS_SAMPLER
    _check_free("rl_zoo3.hyperparams_opt.HYPERPARAMS_SAMPLER", zoo_samplers, samplers())

    from sb3_ppo_variants.evaluation import MaskedEvalCallback
    from sb3_ppo_variants.zoo.manager import ExperimentManager, MaskedTrialEvalCallback
    from sb3_ppo_variants.zoo.masks import Players, names_for_playing

    rl_zoo3.ALGOS.update(algorithms)
    zoo_samplers.update(samplers())
    for place in managers:
        vars(place)["ExperimentManager"] = ExperimentManager
    # With every other model these are what they replace
    vars(rl_zoo3.exp_manager).update(EvalCallback=MaskedEvalCallback, TrialEvalCallback=MaskedTrialEvalCallback)
    if not isinstance(enjoy["ALGOS"], Players):
        enjoy.update(names_for_playing())


def _check_free(where: str, entries: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    for name, value in ours.items():
        if entries.get(name, value) is not value and not _is_tuned_by_rl_zoo3(name, entries[name]):
            raise _foreign(f"{where}[{name!r}]", entries[name])


def _is_tuned_by_rl_zoo3(name: str, sampler: Any) -> bool:
    """Tell whether this is rl_zoo3's own sampler of an algorithm that the harness has a space for, PPO and TRPO."""
    return name not in ours() and sampler.__module__ == "rl_zoo3.hyperparams_opt"


def _check_origin(where: str, found: Any, zoos: str, ours: str) -> None:
    if found.__module__ not in (f"rl_zoo3.{zoos}", f"sb3_ppo_variants.zoo.{ours}"):
        raise _foreign(where, found)


def _foreign(where: str, found: object) -> ValueError:
    return ValueError(
        f"{where} is {found!r}, which is not this package's: take it away, or register it under another name, "
        "before calling register()."
    )
