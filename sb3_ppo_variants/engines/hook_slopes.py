"""How the objective and the critic's loss change with what the networks gave: by a variant's slopes, or by autograd.

A variant may state the derivative of a hook beside it, on arrays; where it does not, the hook itself is differentiated
over the samples of a minibatch.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_ppo_variants.engines.engine import Trainable
from sb3_ppo_variants.engines.samples import Samples
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.update_parts.array_batch import ArrayBatch
from sb3_ppo_variants.update_parts.minibatch import CriticBatch, MiniBatch

_PROBED = 3  # made-up samples that hooks are tried on


class NotOnArraysError(RuntimeError):
    """A hook needs something that array engines do not have."""


class ObjectiveSlopes(NamedTuple):
    """How the objective, surrogate less penalty, changes with each sample's figures; arrays have shape (B,).

    :param log_prob: by the log-probability of the action
    :param kl: by KL(old||new) of the state; None for zero
    :param entropy: by the entropy of the action distribution; None for zero
    """

    log_prob: FloatArray
    kl: FloatArray | None
    entropy: FloatArray | None


class HookSlopes:
    """Derivatives of one model's hooks.

    :param model: its class has the hooks
    :ivar reads_entropies: whether :meth:`objective` has to be given the entropy of each state
    """

    def __init__(self, model: Trainable) -> None:
        self._model = model
        cls = type(model)
        self.reads_entropies = not (
            stands_beside(cls, "_surrogate", "_surrogate_slope") and stands_beside(cls, "_penalty", "_kl_slope")
        )
        self._has_value_slope = stands_beside(cls, "_value_loss", "_value_loss_slope")

    @property
    def are_all_given(self) -> bool:
        """Whether the class states every derivative itself."""
        return self._has_value_slope and not self.reads_entropies

    def surrogate(self, batch: ArrayBatch, samples: Samples, entropies: FloatArray | None) -> FloatArray:
        """Return the derivative of the surrogate alone by the log-probability, shape (B,); see :meth:`objective`."""
        if entropies is None:
            return self._model._surrogate_slope(batch)
        leaves = _Leaves(self._model, batch, samples, entropies)
        return leaves.slopes_of(self._model._surrogate(leaves.minibatch)).log_prob

    def objective(self, batch: ArrayBatch, samples: Samples, entropies: FloatArray | None) -> ObjectiveSlopes:
        """Return the derivatives of surrogate less penalty.

        :param batch: the minibatch
        :param samples: its samples in the rollout
        :param entropies: of its action distributions, shape (B,); only where :attr:`reads_entropies`
        :raises NotOnArraysError: if a hook reads what arrays do not have
        """
        model = self._model
        if entropies is None:
            return ObjectiveSlopes(model._surrogate_slope(batch), model._kl_slope(batch), None)
        leaves = _Leaves(model, batch, samples, entropies)
        objective = model._surrogate(leaves.minibatch)
        penalty = model._penalty(leaves.minibatch)
        return leaves.slopes_of(objective if penalty is None else objective - penalty)

    def value(
        self, values: FloatArray, old_values: FloatArray, returns: FloatArray, clip_range_vf: float | None
    ) -> FloatArray:
        """Return the derivative of each sample's error, whose mean is the critic's loss, by its value, shape (B,)."""
        if self._has_value_slope:
            return self._model._value_loss_slope(values, old_values, returns, clip_range_vf)
        leaf = th.from_numpy(values).requires_grad_()
        batch = CriticBatch(
            returns=th.from_numpy(returns),
            old_values=th.from_numpy(old_values),
            values=leaf,
            clip_range_vf=clip_range_vf,
        )
        loss = self._model._value_loss(batch)
        _check_leaves(loss, [leaf])
        (gradient,) = th.autograd.grad(loss, leaf, allow_unused=True)
        return np.zeros_like(values) if gradient is None else gradient.numpy() * len(values)


def stands_beside(cls: type, hook: str, slope: str) -> bool:
    """Tell whether the class that rules a hook states its slope too: an older class's slope would be another's."""
    ruling = [next(parent for parent in cls.__mro__ if name in vars(parent)) for name in (hook, slope)]
    return ruling[0] is ruling[1]


def why_no_slopes(model: Trainable) -> str | None:
    """Return why the hooks of a model cannot be differentiated on arrays, or None if they can.

    Hooks without a slope beside them are tried on a few made-up samples; the generators are left as they were.

    :param model: a model that has been set up
    """
    slopes = HookSlopes(model)
    if slopes.are_all_given:
        return None
    torch_state, numpy_state = th.get_rng_state(), np.random.get_state()
    try:
        with np.errstate(all="ignore"), th.inference_mode(False):
            _try(slopes, model)
        draws = not th.equal(torch_state, th.get_rng_state()) or not _same(numpy_state, np.random.get_state())
    except NotOnArraysError as error:
        return f"{type(model).__name__}: {error}"
    except Exception as error:  # whatever a hook thinks of made-up samples; PyTorch shows it its own
        return f"a hook of {type(model).__name__} raises {type(error).__name__} on a few samples: {error}"
    finally:
        th.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
    return f"a hook of {type(model).__name__} draws random numbers" if draws else None


def _try(slopes: HookSlopes, model: Trainable) -> None:
    dtype = next(model.policy.parameters()).detach().numpy().dtype
    ones, ramp = np.ones(_PROBED, dtype), np.linspace(-0.5, 0.5, _PROBED, dtype=dtype)
    actions = np.zeros((_PROBED, model.rollout_buffer.action_dim), dtype)
    batch = ArrayBatch(
        actions=actions,
        advantages=ramp,
        old_log_prob=-ones,
        log_ratio=ramp,
        ratio=np.exp(ramp),
        clip_range=model._current_clip_range(),
        kl=np.abs(ramp) if model.needs_old_distribution else None,
    )
    samples = Samples(actions, ones, -ones, ramp, ramp, old=None)
    if slopes.reads_entropies:
        slopes.objective(batch, samples, ones)
    slopes.value(ramp, ones, -ones, model._current_clip_range_vf())


class _Leaves:
    """A minibatch as hooks see it; its log-probabilities, KLs and entropies are leaves of autograd."""

    def __init__(self, model: Trainable, batch: ArrayBatch, samples: Samples, entropies: FloatArray) -> None:
        self._like = batch.log_ratio
        self._log_prob = th.from_numpy(batch.old_log_prob + batch.log_ratio).requires_grad_()
        self._entropy = th.from_numpy(entropies).requires_grad_()
        self._kl = None if batch.kl is None else th.from_numpy(batch.kl).requires_grad_()
        actions = th.from_numpy(batch.actions)
        self.minibatch = _LeafBatch(
            actions=actions.long().flatten() if isinstance(model.action_space, spaces.Discrete) else actions,
            advantages=th.from_numpy(batch.advantages),
            returns=th.from_numpy(samples.returns),
            old_values=th.from_numpy(samples.old_values),
            old_log_prob=th.from_numpy(batch.old_log_prob),
            values=_absent("values"),
            log_prob=self._log_prob,
            entropy=self._entropy,
            distribution=_absent("distribution"),
            clip_range=batch.clip_range,
            clip_range_vf=model._current_clip_range_vf(),
            old_distribution=_absent("old_distribution"),
            leaf_kl=self._kl,
        )

    def slopes_of(self, objective: th.Tensor) -> ObjectiveSlopes:
        """Return the derivatives of each sample's objective by the leaves."""
        leaves = [leaf for leaf in (self._log_prob, self._kl, self._entropy) if leaf is not None]
        _check_leaves(objective, leaves)
        gradients: list[FloatArray | None] = []
        if objective.requires_grad:
            found = iter(th.autograd.grad(objective.sum(), leaves, allow_unused=True))
            for leaf in (self._log_prob, self._kl, self._entropy):
                gradient = None if leaf is None else next(found)
                gradients.append(None if gradient is None else gradient.numpy())
        by_log_prob, by_kl, by_entropy = gradients or (None, None, None)
        return ObjectiveSlopes(np.zeros_like(self._like) if by_log_prob is None else by_log_prob, by_kl, by_entropy)


