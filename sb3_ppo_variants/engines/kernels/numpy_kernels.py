"""The kernels in NumPy: the reference, which runs everywhere."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from sb3_ppo_variants.engines.kernels.activations import activation_of
from sb3_ppo_variants.engines.kernels.adam import Adam
from sb3_ppo_variants.engines.kernels.gaussian_head import DiagGaussianHead
from sb3_ppo_variants.engines.kernels.head import OldDistribution
from sb3_ppo_variants.engines.kernels.kernels import ActorSlopes, Drawn, Evaluation, Kernels
from sb3_ppo_variants.engines.kernels.layout import ParameterGroup
from sb3_ppo_variants.engines.kernels.mlp import MLP, Layer
from sb3_ppo_variants.engines.rollout_data import rows_of_numbers
from sb3_ppo_variants.maths.arrays import FloatArray, is_finite


class NumpyKernels(Kernels):
    """Networks, action distribution and Adam in NumPy calls.

    :param policy: see :class:`Kernels`
    :param critic_optimizer: see :class:`Kernels`
    """

    name: ClassVar[str] = "numpy"

    def __init__(self, policy: ActorCriticPolicy, critic_optimizer: th.optim.Optimizer | None = None) -> None:
        super().__init__(policy, critic_optimizer)
        self._actor = _mlp(self.actor_modules, self.actor_group)
        self._critic = _mlp(self.critic_modules, self.critic_group)
        # The bits of a continuous action decide what the environment does with it
        is_continuous = isinstance(self.head, DiagGaussianHead)
        self._choose = self._actor.forward_exactly if is_continuous else self._actor.forward
        self._actor_adam = Adam(self.actor_group)
        self._critic_adam = Adam(self.critic_group)
        self._old: OldDistribution | None = None

    @classmethod
    def why_not(cls, policy: ActorCriticPolicy) -> str | None:  # noqa: ARG003, D102 -- see Kernels
        return None

    @np.errstate(all="ignore")
    def act(self, observations: FloatArray, noise: FloatArray | None = None) -> Drawn:  # noqa: D102
        observations = rows_of_numbers(observations, self.dtype)
        outputs = self._choose(observations)
        if noise is None:
            actions, log_probs = self.head.sample(outputs)
        else:
            assert isinstance(self.head, DiagGaussianHead)
            actions, log_probs = self.head.sample(outputs, noise.astype(self.dtype, copy=False))
        values = self._critic.forward(observations)[:, 0].copy()  # the workspace is overwritten by the next pass
        return Drawn(actions, values, log_probs, is_finite(log_probs) and is_finite(actions))

    @np.errstate(all="ignore")
    def values(self, observations: FloatArray) -> FloatArray:  # noqa: D102
        return self._critic.forward(observations)[:, 0].copy()

    def outputs(self, observations: FloatArray) -> FloatArray:  # noqa: D102
        return self._actor.forward(observations)

    def evaluate(  # noqa: D102
        self,
        observations: FloatArray,
        actions: FloatArray,
        old: OldDistribution | None = None,
        mean_noise: FloatArray | None = None,
        with_critic: bool = True,
    ) -> Evaluation:
        outputs = self._actor.forward(observations)
        if mean_noise is None:
            log_prob = self.head.forward(outputs, actions)
        else:
            assert isinstance(self.head, DiagGaussianHead)
            log_prob = self.head.forward(outputs, actions, mean_noise)
        values = self.evaluate_critic(observations) if with_critic else None
        self._old = old
        kl = None if old is None else self.head.kl(old, outputs)
        return Evaluation(log_prob, values, self.head.mean_entropy(), kl)

    def entropies(self) -> FloatArray:  # noqa: D102
        return self.head.entropies()

    def evaluate_critic(self, observations: FloatArray) -> FloatArray:  # noqa: D102
        return self._critic.forward(observations)[:, 0]

    def backward(self, value_slope: FloatArray | None, actor: ActorSlopes | None) -> float:  # noqa: D102
        squared_norm = self.dtype.type(0.0)
        if value_slope is not None:
            self._critic.backward(value_slope[:, None])
            squared_norm += np.dot(self.critic_group.gradients, self.critic_group.gradients)
        if actor is not None:
            self._actor.backward(self.head.backward(actor.log_prob, actor.entropy, actor.kl, self._old))
            squared_norm += np.dot(self.actor_group.gradients, self.actor_group.gradients)
        return float(squared_norm)

    def step(  # noqa: D102
        self, settings: Mapping[str, Any], gradient_scale: float, *, actor: bool = True, critic: bool = True
    ) -> None:
        if critic:
            self._critic_adam.step(settings, gradient_scale)
        if actor:
            self._actor_adam.step(settings, gradient_scale)


def _mlp(modules: list[nn.Module], group: ParameterGroup) -> MLP:
    layers = []
    for index, module in enumerate(modules):
        if not isinstance(module, nn.Linear):
            continue
        following = modules[index + 1] if index + 1 < len(modules) else None
        layers.append(
            Layer(
                weight=group.value(module.weight),
                bias=group.value(module.bias),
                weight_gradient=group.gradient(module.weight),
                bias_gradient=group.gradient(module.bias),
                activation=None if following is None else activation_of(following),
            )
        )
    return MLP(layers)
