"""PPO with a soft clip."""

from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3 import PPO
from typing_extensions import Unpack

from sb3_ppo_variants import MiniBatch, UpdateLoop
from sb3_ppo_variants.search_space import FloatRange, SearchSpace
from sb3_ppo_variants.training.checks import check_number
from sb3_ppo_variants.training.ppo_kwargs import PPOKwargs


class SoftClip(UpdateLoop):
    r"""A sigmoid takes the place of the clip: the pull fades and never stops.

    Objective: :math:`\frac{4A}{\tau}\,\mathrm{sigmoid}(\tau (r - 1))`, whose slope at r = 1 is PPO's.

    :param temperature: tau > 0; the larger, the sooner the pull fades
    :raises ValueError: if ``temperature`` is outside its range

    Source: Chen et al. 2022 (2205.10047).
    """

    zoo_config: ClassVar[str] = "soft_clip_ppo:soft_clip_ppo"  # soft_clip_ppo.yml in this package
    limits_step_by: ClassVar[str] = "soft clip of the ratio"
    own_search_space: ClassVar[SearchSpace] = {"temperature": FloatRange(1.0, 8.0)}

    def __init__(self, policy: Any, env: Any, *, temperature: float = 4.0, **kwargs: Unpack[PPOKwargs]) -> None:
        self.temperature = temperature
        super().__init__(policy, env, **kwargs)

    def _check_options(self) -> None:
        super()._check_options()
        check_number("temperature", self.temperature, above=0)

    def _surrogate(self, batch: MiniBatch) -> th.Tensor:
        return 4 / self.temperature * batch.advantages * th.sigmoid(self.temperature * (batch.ratio - 1))

    def _surrogate_slope(self, batch: Any) -> Any:
        """Return d(objective)/d(log r) on arrays: it saves the array engines a differentiation."""
        sigmoid = 1 / (1 + np.exp(-self.temperature * (batch.ratio - 1)))
        return 4 * batch.advantages * batch.ratio * sigmoid * (1 - sigmoid)


class SoftClipPPO(SoftClip, PPO):  # noqa: D101 -- the mixin documents both
    __doc__ = SoftClip.__doc__
