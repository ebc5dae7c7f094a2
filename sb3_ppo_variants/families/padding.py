"""Padding: what fills short sequences of a minibatch up to the longest, and must not reach the losses."""

import copy
from dataclasses import replace
from typing import Any

import torch as th
from sb3_contrib.common.maskable.distributions import MaskableCategorical, MaskableMultiCategoricalDistribution
from stable_baselines3.common.distributions import (
    Distribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
)

from sb3_ppo_variants.update_parts.minibatch import MiniBatch


def without_padding(batch: MiniBatch, is_real: th.Tensor) -> MiniBatch:
    """Return the samples of a minibatch that are not padding.

    :param batch: evaluated sequences, padded to the same length and flattened
    :param is_real: which samples are not padding, shape (batch,), bool
    """
    rows = is_real.nonzero().squeeze(1)
    names = ("actions", "advantages", "returns", "old_values", "old_log_prob", "values", "log_prob")
    return replace(
        batch,
        **{name: getattr(batch, name)[rows] for name in names},
        entropy=None if batch.entropy is None else batch.entropy[rows],
        distribution=rows_of(batch.distribution, rows),
    )


def rows_of(distribution: Distribution, rows: th.Tensor) -> Distribution:
    """Return the action distribution of some of a batch's states.

    :param distribution: one of SB3's or sb3-contrib's action distributions; others work if PyTorch's distribution in
        them is made from all the parameters that it names
    :param rows: indices of the states, shape (rows,)
    """
    taken = copy.copy(distribution)
    if isinstance(taken, MaskableMultiCategoricalDistribution):
        taken.distributions = [_rows_of(part, rows) for part in taken.distributions]
    elif isinstance(taken, MultiCategoricalDistribution):
        taken.distribution = [_rows_of(part, rows) for part in taken.distribution]
    else:
        taken.distribution = _rows_of(taken.distribution, rows)
    if isinstance(taken, StateDependentNoiseDistribution):
        taken._latent_sde = taken._latent_sde[rows]
    return taken


def _rows_of(distribution: Any, rows: th.Tensor) -> Any:
    # Checked when the whole batch was made
    options: dict[str, Any] = {"validate_args": False}
    if isinstance(distribution, MaskableCategorical):
        masks = distribution.masks
        return MaskableCategorical(
            logits=distribution._original_logits[rows], masks=None if masks is None else masks[rows], **options
        )
    names = set(distribution.arg_constraints)
    if "logits" in names:  # of equal standing with probs: only one may be given
        names.remove("probs")
    return type(distribution)(**{name: getattr(distribution, name)[rows] for name in names}, **options)
