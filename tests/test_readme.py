"""The README's Python is run as it stands there."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from sb3_ppo_variants.registry import VARIANTS

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_every_python_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])  # a block sets its own
    namespace: dict[str, Any] = {}
    for block in BLOCKS:
        # Fewer steps: the text shows a sensible number, the test only that it runs
        exec(compile(block.replace("10_000", "300"), "README.md", "exec"), namespace)  # noqa: S102 -- our own text
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
