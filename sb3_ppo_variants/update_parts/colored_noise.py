"""Standard normal draws whose successive values are correlated: exploration noise with memory."""

from typing import Any

import numpy as np
import numpy.typing as npt

_HOP = 2048  # steps after which the next sequence has taken over


class ColoredNoise:
    r"""Gaussian noise with power spectrum :math:`1/f^\beta` along time, for each environment and action dimension.

    Sequences of 4,095 steps come from ``colorednoise`` (Timmer and Koenig 1995), without their mean, whose share is
    what they have above unit variance. They have no beginning or end in the noise: every 2,048 steps the next one is
    faded in while the one before is faded out, with weights :math:`\sin(\pi i / 4096)` and :math:`\cos(\pi i / 4096)`.
    The squares of the weights sum to 1 and the sequences are independent, so each draw is N(0, 1); the correlation
    of two draws that are :math:`\tau` steps apart is :math:`\cos(\pi \tau / 4096)` times that of one sequence. There
    is no seam, neither at a rollout's end nor where a sequence ends. Below one period in 4,096 steps the spectrum is
    flat.

    A sequence is drawn from a generator of its own, seeded with ``seed``, its number and that of the environment. So
    the seed and the position are all the state there is. In memory are the draws of 2,048 steps, 8 KiB per
    environment and action dimension.

    :param color: the exponent :math:`\beta`, in (0, 2]
    :param seed: >= 0
    :param n_envs: number of environments, > 0
    :param n_dims: number of action dimensions, > 0
    :ivar position: steps that have been drawn
    """

    def __init__(self, color: float, seed: int, n_envs: int, n_dims: int) -> None:
        self.color = color
        self.seed = seed
        self.n_envs = n_envs
        self.n_dims = n_dims
        self.position = 0
        self._rollout_start = 0
        self._block_number = -1

    def begin_rollout(self) -> None:
        """Go on behind the last step that was drawn, also where its rollout was broken off."""
        self._rollout_start = self.position

    def at(self, step: int) -> npt.NDArray[np.float32]:
        """Return the draws of a step, shape (n_envs, n_dims); the same ones if it is asked again.

        :param step: number of steps behind the rollout's beginning
        """
        index = self._rollout_start + step
        self.position = index + 1
        number, row = divmod(index, _HOP)
        if number != self._block_number:
            self._block, self._block_number = self._draw_block(number), number
        draws: npt.NDArray[np.float32] = self._block[row]
        return draws

    def _draw_block(self, number: int) -> npt.NDArray[np.float32]:
        """Return the draws from one take-over to the next, shape (_HOP, n_envs, n_dims)."""
        angle = np.arange(_HOP) * (np.pi / (2 * _HOP))
        block = np.empty((_HOP, self.n_envs, self.n_dims), np.float32)
        for env in range(self.n_envs):
            ending, beginning = self._sequence(number, env), self._sequence(number + 1, env)
            faded = np.cos(angle) * ending[:, _HOP - 1 :]
            faded[:, 1:] += np.sin(angle[1:]) * beginning[:, : _HOP - 1]  # its weight begins with 0
            block[:, env] = faded.T
        return block

    def _sequence(self, number: int, env: int) -> npt.NDArray[np.float64]:
        """Return one sequence for each action dimension, shape (n_dims, 2 _HOP - 1)."""
        from colorednoise import powerlaw_psd_gaussian  # type: ignore[import-untyped]

        generator = np.random.default_rng((self.seed, number, env))
        # Of odd length the variance is exactly 1 once the mean is taken away
        sequence = powerlaw_psd_gaussian(self.color, (self.n_dims, 2 * _HOP - 1), random_state=generator)
        centred: npt.NDArray[np.float64] = sequence - sequence.mean(axis=-1, keepdims=True)
        return centred

    def __getstate__(self) -> dict[str, Any]:
        """Leave the draws out of files: they follow from the rest."""
        return {name: value for name, value in vars(self).items() if name != "_block"} | {"_block_number": -1}
