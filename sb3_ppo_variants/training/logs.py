"""What an update logs."""

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.utils import explained_variance

from sb3_ppo_variants.training.critic_update import CriticUpdate
from sb3_ppo_variants.update_parts.statistics import RolloutMeasurement, UpdateStatistics


def log_update(
    model: PPO,
    stats: UpdateStatistics,
    measurement: RolloutMeasurement,
    critic: CriticUpdate,
    clip_range_vf: float | None,
) -> None:
    """Record SB3's keys and the diagnostics that every variant adds to them.

    :param model: its logger records them
    :param stats: figures of the update
    :param measurement: the policy that it ended with, against the one that collected the rollout
    :param critic: the critic's part of the update
    :param clip_range_vf: clip range of the value function in the update; None: not logged
    """
    buffer = model.rollout_buffer
    record = model.logger.record
    for key, value in (stats.means() | measurement.logs() | critic.logs(stats.epoch + 1, stats.stop_epoch)).items():
        record(key, value)
    record("train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten()))
    if hasattr(model.policy, "log_std"):
        record("train/std", th.exp(model.policy.log_std).mean().item())
    record("train/n_updates", model._n_updates, exclude="tensorboard")
    record("train/epochs", stats.epoch + 1)
    assert stats.batch is not None
    record("train/clip_range", stats.batch.clip_range)
    if clip_range_vf is not None:
        record("train/clip_range_vf", clip_range_vf)
    if stats.stop_rule is not None:
        record("train/stop_epoch", stats.stop_epoch)
        record("train/stop_reason", int(stats.stop_rule))
