"""The fixed table behind normalised scores: random policy = 0, stated reference = 1.

A table, not the runs being compared: adding an algorithm to a ranking never moves another's score.
"""

from dataclasses import dataclass

TABLE_VERSION = 1
"""Raised whenever a number below changes: scores of different versions are not comparable."""

FLOOR = -1.0
"""Normalised score of a failed run, and the least that any run can score.

It is as far below the random policy as the reference is above it, so failing never pays.
"""


@dataclass(frozen=True)
class Scale:
    """Raw returns that normalise to 0 and to 1.

    :param random: mean return of uniformly random actions
    :param reference: mean return of a good policy; above ``random``
    :param source: where the reference comes from
    """

    random: float
    reference: float
    source: str

    def __post_init__(self) -> None:
        if not self.reference > self.random:
            raise ValueError(f"reference must be above random, got random={self.random}, reference={self.reference}")

    def normalise(self, score: float | None) -> float:
        """Normalised score of a raw mean return, never below :data:`FLOOR`.

        :param score: raw mean return; None for a failed run
        """
        if score is None:
            return FLOOR
        return max(FLOOR, (score - self.random) / (self.reference - self.random))


_THRESHOLD = "gymnasium's reward_threshold"

# Random: mean of 1,000 episodes measured with random_returns.py (gymnasium 1.4.0, mujoco 4.0.0, Box2D 2.3.10,
# first reset and action space seeded with 0), rounded to three figures; the standard error is below 2.5 %
# of reference - random everywhere.
SCALES: dict[str, Scale] = {
    "CartPole-v1": Scale(22.6, 475, _THRESHOLD),
    "Acrobot-v1": Scale(-499, -100, _THRESHOLD),
    "Pendulum-v1": Scale(-1230, -172, "rl-zoo benchmark, PPO at 100k steps"),
    "MountainCarContinuous-v0": Scale(-33.2, 90, _THRESHOLD),
    "LunarLander-v3": Scale(-180, 200, _THRESHOLD),
    "LunarLanderContinuous-v3": Scale(-214, 200, _THRESHOLD),
    "BipedalWalker-v3": Scale(-99.9, 300, _THRESHOLD),
    "Hopper-v5": Scale(18.0, 3800, _THRESHOLD),
    "HalfCheetah-v5": Scale(-283, 4800, _THRESHOLD),
    "Walker2d-v5": Scale(1.77, 4933, "rl-zoo benchmark, TRPO at 1M steps on Walker2d-v3"),
    "Ant-v5": Scale(-53.4, 6000, _THRESHOLD),
    "Swimmer-v5": Scale(0.651, 360, _THRESHOLD),
    "Reacher-v5": Scale(-42.8, -3.75, _THRESHOLD),
    "InvertedPendulum-v5": Scale(5.14, 950, _THRESHOLD),
    "InvertedDoublePendulum-v5": Scale(47.7, 9100, _THRESHOLD),
}


def scale_of(env_id: str, random: float | None = None, reference: float | None = None) -> Scale:
    """The scale of an environment: the caller's own numbers, or else the table's.

    :param env_id: gymnasium environment id
    :param random: mean return of a random policy, with ``reference``
    :param reference: mean return of a good policy, with ``random``
    :raises ValueError: only one number given, or none and the environment is not in the table
    """
    if random is not None and reference is not None:
        return Scale(random, reference, "study file")
    if random is not None or reference is not None:
        raise ValueError(f"{env_id}: give both random and reference, or neither")
    if env_id not in SCALES:
        raise ValueError(
            f"{env_id}: no normalisation is known; give its random and reference returns in the study file "
            "(python -m sb3_ppo_variants.tuning.study.random_returns measures the first)"
        )
    return SCALES[env_id]
