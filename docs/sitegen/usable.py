"""Where a variant can be used: found by constructing it, form by form and space by space."""

import contextlib
import warnings
from typing import Any

from gymnasium import spaces

from sb3_ppo_variants.engines.eligibility import why_no_arrays
from sb3_ppo_variants.registry import FAMILIES, Algorithm
from sb3_ppo_variants.testing import (
    BOX,
    DICT,
    DISCRETE,
    IMAGE,
    MULTI_BINARY,
    MULTI_DISCRETE,
    VECTOR,
    MaskedSpaceEnv,
    SpaceEnv,
    make_env,
)

ACTIONS = {"Box": BOX, "Discrete": DISCRETE, "MultiDiscrete": MULTI_DISCRETE, "MultiBinary": MULTI_BINARY}
_OBSERVATIONS = {"vector": (VECTOR, "MlpPolicy"), "image": (IMAGE, "CnnPolicy"), "Dict": (DICT, "MultiInputPolicy")}
FORMS = ("plain", "masks", "memory", "masks and memory")
_PREFIXES = ("", "maskable_", "recurrent_", "maskable_recurrent_")
_TINY = {"n_steps": 8, "batch_size": 4, "device": "cpu"}


def action_rows(variant: Algorithm) -> list[tuple[str, ...]]:
    """Return a line for each kind of action: yes or no for each form, and for the array engines.

    :param variant: of the registry
    """
    rows = []
    for name, actions in ACTIONS.items():
        marks = [_mark(_made(variant, prefix, actions)) for prefix in _PREFIXES]
        plain = _made(variant, "", actions)
        marks.append(_mark(plain is not None and why_no_arrays(plain) is None))
        rows.append((f"``{name}``", *marks))
    return rows


def observations(variant: Algorithm) -> list[str]:
    """Return the kinds of observations that the variant takes, each with the policy that reads it.

    :param variant: of the registry
    """
    return [
        f"{name} (``{policy}``)"
        for name, (space, policy) in _OBSERVATIONS.items()
        if any(_made(variant, "", actions, space, policy) is not None for actions in ACTIONS.values())
    ]


def _made(
    variant: Algorithm,
    prefix: str,
    actions: spaces.Space[Any],
    observed: spaces.Space[Any] = VECTOR,
    policy: str = "MlpPolicy",
) -> Any:
    """Return a small model, or None where the class refuses the spaces or does not exist."""
    form = FAMILIES.get(f"{prefix}{variant.id}") if prefix else variant
    if form is None:
        return None
    kwargs: dict[str, Any] = dict(_TINY)
    if "recurrent" in prefix:
        policy = policy.replace("Policy", "LstmPolicy")
        kwargs["policy_kwargs"] = {"lstm_hidden_size": 8}
    masked = "maskable" in prefix
    if masked and isinstance(actions, spaces.Box):
        return None  # a mask chooses among choices
    env = make_env(observed, actions, env_class=MaskedSpaceEnv if masked else SpaceEnv)
    with contextlib.suppress(ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return form.cls(policy, env, **kwargs)
    return None


def _mark(is_usable: object) -> str:
    return "yes" if is_usable else "no"
