"""Tell rl_zoo3 about the algorithms of this package."""

from collections.abc import Mapping
from typing import Any

from sb3_ppo_variants.zoo.algorithms import ALGORITHMS
from sb3_ppo_variants.zoo.search import SAMPLERS

INSTALL = 'pip install "sb3-ppo-variants[zoo]"'


def register() -> None:
    """Make rl_zoo3 train, tune, load and film the variants under their ids, in this process.

    rl_zoo3's own algorithms stay what they are. What changes, once, however often it is called:

    - ``rl_zoo3.ALGOS`` and ``rl_zoo3.hyperparams_opt.HYPERPARAMS_SAMPLER`` know the variants;
    - ``rl_zoo3.exp_manager`` and ``rl_zoo3.train`` use this package's experiment manager, a subclass of theirs: it
      finds the registered hyperparameters and mends what :mod:`sb3_ppo_variants.zoo.manager` lists;
    - that module's evaluations, in training and in trials, pass action masks to the models that know them.

    :raises ImportError: if rl_zoo3, or something it needs, is not installed
    :raises ValueError: if something else is already registered under one of these names; nothing is changed then
    """
    try:
        import rl_zoo3.exp_manager
        import rl_zoo3.hyperparams_opt
        import rl_zoo3.train
    except ModuleNotFoundError as error:
        raise ImportError(f"rl_zoo3's commands need {error.name}: {INSTALL}", name=error.name) from error
    places = [rl_zoo3.exp_manager, rl_zoo3.train]
    for place in places:
        manager = place.ExperimentManager
        if manager.__module__ not in ("rl_zoo3.exp_manager", "sb3_ppo_variants.zoo.manager"):
            raise _foreign(f"{place.__name__}.ExperimentManager", manager)
    algorithms = {algorithm.id: algorithm.cls for algorithm in ALGORITHMS.values()}
    _check_free("rl_zoo3.ALGOS", rl_zoo3.ALGOS, algorithms)
    samplers = rl_zoo3.hyperparams_opt.HYPERPARAMS_SAMPLER
    _check_free("rl_zoo3.hyperparams_opt.HYPERPARAMS_SAMPLER", samplers, SAMPLERS)

    from sb3_ppo_variants.evaluation import MaskedEvalCallback
    from sb3_ppo_variants.zoo.manager import ExperimentManager, MaskedTrialEvalCallback

    rl_zoo3.ALGOS.update(algorithms)
    samplers.update(SAMPLERS)
    for place in places:
        vars(place)["ExperimentManager"] = ExperimentManager
    # With every other model these two are what they replace
    vars(rl_zoo3.exp_manager).update(EvalCallback=MaskedEvalCallback, TrialEvalCallback=MaskedTrialEvalCallback)


def _check_free(where: str, entries: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    for name, value in ours.items():
        if entries.get(name, value) is not value:
            raise _foreign(f"{where}[{name!r}]", entries[name])


def _foreign(where: str, found: object) -> ValueError:
    return ValueError(
        f"{where} is {found!r}, which is not this package's: take it away, or register it under another name, "
        "before calling register()."
    )
