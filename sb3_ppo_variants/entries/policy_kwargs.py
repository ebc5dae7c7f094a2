"""Policy arguments as YAML and Optuna speak them."""

from collections.abc import Mapping
from typing import Any

from torch import nn

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
}


def resolve_policy_kwargs(policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Replace an activation given by name with its class.

    :param policy_kwargs: keyword arguments of an SB3 policy; ``activation_fn`` may be a name of :data:`ACTIVATIONS`
    :return: a new dictionary that SB3's policies accept
    :raises ValueError: if the name is unknown
    """
    resolved = dict(policy_kwargs)
    activation = resolved.get("activation_fn")
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"Unknown activation_fn {activation!r} in policy_kwargs: use one of {', '.join(ACTIVATIONS)}, "
                "or pass the torch.nn class itself."
            )
        resolved["activation_fn"] = ACTIVATIONS[activation]
    return resolved
