"""TRPO's constraint at PPO's price: early stop, then backtracking until the KL over the rollout is within bounds."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import Schedule
from typing_extensions import Unpack

from sb3_ppo_variants.search_space import FloatRange, SearchSpace
from sb3_ppo_variants.training.checks import check_count
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs
from sb3_ppo_variants.training.schedules import Range
from sb3_ppo_variants.training.update_loop import StopPoint, UpdateLoop
from sb3_ppo_variants.update_parts.snapshot import ParameterStep
from sb3_ppo_variants.update_parts.statistics import RolloutMeasurement, UpdateStatistics
from sb3_ppo_variants.update_parts.stop import Stop, StopRule

# A single minibatch estimates the KL with noise: leave it SB3's headroom, the backtracking holds the bound
_STOP_HEADROOM = 1.5
# The networks compute in float32: stay this far inside, so that the promise holds however the KL is measured again
_ROUNDING_MARGIN = 1e-3


class TrustRegion(UpdateLoop):
    r"""After every update the mean KL(old||new) over the whole rollout is at most ``max_kl``.

    The clipped update runs until a minibatch's k3 estimate exceeds 1.5 ``max_kl``. Then the step of every parameter
    that the action distribution depends on is shrunk,

        theta = theta_old + shrink_factor^k (theta_new - theta_old),  k = 0 .. max_backtracks,

    until the exact KL over the rollout is at most ``max_kl`` and the unclipped surrogate mean(r A) is no
    worse than before; if no k does, those parameters are the old ones, bit for bit. The critic's own parameters keep
    their training; parameters that actor and critic share follow the actor. Adam's moments are kept.

    Prior art: KLE-Rollback of Dossa et al. 2021 rolls the policy back after an early stop. Here the KL that decides is
    exact and over the whole rollout, and the step is shrunk before it is rolled back altogether.

    The KL is analytic for all distributions of SB3; with a custom one that has no closed form it is the k3
    estimate, and the log key says so (``train/kl_k3``). Logs ``train/step_fraction`` (1: the whole step, 0: rolled
    back) and ``train/backtracks``.

    In TRPO's paper: the constraint :math:`\bar D_{KL}(\theta_{old}, \theta) \le \delta` and, in appendix C, the line
    search along the step; :math:`\delta` is ``max_kl`` here, the surrogate its importance-weighted objective.

    KL(old||new) is TRPO's constraint in its paper, in Spinning Up and in OpenAI baselines; sb3-contrib's TRPO bounds
    KL(new||old). The defaults are sb3-contrib's.

    Known failure mode: with a learning rate far too large every step is rolled back and nothing is learned;
    ``train/step_fraction`` shows it.

    :param max_kl: bound on the mean KL of an update, in nats, > 0; a number or a schedule
    :param shrink_factor: by how much each backtrack shrinks the step, in (0, 1); a number or a schedule
    :param max_backtracks: number of shrunken steps to try before the update is rolled back, >= 0
    :raises ValueError: if an own parameter is outside its range

    Source: the constraint and line search of TRPO (Schulman et al. 2015, 1502.05477, appendix C), put behind
    PPO's update; the combination is this package's construction. Dossa, Huang, Ontanon, Matsubara 2021, "An Empirical
    Investigation of Early Stopping Optimizations in Proximal Policy Optimization", IEEE Access,
    doi:10.1109/ACCESS.2021.3106662.
    """

    zoo_config: ClassVar[str] = "trust_region_ppo"
    limits_step_by: ClassVar[str] = "early stop, then backtracking into KL <= max_kl"
    own_search_space: ClassVar[SearchSpace] = {
        "clip_range": FloatRange(0.1, 0.4),
        "max_kl": FloatRange(0.003, 0.05, log=True),
    }
    schedulable: ClassVar[Mapping[str, Range]] = {
        "max_kl": Range(above=0),
        "shrink_factor": Range(above=0, below=1),
    }

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        max_kl: float | Schedule = 0.01,
        shrink_factor: float | Schedule = 0.8,
        max_backtracks: int = 10,
        **kwargs: Unpack[PPOKwargs],
    ) -> None:
        self.max_kl = max_kl
        self.shrink_factor = shrink_factor
        self.max_backtracks = max_backtracks
        super().__init__(policy, env, **kwargs)

    def _check_options(self) -> None:
        super()._check_options()
        check_count("max_backtracks", self.max_backtracks)

    def _should_stop(self, point: StopPoint, stats: UpdateStatistics) -> Stop | str | None:
        if point == "before_step" and stats.minibatch_kl > _STOP_HEADROOM * self._current("max_kl"):
            return Stop(StopRule.MINIBATCH_KL, f"minibatch KL {stats.minibatch_kl:.4g} above {_STOP_HEADROOM} * max_kl")
        return super()._should_stop(point, stats)

    def _after_update(self, measurement: RolloutMeasurement) -> RolloutMeasurement:
        fraction, backtracks = 1.0, 0
        if not self._is_within(measurement):
            step = self._actor_step()
            for backtracks in range(1, self.max_backtracks + 1):
                fraction = self._current("shrink_factor") ** backtracks
                step.scale(fraction)
                measurement = self._measure_rollout()
                if self._is_within(measurement):
                    break
            else:
                fraction = 0.0
                step.undo()
                measurement = self._measure_rollout()
        self.logger.record("train/step_fraction", fraction)
        self.logger.record("train/backtracks", backtracks)
        return measurement

    def _actor_step(self) -> ParameterStep:
        """Return the step of every tensor that the action distribution depends on, found by differentiating it."""
        assert self._update is not None
        parameters = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]
        # At the old parameters, since the new ones may not give a distribution at all. Without cuDNN, which refuses
        # to differentiate an LSTM in evaluation mode.
        with self._update.old_policy.installed(), th.enable_grad(), th.backends.cudnn.flags(enabled=False):
            log_prob = self._evaluate(next(self._rollout_chunks())).log_prob
            gradients = th.autograd.grad(log_prob.sum(), parameters, allow_unused=True)
        actor = [p for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None]
        # Running statistics (batch normalisation) act on the distribution without a gradient
        return self._update.old_policy.step_of([*actor, *self.policy.buffers()])

    def _is_within(self, measurement: RolloutMeasurement) -> bool:
        # Comparisons with NaN are False: a policy that is not finite is never accepted
        return measurement.kl <= self._current("max_kl") * (1 - _ROUNDING_MARGIN) and measurement.surrogate_gain >= 0


class TrustRegionPPO(TrustRegion, PPO):  # noqa: D101 -- the mixin documents both
    __doc__ = TrustRegion.__doc__
