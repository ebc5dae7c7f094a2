"""What the array engine asks of kernels: the policy's forward pass, its gradient, and Adam."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from sb3_ppo_variants.engines.kernels.head import Head, OldDistribution
from sb3_ppo_variants.engines.kernels.heads import head_of
from sb3_ppo_variants.engines.kernels.layout import ParameterGroup
from sb3_ppo_variants.maths.arrays import FloatArray


class Evaluation(NamedTuple):
    """A minibatch under the current policy; arrays have shape (B,) and are valid until the next call of ``evaluate``.

    :param log_prob: log-probability of each action
    :param values: the critic's predictions; None where the actor alone was asked for
    :param mean_entropy: mean entropy of the action distributions in nats
    :param kl: KL(old||new) of each state in nats; None where it was not asked for
    """

    log_prob: FloatArray
    values: FloatArray | None
    mean_entropy: float
    kl: FloatArray | None


class Drawn(NamedTuple):
    """Actions for some observations; the arrays are the caller's.

    :param actions: shape (B, D)
    :param values: the critic's predictions, shape (B,)
    :param log_probs: log-probability of each action, shape (B,)
    :param are_finite: whether actions and log-probabilities are neither NaN nor infinite
    """

    actions: FloatArray
    values: FloatArray
    log_probs: FloatArray
    are_finite: bool


Act = Callable[[int, FloatArray | None], bool]
"""Draws actions for one step's observations in a buffer, there, given its number and, for a Gaussian, the noise.

