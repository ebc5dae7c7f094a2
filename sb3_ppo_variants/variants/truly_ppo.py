"""Rollback: past a trigger on KL or ratio the gradient turns round instead of vanishing."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import Schedule
from typing_extensions import Unpack

from sb3_ppo_variants.maths import losses
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.search_space import Choice, FloatRange, SearchSpace
from sb3_ppo_variants.training.checks import check_choice
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs
from sb3_ppo_variants.training.schedules import Range
from sb3_ppo_variants.training.update_loop import UpdateLoop
from sb3_ppo_variants.update_parts.array_batch import ArrayBatch
from sb3_ppo_variants.update_parts.minibatch import MiniBatch

_ROLLBACK_COEF = {"kl": 5.0, "ratio": 0.3}


class Truly(UpdateLoop):
    r"""Where PPO's gradient vanishes, the objective turns round and drives the policy back.

    With :math:`\alpha` = ``rollback_coef``, :math:`\delta` = ``kl_delta``, :math:`\epsilon` = ``clip_range``, and the
    exact KL(old||new) of each state:

    ===========  =================================  ==========================================  =================
    ``trigger``  triggered samples                  their objective (all others: rA)            in the paper
    ===========  =================================  ==========================================  =================
    "kl"         KL of the state >= delta,          rA - alpha KL: Truly PPO                    second version
                 and rA > A
    "kl"         the same                           alpha = 0: rA without gradient, TR-PPO      eqs. 13 to 15
    "ratio"      A >= 0 and r > 1 + eps, or         (-alpha r + (1 + alpha)(1 +- eps)) A:       eqs. 10 and 11
                 A < 0 and r < 1 - eps              PPO-RB; alpha = 0: PPO's clip
    ===========  =================================  ==========================================  =================

    So ``rollback_coef=0`` means that a triggered sample has no gradient, whatever the trigger. The paper's
    :math:`r_t(\theta)`, :math:`A_t` and :math:`D_{KL}^{s_t}(\theta_{old}, \theta)` are ``ratio``, ``advantages`` and
    ``kl``.

    The paper has two versions. The numbers above are the first one's, which is UAI's; it has no Truly PPO but TR-PPO-RB
    (eq. 16), which past the KL trigger rolls the ratio back, :math:`-\alpha rA` with alpha 0.05. We follow the second
    version and the authors' code: the KL is penalised. Defaults are the code's; eq. 15 has rA >= A where the code and
    we have rA > A. On Humanoid the code drops rA from the triggered objective (alpha 0.4, delta 0.05); we keep it
    everywhere. The code's TR-PPO has delta 0.035 (0.025 in the first version), its Atari runs delta 0.0008 with
    alpha 20, and 0.01 as PPO-RB's alpha.

    Known failure modes: delta is a bound per state and depends on the action space; the objective jumps by
    alpha * delta at the KL trigger (its value only, the gradient does not see it); a large alpha oscillates about the
    trigger. With trigger "kl", ``clip_range`` only serves ``train/clip_fraction``.

    :param trigger: what marks a sample, see above
    :param rollback_coef: alpha >= 0; None: 5 with trigger "kl", 0.3 with trigger "ratio"; a number or a schedule
    :param kl_delta: KL of a state from which trigger "kl" marks its samples, in nats, > 0; a number or a schedule
    :raises ValueError: if an own parameter is outside its range

    Source: Wang et al. 2019, second version 2020 (1903.07940), "Truly Proximal Policy Optimization".
    """

    zoo_config: ClassVar[str] = "truly_ppo"
    limits_step_by: ClassVar[str] = "rollback past a KL or ratio trigger"
    own_search_space: ClassVar[SearchSpace] = {
        "rollback_coef": Choice((None, 0.5, 1.5, 15.0)),
        "kl_delta": FloatRange(0.005, 0.1, log=True),
    }
    schedulable: ClassVar[Mapping[str, Range]] = {
        "rollback_coef": Range(at_least=0, optional=True),
        "kl_delta": Range(above=0),
    }

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        trigger: Literal["kl", "ratio"] = "kl",
        rollback_coef: float | Schedule | None = None,
        kl_delta: float | Schedule = 0.03,
        **kwargs: Unpack[PPOKwargs],
    ) -> None:
        self.trigger = trigger
        self.rollback_coef = rollback_coef
        self.kl_delta = kl_delta
        super().__init__(policy, env, **kwargs)

    def _check_options(self) -> None:
        super()._check_options()
        check_choice("trigger", self.trigger, ("kl", "ratio"))

    @property
    def needs_old_distribution(self) -> bool:  # type: ignore[override]
        """Whether minibatches have the old distribution."""
        return self.trigger == "kl"

    @property
    def _alpha(self) -> float:
        coefficient: float | None = self._current("rollback_coef")
        return _ROLLBACK_COEF[self.trigger] if coefficient is None else coefficient

    def _surrogate(self, batch: MiniBatch) -> th.Tensor:
        if self.trigger == "ratio":
            return losses.rollback_surrogate(batch.ratio, batch.advantages, batch.clip_range, self._alpha)
        if self._alpha:
            return losses.unclipped_surrogate(batch.ratio, batch.advantages)
        triggered = losses.kl_trigger(batch.kl, batch.ratio, batch.advantages, self._current("kl_delta"))
        return losses.flat_where_triggered(batch.ratio, batch.advantages, triggered)

    def _surrogate_slope(self, batch: ArrayBatch) -> FloatArray:
        if self.trigger == "ratio":
            return losses.rollback_surrogate_slope(batch.ratio, batch.advantages, batch.clip_range, self._alpha)
        if self._alpha:
            return losses.unclipped_surrogate_slope(batch.ratio, batch.advantages)
        assert batch.kl is not None
        triggered = losses.kl_trigger(batch.kl, batch.ratio, batch.advantages, self._current("kl_delta"))
        return losses.flat_where_triggered_slope(batch.ratio, batch.advantages, triggered)

    def _penalty(self, batch: MiniBatch) -> th.Tensor | None:
        if self.trigger == "ratio" or not self._alpha:
            return None
        triggered = losses.kl_trigger(batch.kl, batch.ratio, batch.advantages, self._current("kl_delta"))
        return self._alpha * th.where(triggered, batch.kl, 0.0)

    def _kl_slope(self, batch: ArrayBatch) -> FloatArray | None:
        if self.trigger == "ratio" or not self._alpha:
            return None
        assert batch.kl is not None
        triggered = losses.kl_trigger(batch.kl, batch.ratio, batch.advantages, self._current("kl_delta"))
        return np.where(triggered, -self._alpha, 0.0).astype(batch.ratio.dtype)


class TrulyPPO(Truly, PPO):  # noqa: D101 -- the mixin documents both
    __doc__ = Truly.__doc__
