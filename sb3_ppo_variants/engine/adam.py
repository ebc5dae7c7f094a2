"""Adam on flat buffers."""

from typing import Any

import numpy as np

from sb3_ppo_variants.engine.layout import ParameterGroup


class Adam:
    r"""The step of :class:`torch.optim.Adam` with its default flags, on one group's flat buffers.

    .. math:: m \leftarrow m + (1-\beta_1)(g - m), \quad v \leftarrow \beta_2 v + (1-\beta_2) g^2, \quad
        \theta \leftarrow \theta - \frac{\alpha}{1-\beta_1^t} \frac{m}{\sqrt{v} / \sqrt{1-\beta_2^t} + \epsilon}

    :param group: parameters, gradients and moments

    Source: Kingma & Ba 2015 (1412.6980), algorithm 1.
    """

    def __init__(self, group: ParameterGroup) -> None:
        self._group = group
        self._scratch = np.empty_like(group.values)
        self._update = np.empty_like(group.values)

    def step(self, settings: dict[str, Any], gradient_scale: float) -> None:
        """Take one step.

        :param settings: the torch optimizer's parameter group: lr, betas, eps
        :param gradient_scale: factor on the gradient (from clipping its norm)
        """
        group, scratch, update = self._group, self._scratch, self._update
        beta1, beta2 = settings["betas"]
        group.steps += 1
        gradient = np.multiply(group.gradients, gradient_scale, out=group.gradients)

        np.subtract(gradient, group.first_moments, out=scratch)
        np.multiply(scratch, 1 - beta1, out=scratch)
        np.add(group.first_moments, scratch, out=group.first_moments)

        np.multiply(gradient, gradient, out=scratch)
        np.multiply(scratch, 1 - beta2, out=scratch)
        np.multiply(group.second_moments, beta2, out=group.second_moments)
        np.add(group.second_moments, scratch, out=group.second_moments)

        np.sqrt(group.second_moments, out=scratch)
        np.multiply(scratch, (1 - beta2**group.steps) ** -0.5, out=scratch)
        np.add(scratch, settings["eps"], out=scratch)
        np.divide(group.first_moments, scratch, out=update)
        np.multiply(update, settings["lr"] / (1 - beta1**group.steps), out=update)
        np.subtract(group.values, update, out=group.values)