Returns whether actions and log-probabilities are neither NaN nor infinite.
"""


class ActorSlopes(NamedTuple):
    """How the loss L changes with what ``evaluate`` returned.

    :param log_prob: dL/d(log-probability) per sample, shape (B,)
    :param entropy: dL/d(entropy), the same for all samples or per sample, shape (B,)
    :param kl: dL/d(KL(old||new)) per sample, shape (B,); None for zero
    """

    log_prob: FloatArray
    entropy: float | FloatArray
    kl: FloatArray | None


class Kernels(ABC):
    """The arithmetic of one plain MLP policy with Adam: actor and critic of linear layers, and one action distribution.

    They know networks, action distributions and Adam, and nothing of rollouts, minibatches, variants or losses.
    Parameters, gradients and moments lie in flat buffers that the torch policy and its optimizer share: what a kernel
    writes there is what ``predict``, ``save`` and callbacks see. Observations have shape (B, inputs), actions shape
    (B, D), both C-contiguous and in ``dtype``.

    :param policy: a policy that :func:`why_no_arrays` finds nothing against
    :param critic_optimizer: the Adam that moves the critic, where it is not the policy's
    :ivar dtype: of the parameters and of all arrays, float32 or float64
    :ivar head: the action distribution in NumPy, for what is done once an update: remembering, measuring
    """

    name: ClassVar[str]
    """What a model's ``engine`` calls them."""

    def __init__(self, policy: ActorCriticPolicy, critic_optimizer: th.optim.Optimizer | None = None) -> None:
        extractor = policy.mlp_extractor
        self.policy = policy
        self._critic_optimizer = critic_optimizer
        self.actor_modules: list[nn.Module] = [*extractor.policy_net, policy.action_net]
        self.critic_modules: list[nn.Module] = [*extractor.value_net, policy.value_net]
        log_std = [policy.get_parameter("log_std")] if hasattr(policy, "log_std") else []
        self.actor_group = ParameterGroup([*_parameters_of(self.actor_modules), *log_std])
        self.critic_group = ParameterGroup(_parameters_of(self.critic_modules))
        self.head: Head = head_of(policy, self.actor_group)
        self.dtype = self.actor_group.values.dtype
        self._torch_dtype = policy.action_net.weight.dtype
        self._parts = _parts(policy)
        self._parameters = [*self.actor_group.parameters, *self.critic_group.parameters]
        self._parameter_ids = {id(parameter) for parameter in self._parameters}
        self._addresses: list[int] = []

    @classmethod
    @abstractmethod
    def why_not(cls, policy: ActorCriticPolicy) -> str | None:
        """Return why these kernels cannot run a policy that array kernels can run in general, or None if they can."""

    def fits(self, policy: ActorCriticPolicy, critic_optimizer: th.optim.Optimizer | None) -> bool:
        """Tell whether the kernels were built for this policy with these layers, parameters, optimizers and dtype."""
        if policy is not self.policy or critic_optimizer is not self._critic_optimizer or _parts(policy) != self._parts:
            return False
        parameters = list(policy.parameters())
        return {id(p) for p in parameters} == self._parameter_ids and parameters[0].dtype == self._torch_dtype

    def bind(self) -> None:
        """Make sure that the torch policy and the buffers hold the same memory, with the values of now.

        Called before each rollout and each update, and after anything else has set parameters.
        """
        self.actor_group.bind(self.policy.optimizer)
        self.critic_group.bind(self._critic_optimizer or self.policy.optimizer)
        self._addresses = self._addresses_of_now()

    def read_parameters(self) -> None:
        """Copy the torch policy's parameters of now; those of a policy that shares no memory, in place of ``bind``."""
        self.actor_group.read()
        self.critic_group.read()
        self._addresses = self._addresses_of_now()

    def is_bound(self, policy: ActorCriticPolicy) -> bool:
        """Tell in a microsecond whether a policy is this one, and its parameters lie where they did at ``bind``.

        :param policy: the model's policy of now
        """
        return policy is self.policy and self._addresses_of_now() == self._addresses

    def unbind(self) -> None:
        """Take it that anything may have changed: :meth:`is_bound` is False until the next ``bind``."""
        self._addresses = []

    def _addresses_of_now(self) -> list[int]:
        return [*map(th.Tensor.data_ptr, self._parameters)]

    def publish(self) -> None:
        """Leave torch's optimizer as if it had made the steps itself; called at the end of an update."""
        self.actor_group.publish(self.policy.optimizer)
        self.critic_group.publish(self._critic_optimizer or self.policy.optimizer)

    # Rollouts: the arrays returned are the caller's; NumPy neither warns nor raises, whatever its settings -----------

    @abstractmethod
    def act(self, observations: FloatArray, noise: FloatArray | None = None) -> Drawn:
        """Draw an action per row.

        :param observations: shape (B, ...), C-contiguous, in float32 or float64
        :param noise: the standard normal draws of a Gaussian, shape (B, D); None: random numbers come from PyTorch's
            global generator, in the order and amount of SB3's distributions
        """

    def act_within(self, buffer: RolloutBuffer) -> Act | None:  # noqa: ARG002 -- what subclasses may do
        """Return what acts as :meth:`act` does, from a buffer's observations into its other rows; None if nothing can.

        :param buffer: SB3's own, just reset; its arrays must stay what they are
        """
        return None

    @abstractmethod
    def values(self, observations: FloatArray) -> FloatArray:
        """Return the critic's values, shape (B,)."""

    @abstractmethod
    def outputs(self, observations: FloatArray) -> FloatArray:
        """Return the outputs of the actor's network, shape (B, K): what ``head`` understands.

        They may be overwritten by the next call.
        """

    # Updates: evaluate, backward, step, in this order, on one minibatch after the other -----------------------------

    @abstractmethod
    def evaluate(
        self,
        observations: FloatArray,
        actions: FloatArray,
        old: OldDistribution | None = None,
        mean_noise: FloatArray | None = None,
        with_critic: bool = True,
    ) -> Evaluation:
        """Run both networks on a minibatch, and remember what ``backward`` needs.

        :param observations: shape (B, inputs)
        :param actions: shape (B, D)
        :param old: the distributions that the actions came from; where the KL is wanted
        :param mean_noise: added to the mean of a Gaussian for the log-probability, shape (B, D)
        :param with_critic: False: the actor alone
        """

    @abstractmethod
    def entropies(self) -> FloatArray:
        """Return the entropy of each action distribution of the minibatch last evaluated, in nats, shape (B,).

        Valid until the next call of ``evaluate``.
        """

    @abstractmethod
    def evaluate_critic(self, observations: FloatArray) -> FloatArray:
        """Run the critic alone on a minibatch, and remember what ``backward`` needs; return its values, shape (B,).

        :param observations: shape (B, inputs)
        """

    @abstractmethod
    def backward(self, value_slope: FloatArray | None, actor: ActorSlopes | None) -> float:
        """Write the loss's gradient by all parameters for the minibatch last evaluated; return its squared norm.

        :param value_slope: dL/d(value) per sample, shape (B,); None where only the actor is trained: its gradient
            alone is written, and counts
        :param actor: None where only the critic is trained, likewise
        """

    @abstractmethod
    def step(
        self, settings: Mapping[str, Any], gradient_scale: float, *, actor: bool = True, critic: bool = True
    ) -> None:
        """Take Adam's step with the gradient written by ``backward``.

        :param settings: the torch optimizer's parameter group of this moment: lr, betas, eps
        :param gradient_scale: factor on the gradient, from clipping its norm
        :param actor: whether the actor's parameters move
        :param critic: whether the critic's parameters move
        """


def _parameters_of(modules: list[nn.Module]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]


def _parts(policy: ActorCriticPolicy) -> list[Any]:
    """Return what kernels are built from: the layers in their order with their settings, and the distribution."""
    networks = policy.mlp_extractor
    layers = (*networks.policy_net, policy.action_net, *networks.value_net, policy.value_net)
    return [policy.action_dist, *((layer, layer.extra_repr()) for layer in layers)]
