"""Ids, exports and hyperparameters of the families."""

import inspect

import pytest
from families_helpers import FAMILIES as MIXINS
from families_helpers import class_of
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from typer.testing import CliRunner

import sb3_ppo_variants
from sb3_ppo_variants import cli
from sb3_ppo_variants.experiment import Experiment, registered_entry, registered_envs
from sb3_ppo_variants.registry import ALGORITHMS, FAMILIES, VARIANTS, get_algorithm
from sb3_ppo_variants.training.update_loop import UpdateLoop

BASES: dict[str, type[OnPolicyAlgorithm]] = {
    "maskable": MaskablePPO,
    "recurrent": RecurrentPPO,
    "maskable_recurrent": RecurrentPPO,
}
IDS = [(p, variant_id) for p in BASES for variant_id in VARIANTS if variant_id != "rpo" or p == "recurrent"]


def test_every_variant_has_its_forms_and_nothing_else_is_there() -> None:
    assert list(FAMILIES) == [f"{prefix}_{variant_id}" for prefix, variant_id in IDS]
    assert not FAMILIES.keys() & ALGORITHMS.keys()


@pytest.mark.parametrize("form_id", ["maskable_rpo", "maskable_recurrent_rpo"])
def test_a_form_that_no_environment_can_run_is_no_algorithm(form_id: str) -> None:
    with pytest.raises(ValueError, match=rf"{form_id} is no algorithm: masks need discrete actions.*clip_ppo"):
        get_algorithm(form_id)


@pytest.mark.parametrize(("prefix", "variant_id"), IDS)
def test_a_form_is_an_exported_class_with_everything_of_its_variant(prefix: str, variant_id: str) -> None:
    form, variant = get_algorithm(f"{prefix}_{variant_id}"), VARIANTS[variant_id]
    family = prefix.title().replace("_", "")
    assert form.cls is class_of(family, variant.cls.__name__)
    assert form.cls is getattr(sb3_ppo_variants, form.cls.__name__)
    assert form.cls.__name__ in sb3_ppo_variants.__all__
    assert issubclass(form.cls, MIXINS[family])
    assert issubclass(form.cls, BASES[prefix])
    mixin = variant.cls.__mro__[1]
    assert issubclass(form.cls, mixin)
    assert inspect.getattr_static(form.cls, "train") is inspect.getattr_static(UpdateLoop, "train")
    assert form.cls.__doc__
    assert form.own_parameters == variant.own_parameters
    assert form.own_search_space == variant.own_search_space
    assert form.limits_step_by == variant.limits_step_by


@pytest.mark.parametrize(("prefix", "variant_id"), IDS)
def test_a_form_takes_the_hyperparameters_of_its_variant(prefix: str, variant_id: str) -> None:
    form_id = f"{prefix}_{variant_id}"
    assert registered_envs(form_id) == registered_envs(variant_id)
    for env_id in ("CartPole-v1", "no-entry-of-its-own"):
        assert registered_entry(form_id, env_id) == registered_entry(variant_id, env_id)
    resolved = Experiment.from_zoo(form_id, "CartPole-v1")
    assert resolved.hyperparameters()["policy"] in get_algorithm(form_id).cls.policy_aliases


def test_list_names_the_forms() -> None:
    output = CliRunner().invoke(cli.app, ["list"]).stdout
    for prefix in BASES:
        assert f"{prefix}_<variant>" in output
