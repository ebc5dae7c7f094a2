"""What the checks require of models, and the tools to see it. Every failure is an AssertionError with a reason."""

import pickle
import random
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from sb3_ppo_variants.training.update_loop import UpdateLoop


def require(condition: bool, message: str) -> None:
    """Raise AssertionError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise AssertionError(message)


def learn(model: UpdateLoop, rollouts: int = 2, **arguments: Any) -> UpdateLoop:
    """Train, and require that the parameters have moved and are finite.

    :param model: to be trained
    :param rollouts: number of rollouts
    :param arguments: of the model's ``learn``
    :return: the model
    """
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(rollouts * model.n_steps * model.n_envs, **arguments)
    after = list(model.policy.parameters())
    require(all(bool(th.isfinite(tensor).all()) for tensor in after), "parameters are not finite after learning")
    moved = any(not th.equal(*pair) for pair in zip(before, after, strict=True))
    require(moved, "learning left every parameter as is")
    return model


def save_and_load(model: UpdateLoop, **arguments: Any) -> UpdateLoop:
    """Return what ``load`` makes of the saved model.

    :param model: to be saved
    :param arguments: of ``load``
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.zip"
        model.save(path)
        return type(model).load(path, device="cpu", **arguments)


def random_state() -> bytes:
    """Return the state of the global generators of torch, NumPy and Python."""
    return pickle.dumps((th.get_rng_state().numpy(), np.random.get_state(), random.getstate()))


def tensors_of(model: UpdateLoop) -> dict[str, th.Tensor]:
    """Return copies of every tensor of the policy and of its optimizer by name."""
    named = dict(model.policy.state_dict())
    for index, moments in model.policy.optimizer.state_dict()["state"].items():
        named |= {f"optimizer {index} {name}": th.as_tensor(value) for name, value in moments.items()}
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def require_equal_tensors(ours: Mapping[str, th.Tensor], theirs: Mapping[str, th.Tensor], when: str) -> None:
    """Require tensors of the same names with the same bits.

    :param ours: of :func:`tensors_of`
    :param theirs: of :func:`tensors_of`
    :param when: ends the message
    """
    require(ours.keys() == theirs.keys(), f"the two models hold different tensors {when}")
    different = [name for name, tensor in ours.items() if not th.equal(tensor, theirs[name])]
    require(not different, f"{', '.join(different[:3])} differ{'s' if len(different) == 1 else ''} {when}")


def require_equal_models(
    one: UpdateLoop, other: UpdateLoop, when: str, *, leave_out: Collection[str] = ("start_time",)
) -> None:
    """Require equal parameters, optimizer moments and plain attributes (adaptive state).

    :param one: a model
    :param other: a model of the same class
    :param when: ends the message
    :param leave_out: attributes that may differ
    """
    require_equal_tensors(tensors_of(one), tensors_of(other), when)
    plain = {
        name: value
        for name, value in vars(one).items()
        if isinstance(value, (bool, int, float, str)) and name not in leave_out
    }
    different = [
        f"{name} ({value!r}, {vars(other).get(name)!r})"
        for name, value in plain.items()
        if vars(other).get(name) != value
    ]
    require(not different, f"attributes differ {when}: {', '.join(different)}")
