"""What the families share: the faults of sb3-contrib's copies of PPO that theirs is not to inherit."""

import inspect
from typing import Any

from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.training.update_loop import UpdateLoop


class Family(UpdateLoop):
    """Stands between a variant and a class of sb3-contrib, as a variant stands before SB3's PPO.

    :raises ValueError: if advantages are to be normalised over minibatches of one sample
    """

    def _setup_model(self) -> None:
        # SB3's PPO checks this in its constructor, sb3-contrib's copies do not
        rollout = self.n_steps * self.n_envs
        if self.normalize_advantage and min(self.batch_size or rollout, rollout) == 1:
            raise ValueError(
                f"batch_size={self.batch_size} with n_steps={self.n_steps} and {self.n_envs} environments gives "
                "minibatches of one sample, whose advantage cannot be normalised: use larger ones, "
                "or normalize_advantage=False."
            )
        super()._setup_model()

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
        *family_arguments: Any,
    ) -> bool:
        """Collect as sb3-contrib does; at the rollout's end callbacks see the loop's variables, as with SB3."""
        seeing: Any = _SeesTheEnd(callback)
        return super().collect_rollouts(env, seeing, rollout_buffer, n_rollout_steps, *family_arguments)


class _SeesTheEnd:
    """A callback that is given the collecting loop's variables at the end of the rollout too."""

    def __init__(self, callback: BaseCallback) -> None:
        self._callback = callback

    def __getattr__(self, name: str) -> Any:
        return getattr(self._callback, name)

    def on_rollout_end(self) -> None:
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        # What SB3's loop does before this call, and sb3-contrib's loops leave out
        self._callback.update_locals(frame.f_back.f_locals)
        self._callback.on_rollout_end()
