"""Clip bounds for each sample from one KL budget: wide for unlikely actions, narrow for likely ones."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import Schedule
from typing_extensions import Unpack

from sb3_ppo_variants.maths import clip_bounds, losses
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.maths.clip_bounds import Bounds
from sb3_ppo_variants.search_space import FloatRange, SearchSpace
from sb3_ppo_variants.training.checks import check_number
from sb3_ppo_variants.training.gaussian import check_gaussian, normal_of
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs
from sb3_ppo_variants.training.schedules import Range
from sb3_ppo_variants.training.update_loop import UpdateLoop
from sb3_ppo_variants.update_parts.array_batch import ArrayBatch
from sb3_ppo_variants.update_parts.minibatch import MiniBatch


class TrustRegionGuided(UpdateLoop):
    r"""Each sample has its own clip range: the ratios that a policy within a KL budget can give to that action.

    Objective: :math:`\min(rA, \mathrm{clamp}(r, l, u)A)`, with l and u from ``kl_delta`` (see
    :mod:`sb3_ppo_variants.maths.clip_bounds` for the equations):

    - Discrete, MultiDiscrete, MultiBinary: the two roots of KL(old||new) = delta when only the probability of the
      action taken is moved. An action of several components is one event with the product of their probabilities: no
      policy within the budget can give it a ratio outside the bounds, though one whose components are independent
      may not reach them.
    - Box, with gSDE too: the extrema over all Gaussians with KL(new||old) <= delta, one dimension for all.

    In the paper: l and u are introduced as two optimisation problems, min and max over :math:`\pi` of
    :math:`\pi(a|s)/\pi_{old}(a|s)` where the KL is at most :math:`\delta`. They are ``bounds`` here,
    :math:`\delta` is ``kl_delta``, and its ratio and advantage are ``ratio`` and ``advantages``.

    The paper has KL(old||new) for both; the authors' code, which made the published results, has KL(new||old) for
    Gaussians. We follow the code: its rule from :math:`\epsilon` to delta is exact in that direction only. The
    paper also widens the bounds to at least :math:`1 \pm \epsilon`; the code does not, nor do we. The code's table
    takes p within [0.01, 0.99]; here p is taken as it is.

    ``kl_delta=None`` derives delta from ``clip_range`` at each update, so that the bound is :math:`1+\epsilon` at the
    mean action (Box, as the authors' code), or :math:`1\pm\epsilon` at probability 1/2 (all others, this package's
    rule: the code asks for a number, 0.001 on Atari). With a ``kl_delta``, ``clip_range`` only serves
    ``train/clip_fraction``.

    Known failure modes: bounds of unlikely actions are wide (a million for p = 1e-8), so a rare sample with a large
    advantage can move the policy far; the bounds of samples do not bound the KL of the update.

    :param kl_delta: budget per state, in nats, > 0; None derives it from ``clip_range``, which must then be < 1; a
        number or a schedule
    :raises ValueError: if ``kl_delta`` is outside its range, or the policy has continuous actions that are not Gaussian
        (``squash_output``)

    Source: Wang et al. 2019 (1901.10314), "Trust Region-Guided PPO".
    """

    zoo_config: ClassVar[str] = "trgppo"
    limits_step_by: ClassVar[str] = "clip bounds per sample from a KL budget"
    own_search_space: ClassVar[SearchSpace] = {"clip_range": FloatRange(0.1, 0.4)}  # from which the budget follows
    schedulable: ClassVar[Mapping[str, Range]] = {
        "kl_delta": Range(above=0, optional=True),
    }

    def __init__(
        self, policy: Any, env: Any, *, kl_delta: float | Schedule | None = None, **kwargs: Unpack[PPOKwargs]
    ) -> None:
        self.kl_delta = kl_delta
        super().__init__(policy, env, **kwargs)

    @property
    def needs_old_distribution(self) -> bool:  # type: ignore[override]
        """Whether minibatches have the old distribution."""
        return isinstance(self.action_space, spaces.Box)

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.needs_old_distribution:
            check_gaussian(
                self.policy.action_dist, "TRGPPO's bounds for Box actions need a Gaussian (else use TrulyPPO)"
            )
        if self.kl_delta is None:
            check_number("clip_range", self._current_clip_range(), below=1)

    def _surrogate(self, batch: MiniBatch) -> th.Tensor:
        if self.needs_old_distribution:
            assert batch.old_distribution is not None
            old = normal_of(batch.old_distribution)
            standardised = (batch.actions - old.mean) / old.stddev
            bounds = self._gaussian_bounds(standardised.cpu().numpy(), batch.clip_range)
        else:
            bounds = self._categorical_bounds(batch.old_log_prob.cpu().numpy(), batch.clip_range)
        lower, upper = (th.as_tensor(bound).to(batch.ratio) for bound in bounds)
        return losses.bounded_surrogate(batch.ratio, batch.advantages, lower, upper)

    def _surrogate_slope(self, batch: ArrayBatch) -> FloatArray:
        if self.needs_old_distribution:
            assert batch.old_gaussian is not None
            mean, std = batch.old_gaussian
            bounds = self._gaussian_bounds((batch.actions - mean) / std, batch.clip_range)
        else:
            bounds = self._categorical_bounds(batch.old_log_prob, batch.clip_range)
        lower, upper = (bound.astype(batch.ratio.dtype) for bound in bounds)
        return losses.bounded_surrogate_slope(batch.ratio, batch.advantages, lower, upper)

    def _gaussian_bounds(self, standardised: FloatArray, clip_range: float) -> Bounds:
        # Schedules can end just below 0
        derived = clip_bounds.gaussian_kl_delta(max(clip_range, 0.0), standardised.shape[1])
        return clip_bounds.gaussian_bounds(standardised, self._budget(derived))

    def _categorical_bounds(self, old_log_prob: FloatArray, clip_range: float) -> Bounds:
        derived = clip_bounds.categorical_kl_delta(max(clip_range, 0.0))
        return clip_bounds.categorical_bounds(np.exp(old_log_prob), self._budget(derived))

    def _budget(self, derived: float) -> float:
        given: float | None = self._current("kl_delta")
        return derived if given is None else given


class TRGPPO(TrustRegionGuided, PPO):  # noqa: D101 -- the mixin documents both
    __doc__ = TrustRegionGuided.__doc__
