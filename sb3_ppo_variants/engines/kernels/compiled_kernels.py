"""The kernels in C. What they compute stands in native/kernels.c; here is what passes between it and Python."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from sb3_ppo_variants.engines.kernels import extension
from sb3_ppo_variants.engines.kernels.head import OldDistribution
from sb3_ppo_variants.engines.kernels.kernels import Act, ActorSlopes, Drawn, Evaluation, Kernels
from sb3_ppo_variants.engines.kernels.layout import ParameterGroup
from sb3_ppo_variants.maths.arrays import FloatArray

# As native/kernels.h counts them
_LINEAR, _TANH, _RELU = range(3)
_CATEGORICAL, _BERNOULLI, _GAUSSIAN = range(3)
_ACTOR, _CRITIC = range(2)

# What draws for SB3's distributions: a tensor's method
_DRAW = {_CATEGORICAL: "exponential_", _BERNOULLI: "uniform_", _GAUSSIAN: "normal_"}

_ACTIVATIONS: dict[type[nn.Module], int] = {nn.Tanh: _TANH, nn.ReLU: _RELU}


class CompiledKernels(Kernels):
    """Networks, action distribution and Adam in C, in float32.

    :param policy: see :class:`Kernels`
    :param critic_optimizer: see :class:`Kernels`
    """

    name: ClassVar[str] = "compiled"

    def __init__(self, policy: ActorCriticPolicy, critic_optimizer: th.optim.Optimizer | None = None) -> None:
        super().__init__(policy, critic_optimizer)
        self._c = extension.native
        self._kind, self._choices = _distribution(policy)
        log_std = self.actor_group.offset(policy.get_parameter("log_std")) if self._kind == _GAUSSIAN else 0
        self._policy = self._c.policy(
            extension.instructions(),
            _network(self.actor_modules, self.actor_group),
            _network(self.critic_modules, self.critic_group),
            self._kind,
            self._choices,
            log_std,
        )
        self._n_inputs = next(module.in_features for module in self.actor_modules if isinstance(module, nn.Linear))
        self._memories: dict[int, _Memory] = {}
        self._evaluated = self._memory(1)

    @classmethod
    def why_not(cls, policy: ActorCriticPolicy) -> str | None:  # noqa: D102 -- see Kernels
        reason = extension.why_not()
        if reason is not None:
            return reason
        if policy.action_net.weight.dtype != th.float32:
            return f"the parameters are {policy.action_net.weight.dtype}; the compiled kernels compute in float32"
        networks = (*policy.mlp_extractor.policy_net, *policy.mlp_extractor.value_net)
        unknown = next((type(m).__name__ for m in networks if type(m) not in (nn.Linear, *_ACTIVATIONS)), None)
        return None if unknown is None else f"the compiled kernels do not know the activation {unknown}"

    def _memory(self, rows: int) -> "_Memory":
        memory = self._memories.get(rows)
        if memory is None:
            memory = self._memories[rows] = _Memory(rows, self._n_inputs, self._kind, self._choices)
        return memory

    # Rollouts -------------------------------------------------------------------------------------------------------

    def act(self, observations: FloatArray, noise: FloatArray | None = None) -> Drawn:  # noqa: D102
        memory = self._memory(len(observations))
        is_wide = observations.dtype == np.float64  # narrowed in C: NumPy would have to be kept from warning
        read = memory.wide if is_wide else memory.x
        read.array[...] = observations if observations.ndim == 2 else observations.reshape(memory.rows, -1)
        memory.draw(noise)
        drawn = memory.drawn
        are_finite = self._c.act(
            self._policy,
            memory.rows,
            memory.wide.address if is_wide else 0,
            memory.x.address,
            memory.noise.address,
            drawn.address,
            memory.values.address,
            memory.log_probs.address,
        )
        return Drawn(drawn.array.copy(), memory.values.array.copy(), memory.log_probs.array.copy(), are_finite)

    def act_within(self, buffer: RolloutBuffer) -> Act | None:  # noqa: D102
        rows, steps = buffer.n_envs, buffer.buffer_size
        memory = self._memory(rows)
        is_wide = buffer.observations.dtype == np.float64
        x = memory.wide if is_wide else memory.x
        arrays = (buffer.observations, buffer.actions, buffer.values, buffer.log_probs)
        parts = (x, memory.drawn, memory.values, memory.log_probs)
        if not all(_repeats(array, part.array, steps) for array, part in zip(arrays, parts, strict=True)):
            return None
        (read, read_by), (actions, actions_by), (values, by), (log_probs, _) = (
            (array.ctypes.data, array.strides[0]) for array in arrays
        )

        def act(step: int, noise: FloatArray | None) -> bool:
            memory.draw(noise)
            observations = read + step * read_by
            are_finite: bool = self._c.act(
                self._policy,
                rows,
                observations if is_wide else 0,
                memory.x.address if is_wide else observations,
                memory.noise.address,
                actions + step * actions_by,
                values + step * by,
                log_probs + step * by,
            )
            return are_finite

        return act

    def values(self, observations: FloatArray) -> FloatArray:  # noqa: D102
        memory = self._memory(len(observations))
        memory.x.array[...] = observations
        self._c.forward(self._policy, _CRITIC, memory.rows, memory.x.address, memory.values.address)
        return memory.values.array.copy()

    def outputs(self, observations: FloatArray) -> FloatArray:  # noqa: D102
        memory = self._memory(len(observations))
        memory.x.array[...] = observations
        self._c.forward(self._policy, _ACTOR, memory.rows, memory.x.address, memory.outputs.address)
        return memory.outputs.array

    # Updates --------------------------------------------------------------------------------------------------------

    def evaluate(  # noqa: D102
        self,
        observations: FloatArray,
        actions: FloatArray,
        old: OldDistribution | None = None,
        mean_noise: FloatArray | None = None,
        with_critic: bool = True,
    ) -> Evaluation:
        self._evaluated = memory = self._memory(len(observations))
        memory.x.array[...] = observations
        memory.actions.array[...] = actions
        if mean_noise is not None:
            memory.noise.array[...] = mean_noise
        if old is not None:
            memory.outputs.array[...] = old.outputs
            memory.old_std.array[...] = 1.0 if old.std is None else old.std
        mean_entropy: float = self._c.evaluate(
            self._policy,
            memory.rows,
            memory.x.address,
            memory.actions.address,
            0 if mean_noise is None else memory.noise.address,
            0 if old is None else memory.outputs.address,
            memory.old_std.address,
            memory.log_probs.address,
            memory.entropies.address,
            memory.kls.address,
            memory.values.address if with_critic else 0,
        )
        return Evaluation(
            memory.log_probs.array,
            memory.values.array if with_critic else None,
            mean_entropy,
            None if old is None else memory.kls.array,
        )

    def entropies(self) -> FloatArray:  # noqa: D102
        return self._evaluated.entropies.array

    def evaluate_critic(self, observations: FloatArray) -> FloatArray:  # noqa: D102
        self._evaluated = memory = self._memory(len(observations))
        memory.x.array[...] = observations
        self._c.evaluate(self._policy, memory.rows, memory.x.address, *(0,) * 7, memory.values.address)
        return memory.values.array

    def backward(self, value_slope: FloatArray | None, actor: ActorSlopes | None) -> float:  # noqa: D102
        memory = self._evaluated
        by_log_prob = by_entropy = by_kl = by_value = 0
        if value_slope is not None:
            memory.value_slopes.array[...] = value_slope
            by_value = memory.value_slopes.address
        if actor is not None:
            memory.log_prob_slopes.array[...] = actor.log_prob
            by_log_prob = memory.log_prob_slopes.address
            entropy = actor.entropy
            if entropy.any() if isinstance(entropy, np.ndarray) else entropy:
                memory.entropy_slopes.array[...] = entropy
                by_entropy = memory.entropy_slopes.address
            if actor.kl is not None:
                memory.kl_slopes.array[...] = actor.kl
                by_kl = memory.kl_slopes.address
        return float(self._c.backward(self._policy, by_log_prob, by_entropy, by_kl, by_value))

    def step(  # noqa: D102
        self, settings: Mapping[str, Any], gradient_scale: float, *, actor: bool = True, critic: bool = True
    ) -> None:
        lr, (beta1, beta2), epsilon = settings["lr"], settings["betas"], settings["eps"]
        for part, group, moves in ((_CRITIC, self.critic_group, critic), (_ACTOR, self.actor_group, actor)):
            if moves:
                group.steps += 1
                group.gradient_scale = gradient_scale
                self._c.adam(self._policy, part, group.steps, gradient_scale, lr, beta1, beta2, epsilon)


class _Placed:
    """An array whose address is known: asking NumPy for it takes longer than copying a minibatch.

    :param shape: of the array, which is C-contiguous
    """

    __slots__ = ("address", "array")

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> None:
        self.array: npt.NDArray[Any] = np.zeros(shape, dtype)
        self.address: int = self.array.ctypes.data


def _repeats(array: npt.NDArray[Any], part: npt.NDArray[Any], times: int) -> bool:
    """Tell whether an array consists of so many parts like this one, in memory one after the other."""
    return (
        type(array) is np.ndarray
        and array.flags.c_contiguous
        and array.dtype == part.dtype
        and array.shape[0] == times
        and array.size == times * part.size
    )


class _Memory:
    """What passes between Python and C for one number of rows.

    :param rows: number of samples
    :param n_inputs: numbers in an observation
    :param kind: of the action distribution
    :param choices: outputs of each part of an action
    """

    def __init__(self, rows: int, n_inputs: int, kind: int, choices: tuple[int, ...]) -> None:
        n_outputs = sum(choices)
        n_actions = len(choices) if kind == _CATEGORICAL else n_outputs
        self.rows = rows
        self.x = _Placed((rows, n_inputs))
        self.wide = _Placed((rows, n_inputs), np.float64)
        self.actions = _Placed((rows, n_actions))
        self.choices = _Placed((rows, n_actions), np.int64)
        self.drawn = self.choices if kind == _CATEGORICAL else self.actions
        self.outputs = _Placed((rows, n_outputs))
        self.old_std = _Placed((n_outputs,))
        self.noise = _Placed((rows, n_outputs))
        # As PyTorch draws for one categorical after the other: the numbers of each are contiguous
        parts = th.split(th.from_numpy(self.noise.array).flatten(), [rows * size for size in choices])
        self._draws = [getattr(part.view(rows, -1), _DRAW[kind]) for part in parts]
        self.log_probs, self.values, self.entropies, self.kls = (_Placed((rows,)) for _ in range(4))
        self.log_prob_slopes, self.value_slopes, self.entropy_slopes, self.kl_slopes = (
            _Placed((rows,)) for _ in range(4)
        )

    def draw(self, noise: FloatArray | None) -> None:
        """Take the noise given, or draw the random numbers that SB3's distribution would draw."""
        if noise is not None:
            self.noise.array[...] = noise
            return
        for draw in self._draws:
            draw()


