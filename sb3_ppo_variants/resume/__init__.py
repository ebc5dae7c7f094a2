"""Runs that can be killed at any moment and taken up again, with the bits of a run that never was.

:class:`ResumableCheckpoint` is the callback that writes checkpoints; ``ClipPPO.resume(folder, env)``, and the same of
every variant, takes a run up from them. How it is done:

- A checkpoint is written between two rollouts: then there is no rollout to keep.
- At each checkpoint, whether the run is interrupted there or not, all environments begin a new episode with seeds that
  follow from the run's seed and the number of steps (:func:`seed_at`). So no simulator needs to be copied; what an
  environment does must follow from ``reset(seed=...)``.
- Everything else is written down and put back: the model with its optimizer and adapted values, the generators of
  Python, NumPy and PyTorch, wrappers, callbacks, the logger with its files.
"""

from sb3_ppo_variants.resume.archive import has_checkpoint
from sb3_ppo_variants.resume.callback import ResumableCheckpoint
from sb3_ppo_variants.resume.environments import seed_at
from sb3_ppo_variants.resume.model import Resumable, resumable

__all__ = ["Resumable", "ResumableCheckpoint", "has_checkpoint", "resumable", "seed_at"]
