"""The README's Python is run as it stands there."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO

from sb3_ppo_variants.registry import VARIANTS

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_every_python_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])  # a block sets its own
    # Fewer steps and shorter rollouts: the text shows sensible numbers, the test only that it runs
    shorter = tuple(128 if default == 2048 else default for default in PPO.__init__.__defaults__ or ())
    monkeypatch.setattr(PPO.__init__, "__defaults__", shorter)
    namespace: dict[str, Any] = {}
    for block in BLOCKS:
        text = re.sub(r"\b10?_000\b", "300", block)
        exec(compile(text, "README.md", "exec"), namespace)  # noqa: S102 -- our own text
    assert namespace["model"].num_timesteps >= 300
    assert (tmp_path / "model.zip").exists()


def test_own_variant_has_at_most_ten_lines() -> None:
    (block,) = [block for block in BLOCKS if "class SoftClip(" in block]
    lines = [line for line in block.splitlines() if line.strip() and '"""' not in line]
    assert len(lines) <= 10


def test_table_names_every_variant_and_its_file() -> None:
    for algorithm in VARIANTS.values():
        name = algorithm.cls.__name__
        rows = [line for line in README.splitlines() if line.startswith(f"| `{name}` |")]
        assert len(rows) == 1, name
        path = re.search(r"\((sb3_ppo_variants/variants/\w+\.py)\)", rows[0])
        assert path is not None, name
        assert f"class {name}(" in (Path(__file__).parent.parent / path.group(1)).read_text(encoding="utf-8")
