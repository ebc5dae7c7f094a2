"""The Python and the commands of README and documentation are run as they stand there, on fewer steps."""

import re
import shlex
import sys
from pathlib import Path
from unittest import SkipTest

import pytest
from sb3_ppo_variants.tuning.study.study_file import load_study
from sitegen import variant_pages
from stable_baselines3 import PPO
from sybil import Document, Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import PythonCodeBlockParser as RestPythonCodeBlockParser

from sb3_ppo_variants import cli
from sb3_ppo_variants.registry import VARIANTS

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
GENERATED = ("_build", "generated", "variants", "examples", "data")
PAGES = [
    REPOSITORY / "README.md",
    *(page for page in sorted(DOCS.rglob("*.md")) if page.relative_to(DOCS).parts[0] not in GENERATED),
]
SLOW = [page for page in PAGES if "skip: next if(fast" in page.read_text(encoding="utf-8")]
WITH_CODE = [
    page for page in PAGES if re.search(r"^```(python|sh|yaml)$", page.read_text(encoding="utf-8"), flags=re.M)
]


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def run_commands(example: Example) -> None:
    """Run the lines of a shell block, each of which must be a command of ours, in this process."""
    for line in example.parsed.splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        assert words[0] == "ppo-variants", f"only ppo-variants can be run here; skip the block, with a reason: {line}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", words)
            with pytest.raises(SystemExit) as end:
                cli.main()
            assert end.value.code in (0, None), line


def read_study(example: Example) -> None:
    """Read a YAML block as the study file that it shows, if it is a whole one."""
    if "budget:" in example.parsed:
        path = Path("study.yml")
        path.write_text(example.parsed, encoding="utf-8")
        load_study(str(path))


PARSERS = [
    PythonCodeBlockParser(),
    CodeBlockParser("sh", run_commands),
    CodeBlockParser("yaml", read_study),
    SkipParser(),
]
MARKDOWN = Sybil(PARSERS, pattern="*.md")
REST = Sybil([RestPythonCodeBlockParser()], pattern="*.rst")


@pytest.fixture
def fewer_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Shorter rollouts by default: the text shows sensible numbers, the test only that it runs."""
    monkeypatch.chdir(tmp_path)
    defaults = PPO.__init__.__defaults__ or ()
    monkeypatch.setattr(
        PPO.__init__, "__defaults__", tuple(128 if default == 2048 else default for default in defaults)
    )


def run(sybil: Sybil, path: Path, text: str, *, fast: bool) -> list[str]:
    """Run the examples of a text in one namespace; return why those that were skipped were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(re.sub(r"\b\d{1,3}_000\b|\b\d_\d{3}\b", "300", text), encoding="utf-8")
    document: Document = sybil.parse(path)
    document.namespace["fast"] = fast
    reasons = []
    for example in document.examples():
        try:
            example.evaluate()
        except SkipTest as skipped:
            reasons.append(str(skipped))
    return reasons


@pytest.mark.end_to_end
@pytest.mark.usefixtures("fewer_steps")
@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_page(page: Path, tmp_path: Path) -> None:
    reasons = run(MARKDOWN, tmp_path / "pages" / page.name, page.read_text(encoding="utf-8"), fast=True)
    assert all(reason.strip() and reason != "True" for reason in reasons)


@pytest.mark.slow
@pytest.mark.usefixtures("fewer_steps")
@pytest.mark.parametrize("page", SLOW, ids=name_of)
def test_page_with_what_takes_minutes(page: Path, tmp_path: Path) -> None:
    run(MARKDOWN, tmp_path / "pages" / page.name, page.read_text(encoding="utf-8"), fast=False)


@pytest.mark.end_to_end
@pytest.mark.usefixtures("fewer_steps")
def test_example_of_every_variant(tmp_path: Path) -> None:
    for variant in VARIANTS.values():
        block = variant_pages.example(variant).replace("\n", "\n    ")
        text = f".. code-block:: python\n\n    {block}\n"
        assert run(REST, tmp_path / f"pages/{variant.id}.rst", text, fast=True) == []
        assert (tmp_path / f"{variant.id}.zip").exists()


def test_a_broken_example_and_an_unknown_command_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NameError):
        run(MARKDOWN, tmp_path / "page.md", "```python\nno_such_name\n```\n", fast=True)
    with pytest.raises(AssertionError, match="only ppo-variants"):
        run(MARKDOWN, tmp_path / "page.md", "```sh\nrm -r everything\n```\n", fast=True)
    with pytest.raises(AssertionError):
        run(MARKDOWN, tmp_path / "page.md", "```sh\nppo-variants rank no_such_study\n```\n", fast=True)
    with pytest.raises(ValueError, match="study"):
        run(MARKDOWN, tmp_path / "page.md", "```yaml\nalgorithms: []\nbudget: {}\n```\n", fast=True)