def _distribution(policy: ActorCriticPolicy) -> tuple[int, tuple[int, ...]]:
    """Return the kind of the action distribution, and the network's outputs for each part of an action."""
    distribution = policy.action_dist
    if isinstance(distribution, MultiCategoricalDistribution):
        return _CATEGORICAL, tuple(int(size) for size in distribution.action_dims)
    is_gaussian, is_bernoulli = (
        isinstance(distribution, kind) for kind in (DiagGaussianDistribution, BernoulliDistribution)
    )
    kind = _GAUSSIAN if is_gaussian else _BERNOULLI if is_bernoulli else _CATEGORICAL
    assert isinstance(policy.action_net, nn.Linear)
    return kind, (policy.action_net.out_features,)


def _network(modules: list[nn.Module], group: ParameterGroup) -> tuple[Any, ...]:
    """Describe a network: its layers, and where its parameters lie.

    :param modules: linear layers, each but the last followed by its activation
    :param group: their parameters
    """
    linears = [module for module in modules if isinstance(module, nn.Linear)]
    activations = [_ACTIVATIONS[type(module)] for module in modules if not isinstance(module, nn.Linear)]
    layers = tuple(
        (linear.in_features, linear.out_features, group.offset(linear.weight), group.offset(linear.bias), activation)
        for linear, activation in zip(linears, [*activations, _LINEAR], strict=True)
    )
    buffers = (group.values, group.gradients, group.first_moments, group.second_moments)
    return layers, group.values.size, *(buffer.ctypes.data for buffer in buffers)
