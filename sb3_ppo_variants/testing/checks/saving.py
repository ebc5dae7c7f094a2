"""Saving, loading, and what goes from one model to another."""

import copy
import io
import json
import zipfile
from typing import Any

import numpy as np

from sb3_ppo_variants.testing.environments import BOX
from sb3_ppo_variants.testing.requirements import (
    learn,
    require,
    require_equal_models,
    require_equal_tensors,
    save_and_load,
    tensors_of,
)
from sb3_ppo_variants.testing.variant import N_STEPS, Variant


def check_save_and_load(variant: Variant) -> None:
    """A model loaded in mid-training continues as the one that was never saved, adaptive state included."""
    for actions in variant.accepted:
        model = learn(variant.make(actions=actions, learning_rate=0.01))
        loaded = save_and_load(model, env=variant.make_env(actions=actions))
        # What a class leaves out of the file it has to make again: the models are the same once both have trained
        left_out = ("start_time", *model._excluded_save_params())
        require_equal_models(model, loaded, "after load()", leave_out=left_out)
        if actions not in (variant.actions, BOX):  # how it goes on depends on nothing that these two do not show
            continue
        for one in (model, loaded):
            one.set_env(variant.make_env(actions=actions))
            one.set_random_seed(5)
            one.learn(N_STEPS, reset_num_timesteps=False)
        require_equal_models(model, loaded, "after training on from load()")


def check_get_and_set_parameters(variant: Variant) -> None:
    """``set_parameters`` takes what ``get_parameters`` of another model gave, optimizer included."""
    model, other = variant.trained(), variant.make(seed=2)
    # SB3 annotates the two ends of this round trip differently; PyTorch's optimizers share the tensors they are given
    parameters: Any = copy.deepcopy(model.get_parameters())
    other.set_parameters(parameters, exact_match=True)
    require_equal_tensors(tensors_of(model), tensors_of(other), "after set_parameters()")
    learn(other, rollouts=1)


def check_custom_objects(variant: Variant) -> None:
    """Loading survives the ``custom_objects`` that rl_zoo3's ``enjoy`` injects."""
    replaced = {"learning_rate": 0.0, "lr_schedule": _zero, "clip_range": _zero}
    loaded = save_and_load(variant.trained(), custom_objects=replaced)
    observation: Any = variant.make_env().reset()
    before, after = (one.predict(observation, deterministic=True)[0] for one in (variant.trained(), loaded))
    require(np.array_equal(before, after), "the model loaded with custom_objects predicts other actions")


def check_saved_file_holds_nothing_big(variant: Variant) -> None:
    """The saved attributes hold no policy: old parameters belong to one update."""
    wide = {"net_arch": [256, 256]}
    env = variant.make_env(all_valid=True)
    sizes = []
    for model in (variant.make(env=env, policy_kwargs=wide), variant.make_baseline(env, policy_kwargs=wide)):
        model.learn(N_STEPS)
        file = io.BytesIO()
        model.save(file)
        with zipfile.ZipFile(file) as archive:
            sizes.append(len(json.dumps(json.loads(archive.read("data")))))
    ours, baseline = sizes
    require(ours < baseline + 32_768, f"the saved attributes take {ours} bytes, the baseline's {baseline}")


def _zero(_: float) -> float:
    return 0.0
