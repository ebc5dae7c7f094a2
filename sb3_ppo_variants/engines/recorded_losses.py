"""The losses that are logged of an update on arrays: from its records, by the torch hooks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_ppo_variants.engines.array_statistics import Stretch
from sb3_ppo_variants.engines.engine import Trainable
from sb3_ppo_variants.engines.kernels.head import Head
from sb3_ppo_variants.engines.samples import Samples
from sb3_ppo_variants.maths.arrays import FloatArray
from sb3_ppo_variants.update_parts.minibatch import MiniBatch
from sb3_ppo_variants.update_parts.statistics import Losses


class RecordedLosses:
    """Gives the losses of some stretches of recorded samples taken together.

    :param model: its hooks compute them
    :param rollout: all samples, in the stored order; another one once their targets have been computed again
    :param head: turns remembered distributions into SB3's
    :param clip_range: clip range of the update
    :param clip_range_vf: clip range of the value function in the update, or None
    """

    def __init__(
        self, model: Trainable, rollout: Samples, head: Head, clip_range: float, clip_range_vf: float | None
    ) -> None:
        self._model = model
        self.rollout = rollout
        self._head = head
        self._clip_range = clip_range
        self._clip_range_vf = clip_range_vf

    def __call__(self, stretches: Sequence[Stretch]) -> Losses:
        """Return the losses of recorded samples.

        :param stretches: where they are recorded
        """
        return self._model._losses(self._batch(stretches))

    def _batch(self, stretches: Sequence[Stretch]) -> MiniBatch:
        """Rebuild recorded samples as the torch hooks see them."""

        def column(name: str) -> th.Tensor:
            return th.from_numpy(np.concatenate([getattr(record, name)[rows] for record, rows in stretches]))

        size, model = self._model.batch_size, self._model
        samples = self.rollout.rows(np.concatenate([record.order[rows] for record, rows in stretches]))
        old_log_prob = th.from_numpy(samples.old_log_prob)
        minibatches = [(record, slice(rows.start // size, -(-rows.stop // size))) for record, rows in stretches]
        entropies = [e for record, part in minibatches for e in record.entropies[part]]
        of_states = [e for record, part in minibatches for e in record.entropies_of_states[part]]
        return _RecordedBatch(
            actions=self._torch_actions(samples.actions),
            advantages=column("advantages"),
            returns=th.from_numpy(samples.returns),
            old_values=th.from_numpy(samples.old_values),
            old_log_prob=old_log_prob,
            values=column("values"),
            log_prob=old_log_prob + column("log_ratios"),
            entropy=th.from_numpy(np.concatenate(of_states)) if of_states else th.tensor(entropies),
            distribution=model.policy.action_dist,  # losses of eligible variants read the ratio and the KL only
            clip_range=self._clip_range,
            clip_range_vf=self._clip_range_vf,
            old_distribution=None if samples.old is None else self._head.as_torch(samples.old),
            recorded_kl=None if samples.old is None else column("kls"),
        )

    def _torch_actions(self, actions: FloatArray) -> th.Tensor:
        tensor = th.from_numpy(actions)
        return tensor.long().flatten() if isinstance(self._model.action_space, spaces.Discrete) else tensor


@dataclass(frozen=True, eq=False)
class _RecordedBatch(MiniBatch):
    """A minibatch rebuilt from arrays: its KL is known, its distribution is gone."""

    recorded_kl: th.Tensor | None = None

    @property
    def kl(self) -> th.Tensor:
        assert self.recorded_kl is not None
        return self.recorded_kl
