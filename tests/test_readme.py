"""The README: what a newcomer needs in five minutes. Its code is run by tests/docs/test_docs_examples.py."""

import re
from pathlib import Path

from sb3_ppo_variants.registry import VARIANTS

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_it_is_short_and_keeps_the_two_commands() -> None:
    assert len(README) < 7_000
    targets = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in ("rank", "test", "docs", "docs-serve"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}: ", targets, flags=re.M), target


def test_table_names_every_variant_and_its_file() -> None:
    for algorithm in VARIANTS.values():
        name = algorithm.cls.__name__
        rows = [line for line in README.splitlines() if line.startswith(f"| [`{name}`](")]
        assert len(rows) == 1, name
        path = re.search(r"\((sb3_ppo_variants/variants/\w+\.py)\)", rows[0])
        assert path is not None, name
        assert f"class {name}(" in (REPOSITORY / path.group(1)).read_text(encoding="utf-8")


def test_every_link_into_the_repository_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")]
    assert len(links) > 20
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_own_variant_has_at_most_ten_lines() -> None:
    page = (REPOSITORY / "docs/write-your-own.md").read_text(encoding="utf-8")
    block = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[0]
    lines = [line for line in block.splitlines() if line.strip() and '"""' not in line]
    assert "class SoftClip(" in block
    assert len(lines) <= 10
