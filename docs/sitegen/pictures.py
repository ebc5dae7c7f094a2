"""Pictures of what a variant's hooks say of one sample: the objective, and its slope, over the probability ratio.

They are drawn from the class itself: its ``_surrogate`` and ``_penalty`` are called on samples of an action that had
the probability ``OLD_PROBABILITY`` of two, so that a ratio fixes the new policy, and with it the KL of the state.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from stable_baselines3.common.distributions import CategoricalDistribution

from sb3_ppo_variants import MiniBatch, UpdateLoop
from sb3_ppo_variants.testing import BOX, VECTOR, make_env

OLD_PROBABILITY = 0.4
CLIP_RANGE = 0.2
RATIOS = np.linspace(0.3, 2.2, 381)
_INK = "#7d8590"  # reads on a white page and on a dark one
_STYLE = {
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "lines.color"), _INK
    ),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "sb3_ppo_variants",  # the same picture is the same file
}
_GOOD, _BAD = "#2a9d5c", "#d1495b"


class Curve(NamedTuple):
    """A variant's objective for one sign of the advantage, shape (ratios,) each.

    :param objective: surrogate less penalty
    :param slope: d(objective)/d(ratio)
    """

    objective: np.ndarray
    slope: np.ndarray


def model_of(cls: type[Any], **options: Any) -> Any:
    """Return a model of a variant whose hooks can be called.

    :param cls: the variant's class
    :param options: its own parameters
    """
    kwargs = {"n_steps": 8, "batch_size": 8, "device": "cpu", "clip_range": CLIP_RANGE, **options}
    try:
        return cls("MlpPolicy", make_env(VECTOR, spaces.Discrete(2)), **kwargs)
    except ValueError:  # RPO: Gaussians only; its objective is that of the ratio alone
        return cls("MlpPolicy", make_env(VECTOR, BOX), **kwargs)


def curve(model: UpdateLoop, advantage: float) -> Curve:
    """Return what a model's hooks say of samples with this advantage over :data:`RATIOS`.

    :param model: of a variant
    :param advantage: A, the same for all samples
    """
    ratio = th.tensor(RATIOS, dtype=th.float64, requires_grad=True)
    old = th.full_like(ratio, OLD_PROBABILITY)
    batch = MiniBatch(
        actions=th.zeros(len(RATIOS), dtype=th.long),
        advantages=th.full_like(old, advantage),
        returns=old,
        old_values=old,
        values=old,
        old_log_prob=old.log(),
        log_prob=(ratio * OLD_PROBABILITY).log(),
        entropy=None,
        distribution=_two_actions(ratio * OLD_PROBABILITY),
        old_distribution=_two_actions(old),
        clip_range=CLIP_RANGE,
        clip_range_vf=None,
    )
    objective = model._surrogate(batch)
    penalty = model._penalty(batch)
    total = objective if penalty is None else objective - penalty
    (slope,) = th.autograd.grad(total.sum(), ratio)
    return Curve(total.detach().numpy(), slope.numpy())


def _two_actions(probability: th.Tensor) -> CategoricalDistribution:
    logits = th.stack([probability, 1 - probability], dim=1).log()
    return CategoricalDistribution(2).proba_distribution(logits)


def draw_variant(cls: type[Any], cases: Sequence[Mapping[str, Any]], folder: Path, name: str) -> None:
    """Write ``name.svg``: objective and slope, a line style for each case.

    :param cls: the variant's class
    :param cases: own parameters of each case, with ``label``
    :param folder: where the pictures go
    :param name: of the file
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 2.9))
        left, right = figure.subplots(1, 2)
        for case, dashes in zip(cases, ("-", "--", ":"), strict=False):
            pair = _both_signs(cls, case)
            _plot(left, pair, "objective", dashes, case.get("label", ""))
            _plot(right, pair, "slope", dashes, case.get("label", ""))
        _finish(left, "objective")
        _finish(right, "slope d(objective)/dr")
        left.legend(frameon=False, fontsize=7)
        figure.subplots_adjust(left=0.06, right=0.99, bottom=0.17, top=0.9, wspace=0.18)
        _save(figure, folder / f"{name}.svg")


def draw_gallery(entries: Mapping[str, tuple[type[Any], Mapping[str, Any]]], folder: Path) -> None:
    """Write ``gallery.svg``: the slopes of all variants side by side.

    :param entries: title -> class and own parameters
    :param folder: where the pictures go
    """
    rows = -(-len(entries) // 3)
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 1.75 * rows))
        axes = figure.subplots(rows, 3, sharex=True, sharey=True).flat
        for (title, (cls, case)), axis in zip(entries.items(), axes, strict=False):
            _plot(axis, _both_signs(cls, case), "slope", "-", "")
            _finish(axis, title, label="")
            axis.set_ylim(-3.2, 3.2)
        figure.subplots_adjust(left=0.06, right=0.99, bottom=0.06, top=0.95, wspace=0.08, hspace=0.35)
        _save(figure, folder / "gallery.svg")


def _both_signs(cls: type[Any], case: Mapping[str, Any]) -> tuple[Curve, Curve]:
    model = model_of(cls, **{name: value for name, value in case.items() if name != "label"})
    return curve(model, 1.0), curve(model, -1.0)


def _plot(axis: Axes, pair: tuple[Curve, Curve], what: str, dashes: str, label: str) -> None:
    for line, colour, sign in zip(pair, (_GOOD, _BAD), ("A = 1", "A = −1"), strict=True):
        text = ", ".join(part for part in (sign, label) if part)
        axis.plot(RATIOS, getattr(line, what), dashes, color=colour, label=text, linewidth=1.6)


def _finish(axis: Axes, title: str, label: str = "ratio r = new / old") -> None:
    axis.axvline(1.0, linewidth=0.6, color=_INK)
    axis.axhline(0.0, linewidth=0.6, color=_INK)
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(label, fontsize=8)
    axis.tick_params(labelsize=8)
    low, high = axis.get_ylim()
    axis.set_ylim(max(low, -6), min(high, 6))


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, transparent=True, metadata={"Date": None})
