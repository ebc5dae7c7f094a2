"""Plug-ins on the import path of this process, as an installer leaves them: modules and a dist-info folder."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from sb3_ppo_variants import registry
from sb3_ppo_variants.entries import zoo_files

SOFT_CLIP = '''
"""A package with an algorithm."""

from typing import Any, ClassVar

import torch
from stable_baselines3 import PPO

from sb3_ppo_variants import ClipPPO, MiniBatch, UpdateLoop
from sb3_ppo_variants.search_space import FloatRange, SearchSpace


class SoftClip(UpdateLoop):
    limits_step_by = "soft clip"
    zoo_config = "soft_clip:soft_clip_ppo"
    own_search_space: ClassVar[SearchSpace] = {"tau": FloatRange(1.0, 8.0)}

    def __init__(self, policy: Any, env: Any, *, tau: float = 4.0, **kwargs: Any) -> None:
        self.tau = tau
        super().__init__(policy, env, **kwargs)

    def _surrogate(self, batch: MiniBatch) -> torch.Tensor:
        return batch.advantages * 4 / self.tau * torch.sigmoid(self.tau * (batch.ratio - 1))


class SoftClipPPO(SoftClip, PPO):
    pass


class OtherClipPPO(ClipPPO):
    """Without hyperparameters of its own."""
'''
SOFT_CLIP_YML = """
default: {policy: MlpPolicy, n_timesteps: 256, n_steps: 128}
CartPole-v1: {policy: MlpPolicy, n_timesteps: 256, n_steps: 64, batch_size: 64, n_epochs: 2, tau: 3.0}
"""
FILES = {"soft_clip/__init__.py": SOFT_CLIP, "soft_clip/soft_clip_ppo.yml": SOFT_CLIP_YML}
ENTRIES = {"soft_clip_ppo": "soft_clip:SoftClipPPO", "other_clip_ppo": "soft_clip:OtherClipPPO"}


def plant(folder: Path, distribution: str, entries: Mapping[str, str], files: Mapping[str, str]) -> None:
    """Write version 1.5 of a distribution into a folder of the import path."""
    info = folder / f"{distribution}-1.5.dist-info"
    info.mkdir(parents=True)
    lines = [f"{name} = {value}\n" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("[sb3_ppo_variants.algorithms]\n" + "".join(lines))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Within it the plug-ins in a folder are installed, and no other ones are remembered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        for path in folder.iterdir():
            patch.delitem(sys.modules, path.stem, raising=False)
        _forget()
        yield
    _forget()


def _forget() -> None:
    for remembered in (registry.plugins, registry.plugged, zoo_files._zoo_file):
        remembered.cache_clear()
