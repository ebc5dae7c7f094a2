"""Errors of the training loop."""

_USUAL_CAUSES = {
    "observation": "the environment or VecNormalize returned NaN or inf (find it with SB3's VecCheckNan), or a number "
    "beyond float32's 3.4e38 (scale it)",
    "reward": "the environment returned a NaN or infinite reward: find it with SB3's VecCheckNan",
    "value": "the critic has diverged: normalise returns (VecNormalize) or lower the learning rate",
    "log-prob": "the policy has diverged: lower the learning rate or max_grad_norm, bound the log standard deviation",
    "advantage": "rewards or values overflow: normalise rewards (VecNormalize)",
    "entropy": "the standard deviation of the policy overflows: lower the learning rate or ent_coef",
    "loss": "the ratio or the value error overflows: lower the learning rate or normalise rewards (VecNormalize)",
    "gradient": "the backward pass overflows: lower the learning rate, normalise observations, check custom modules",
}


class NonFiniteUpdateError(ArithmeticError):
    """A NaN or an infinity was found before it could reach the parameters.

    The parameters are the last good ones: the model can be saved, and loaded again.

    :param tensor: the first bad tensor: observation, reward, value, log-prob, advantage, entropy, loss or gradient
    :param where: when it was met, in words
    """

    def __init__(self, tensor: str, where: str) -> None:
        super().__init__(
            f"Non-finite {tensor} {where}. The parameters are the last good ones. Usual cause: {_USUAL_CAUSES[tensor]}."
        )
        self.tensor = tensor
        self.where = where
