"""Signatures of the extension module that native/module.c makes. Arrays are addresses; 0: not given."""

from typing import NewType

_Policy = NewType("_Policy", object)
_Layers = tuple[tuple[int, int, int, int, int], ...]  # inputs, outputs, offsets of weight and bias, activation
_Network = tuple[_Layers, int, int, int, int, int]  # layers, size and addresses of the flat buffers

def instruction_sets() -> tuple[str, ...]: ...
def policy(
    instructions: str, actor: _Network, critic: _Network, kind: int, choices: tuple[int, ...], log_std: int, /
) -> _Policy: ...
def forward(policy: _Policy, part: int, rows: int, x: int, outputs: int, /) -> None: ...
def act(policy: _Policy, rows: int, x: int, noise: int, actions: int, values: int, log_probs: int, /) -> None: ...
def evaluate(
    policy: _Policy,
    rows: int,
    x: int,
    actions: int,
    mean_noise: int,
    old_outputs: int,
    old_std: int,
    log_probs: int,
    values: int,
    entropies: int,
    kls: int,
    /,
) -> None: ...
def backward(
    policy: _Policy, log_prob_slopes: int, entropy_slopes: int, kl_slopes: int, value_slopes: int, /
) -> float: ...
def adam(
    policy: _Policy,
    part: int,
    step: int,
    gradient_scale: float,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    /,
) -> None: ...
def apply(instructions: str, function: str, count: int, x: int, y: int, /) -> None: ...
