"""Why an update ended early: a number for logs, a text for people."""

from enum import IntEnum
from typing import NamedTuple


class StopRule(IntEnum):
    """The rule that ended the actor's updates for a rollout: ``train/stop_reason`` in the logs, where they ended.

    ======  ===================  =====================================================================================
    number  rule                 which
    ======  ===================  =====================================================================================
    0       ``OTHER``            that of a class outside this package, which returned a text
    1       ``TARGET_KL``        SB3's: the k3 estimate on a minibatch is above 1.5 ``target_kl``
    2       ``MINIBATCH_KL``     the k3 estimate on a minibatch is above ``max_kl`` (KLStopPPO), 1.5 times it
                                 (TrustRegionPPO)
    3       ``EPOCH_KL``         the mean of an epoch's k3 estimates is above ``max_kl`` (KLStopPPO)
    4       ``ROLLOUT_KL``       the exact KL over the rollout is above ``max_kl`` (KLStopPPO)
    5       ``RATIO_DEVIATION``  mean abs(r - 1) on a minibatch is above ``max_ratio_deviation`` (ESPO)
    ======  ===================  =====================================================================================
    """

    OTHER = 0
    TARGET_KL = 1
    MINIBATCH_KL = 2
    EPOCH_KL = 3
    ROLLOUT_KL = 4
    RATIO_DEVIATION = 5


class Stop(NamedTuple):
    """A decision to end the actor's updates for this rollout.

    :param rule: what is logged
    :param text: what is printed
    """

    rule: StopRule
    text: str