@dataclass(frozen=True, eq=False, kw_only=True)
class _LeafBatch(MiniBatch):
    """A minibatch from arrays, whose KL is a leaf."""

    leaf_kl: th.Tensor | None

    @property
    def kl(self) -> th.Tensor:
        if self.leaf_kl is None:
            raise ValueError("This minibatch has no old distribution: set needs_old_distribution on the variant.")
        return self.leaf_kl


class _Absent:
    """Stands where arrays have nothing; whatever is done with it raises.

    :param name: the attribute of the minibatch
    """

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def _refuse(self, *_arguments: Any, **_keywords: Any) -> NoReturn:
        name = object.__getattribute__(self, "_name")
        raise NotOnArraysError(f"a hook reads batch.{name}, which only the PyTorch engine has")

    __getattribute__ = __array__ = __float__ = __bool__ = __iter__ = __len__ = __getitem__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __neg__ = __abs__ = __pow__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse


def _absent(name: str) -> Any:
    return _Absent(name)


def _check_leaves(result: th.Tensor, leaves: list[th.Tensor]) -> None:
    """Refuse a result that hangs on other tensors that are trained, such as the policy's parameters."""
    known, waiting, seen = {id(leaf) for leaf in leaves}, [result.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in known:
            raise NotOnArraysError("a hook differentiates more than the minibatch, such as the policy's parameters")
        waiting += [parent for parent, _ in node.next_functions]


def _same(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
