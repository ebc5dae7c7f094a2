"""Action masks for the scripts of rl_zoo3 that play.

rl_zoo3 2.9 calls ``predict`` without masks, and loads models without the environment that has them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.evaluation import knows_masks, with_masks


class Players(Mapping[str, type[BaseAlgorithm]]):
    """rl_zoo3's algorithms, whose loaded models see the masks of the environment made last, if they know masks.

    :param algorithms: ``rl_zoo3.ALGOS`` itself, so that what is added to it later is here too
    :param envs: ends with the environment in which the loaded model plays
    """

    def __init__(self, algorithms: Mapping[str, type[BaseAlgorithm]], envs: list[VecEnv]) -> None:
        self._algorithms = algorithms
        self._envs = envs

    def __getitem__(self, name: str) -> type[BaseAlgorithm]:
        cls = self._algorithms[name]
        return self._player(cls) if knows_masks(cls) else cls

    def __iter__(self) -> Iterator[str]:
        return iter(self._algorithms)

    def __len__(self) -> int:
        return len(self._algorithms)

    def _player(self, cls: type[BaseAlgorithm]) -> type[BaseAlgorithm]:
        def load(_: type[BaseAlgorithm], *args: Any, **kwargs: Any) -> BaseAlgorithm:
            return with_masks(cls.load(*args, **kwargs), self._envs[-1])

        return type(cls.__name__, (cls,), {"load": classmethod(load)})


def names_for_playing() -> dict[str, Any]:
    """Return what a script that plays has to find under two names that it imports from rl_zoo3."""
    import rl_zoo3

    original: Any = rl_zoo3.create_test_env
    envs: list[VecEnv] = []

    def create_test_env(*args: Any, **kwargs: Any) -> VecEnv:
        envs[:] = [original(*args, **kwargs)]
        return envs[-1]

    return {"create_test_env": create_test_env, "ALGOS": Players(rl_zoo3.ALGOS, envs)}
