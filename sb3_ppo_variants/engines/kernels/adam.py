"""Adam on flat buffers."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sb3_ppo_variants.engines.kernels.layout import ParameterGroup


class Adam:
    r"""The step of :class:`torch.optim.Adam` with its default flags, on one group's flat buffers.

    .. math:: m \leftarrow \beta_1 m + (1-\beta_1) g, \quad v \leftarrow \beta_2 v + (1-\beta_2) g^2, \quad
        \theta \leftarrow \theta - \alpha \frac{c}{1-\beta_1^t} \frac{m}{\sqrt{v} + c\,\epsilon},
        \quad c = \sqrt{1-\beta_2^t}

    :param group: parameters, gradients and moments

    Source: Kingma & Ba 2015 (1412.6980), algorithm 1.
    """

    def __init__(self, group: ParameterGroup) -> None:
        self._group = group
        self._scratch = np.empty_like(group.values)

    def step(self, settings: Mapping[str, Any], gradient_scale: float) -> None:
        """Take one step.

        :param settings: the torch optimizer's parameter group: lr, betas, eps
        :param gradient_scale: factor on the gradient (from clipping its norm)
        """
        group, scratch = self._group, self._scratch
        beta1, beta2 = settings["betas"]
        group.steps += 1
        group.gradient_scale = gradient_scale

        np.multiply(group.gradients, gradient_scale * (1 - beta1), out=scratch)
        np.multiply(group.first_moments, beta1, out=group.first_moments)
        np.add(group.first_moments, scratch, out=group.first_moments)

        # Scaled before it is squared: a huge gradient that has been clipped to nothing must not overflow here
        np.multiply(group.gradients, gradient_scale * math.sqrt(1 - beta2), out=scratch)
        np.multiply(scratch, scratch, out=scratch)
        np.multiply(group.second_moments, beta2, out=group.second_moments)
        np.add(group.second_moments, scratch, out=group.second_moments)

        second_correction = math.sqrt(1 - beta2**group.steps)
        np.sqrt(group.second_moments, out=scratch)
        np.add(scratch, settings["eps"] * second_correction, out=scratch)
        np.divide(group.first_moments, scratch, out=scratch)
        np.multiply(scratch, settings["lr"] * second_correction / (1 - beta1**group.steps), out=scratch)
        np.subtract(group.values, scratch, out=group.values)
