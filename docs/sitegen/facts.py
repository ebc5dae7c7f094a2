"""Tables that follow from the command line, signatures, measured speeds and pinned versions."""

import inspect
import re
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.text import Text
from sb3_ppo_variants.tuning.ranking.ranking_json import read_ranking
from sb3_ppo_variants.tuning.report.checklist import checklist
from sb3_ppo_variants.tuning.report.page import render
from sb3_ppo_variants.tuning.study.plan import estimate
from sb3_ppo_variants.tuning.study.study_file import Study, shipped_studies

from sb3_ppo_variants import UpdateLoop
from sb3_ppo_variants.cli import app
from sb3_ppo_variants.entries.constructors import explicit_parameters
from sb3_ppo_variants.tuning_space import SHARED

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "docs/data/example"
_SHOWN = ("stable_baselines3", "sb3_contrib", "rl_zoo3", "torch", "numpy", "gymnasium", "optuna", "scipy", "mujoco")


def commands_part() -> str:
    """Return the commands with what they do, and all options of those that are ours, in Markdown."""
    group: Any = typer.main.get_command(app)  # typer brings its own copy of click
    lines = []
    for name, command in group.commands.items():
        lines += [f"`ppo-variants {name}`", f": {_plain(command.help)}", ""]
    return "\n".join(lines)


def _plain(text: str | None) -> str:
    return " ".join(Text.from_markup(text or "").plain.split())


def options_part() -> str:
    """Return the options of every variant in reStructuredText: default and meaning, from the loop's signature."""
    texts = dict(re.findall(r"^:param (\w+):\s*(.*?)(?=^:|\Z)", inspect.getdoc(UpdateLoop) or "", flags=re.M | re.S))
    lines = []
    for name, parameter in explicit_parameters(UpdateLoop).items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            meaning = " ".join(texts[name].split())
            lines += [f"``{name}`` = ``{parameter.default!r}``", f"   {meaning[0].upper()}{meaning[1:]}.", ""]
    return "\n".join(lines)


def checklist_part() -> str:
    """Return the checklist of the embedded report, in Markdown: claim, whether it holds there, evidence."""
    answers = checklist(read_ranking(EXAMPLE))
    rows = [f"| {answer.claim} | {'yes' if answer.holds else '**no**'} | {answer.evidence} |" for answer in answers]
    return "\n".join(["| what a reviewer asks | here | where the answer stands |", "|---|---|---|", *rows, ""])


def example_report() -> str:
    """Return the report that is embedded: that of a small real study."""
    return render(read_ranking(EXAMPLE), {}, missing="its study.db is not kept with the documentation")


def shared_space_part() -> str:
    """Return the ranges that all algorithms are tuned in, in Markdown."""
    rows = [f"| `{name}` | {parameter} |" for name, parameter in SHARED.items()]
    return "\n".join(["| hyperparameter | range |", "|---|---|", *rows, ""])


def costs_part() -> str:
    """Return what the shipped studies cost at most, in Markdown: what ``--dry-run`` estimates."""
    rows = []
    for name in shipped_studies():
        text = (REPOSITORY / f"tuning/studies/{name}.yml").read_text(encoding="utf-8")
        study = Study.model_validate(yaml.safe_load(text))
        rows.append(f"| `{name}` | {study.description} | {estimate(study, workers=1)} |")
    return "\n".join(["| study | what it is | estimate |", "|---|---|---|", *rows, ""])


def versions_part() -> str:
    """Return the pinned releases that matter, in Markdown, from ``constraints.txt``."""
    text = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    pinned = {name.lower(): release for name, release in re.findall(r"^([\w.-]+)==([^\s;]+)", text, flags=re.M)}
    rows = [f"| {name} | {pinned[name.lower()]} |" for name in _SHOWN if name.lower() in pinned]
    return "\n".join(["| package | release |", "|---|---|", *rows, ""])
