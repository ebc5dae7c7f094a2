"""Feedback rules that keep a measured KL near a desired one, as pure functions."""


def steer_step_size(
    value: float, kl: float, desired_kl: float, *, factor: float, band: float, low: float, high: float
) -> float:
    """Shrink a step-size-like value where the KL is too large, grow it where it is too small.

    Between ``desired_kl / band`` and ``band * desired_kl`` the value stays (dead band). A KL of exactly zero says
    that nothing has been measured yet and never grows the value; neither does NaN.

    :param value: current value, > 0 (a clip range, a learning rate)
    :param kl: measured KL in nats
    :param desired_kl: KL to steer toward in nats, > 0
    :param factor: by how much one correction divides or multiplies, > 1
    :param band: width of the dead band as a factor, >= 1
    :param low: lower bound of the result
    :param high: upper bound of the result
    :return: the new value, in [low, high]
    """
    if kl > band * desired_kl:
        value = value / factor
    elif 0 < kl < desired_kl / band:
        value = value * factor
    return min(max(value, low), high)


def steer_penalty(
    coef: float, kl: float, desired_kl: float, *, factor: float, band: float, low: float, high: float
) -> float:
    """Raise a penalty's coefficient where the KL is too large, lower it where it is too small.

    Between ``desired_kl / band`` and ``band * desired_kl`` it stays, and so it does for a KL that is NaN.

    :param coef: current coefficient, > 0
    :param kl: measured KL in nats
    :param desired_kl: KL to steer toward in nats, > 0
    :param factor: by how much one correction multiplies or divides, >= 1
    :param band: width of the dead band as a factor, >= 1
    :param low: lower bound of the result, > 0: from 0 it could never rise again
    :param high: upper bound of the result
    :return: the new coefficient, in [low, high]

    Source: Schulman et al. 2017 (1707.06347), sec. 4; the bounds are this package's.
    """
    if kl > band * desired_kl:
        coef = coef * factor
    elif kl < desired_kl / band:
        coef = coef / factor
    return min(max(coef, low), high)
