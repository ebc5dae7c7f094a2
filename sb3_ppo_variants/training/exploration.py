"""Exploration noise with memory: a mixin under the loop that checks the option, and keeps the noise."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.preprocessing import get_action_dim

from sb3_ppo_variants.training.checks import check_number
from sb3_ppo_variants.training.sb3_seams import SB3Seams
from sb3_ppo_variants.update_parts.colored_noise import ColoredNoise


class Exploration(SB3Seams):
    """What the policy's Gaussian draws while rollouts are collected. Documented in :class:`UpdateLoop`.

    :ivar exploration_noise: what it draws from; None: fresh draws, as in SB3
    """

    exploration_noise_color: float = 0.0
    exploration_noise: ColoredNoise | None = None
    _noise_settings: list[Any] | None = None

    def _check_options(self) -> None:
        super()._check_options()
        check_number("exploration_noise_color", self.exploration_noise_color, at_least=0, at_most=2)
        if self.exploration_noise_color != 0 and "policy" in vars(self):
            self._check_noise_fits()

    def _check_noise_fits(self) -> None:
        """Refuse noise that the policy would not draw.

        :raises ValueError: if its actions are not those of SB3's diagonal Gaussian
        """
        needs = f"exploration_noise_color={self.exploration_noise_color!r} is about the draws of SB3's Gaussian"
        if not isinstance(self.action_space, spaces.Box):
            raise ValueError(f"{needs}, and the actions are {self.action_space}: leave it out, or use continuous ones.")
        if self.use_sde:
            raise ValueError(f"{needs}, and use_sde=True has noise with a memory of its own: leave out one of them.")
        if getattr(type(self.policy.action_dist), "sample", None) is not DiagGaussianDistribution.sample:
            raise ValueError(f"{needs}, and this policy has a {type(self.policy.action_dist).__name__}: leave it out.")

    def _setup_model(self) -> None:
        noise, settings = self.exploration_noise, self._noise_settings
        super()._setup_model()
        if self.exploration_noise_color != 0:
            self._check_noise_fits()
        # From a file: SB3 seeds all generators here
        self.exploration_noise, self._noise_settings = noise, settings

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed as SB3 does; exploration noise with memory begins anew."""
        super().set_random_seed(seed)
        if seed is not None:
            self.exploration_noise = None

    def _before_rollout(self) -> None:
        self._prepare_noise()
        super()._before_rollout()

    def _prepare_noise(self) -> None:
        """Go on with the noise where the last rollout ended; begin anew if other noise is asked for than it is."""
        if self.exploration_noise_color == 0:
            self.exploration_noise = None
            return
        n_dims = get_action_dim(self.action_space)
        settings = [self.exploration_noise_color, self.seed, self.n_envs, n_dims]
        if self.exploration_noise is None or settings != self._noise_settings:
            seed = int(th.randint(np.iinfo(np.int64).max, ()))
            self.exploration_noise = ColoredNoise(float(self.exploration_noise_color), seed, self.n_envs, n_dims)
            self._noise_settings = settings
        self.exploration_noise.begin_rollout()
