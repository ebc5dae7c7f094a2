"""Every message that the package raises, found in its source, with cause and remedy from ``data/remedies.yml``."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sb3_ppo_variants.update_parts.errors import _USUAL_CAUSES

_REPOSITORY = Path(__file__).parents[2]
_SOURCES = ("sb3_ppo_variants", "tuning")
_DATA = Path(__file__).parent.parent / "data/remedies.yml"
_NO_MESSAGE = ("typer.Exit", "AttributeError")
_ERROR = re.compile(r"(\w+\.)?\w*(Error|BrokenExecutor)")
_GAP = "…"


@dataclass(frozen=True)
class Message:
    """A message that the package raises.

    :param error: the exception's class
    :param text: the message, with an ellipsis where a value stands
    :param path: of the source, from the repository's root
    """

    error: str
    text: str
    path: str


@cache
def messages(repository: Path = _REPOSITORY) -> list[Message]:
    """Return every message with words of its own, in the order of the sources.

    :param repository: with the package's sources
    """
    found = [
        message
        for folder in _SOURCES
        for path in sorted((repository / folder).rglob("*.py"))
        for message in _raised(path, repository)
    ]
    return list(dict.fromkeys(found))


def _raised(path: Path, repository: Path) -> Iterator[Message]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        call = node.exc if isinstance(node, ast.Raise) else node
        if not isinstance(call, ast.Call):
            continue
        error = ast.unparse(call.func)
        # Some errors are made in one place and raised in another: by a helper's caller, by a future
        if call is node and not _ERROR.fullmatch(error):
            continue
        text = " ".join(_words(argument) for argument in call.args)
        if error not in _NO_MESSAGE and re.search(r"[A-Za-z]{3}", text):
            yield Message(error, " ".join(text.split()), path.relative_to(repository).as_posix())


def _words(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_words(part) if isinstance(part, ast.Constant) else _GAP for part in node.values)
    return _GAP


@cache
def groups() -> list[dict[str, Any]]:
    """Return the groups of ``data/remedies.yml``: title, paths, words, and what is said of single messages."""
    found: list[dict[str, Any]] = yaml.safe_load(_DATA.read_text(encoding="utf-8"))
    return found


def group_of(message: Message) -> Mapping[str, Any] | None:
    """Return the first group that one of a message's paths belongs to, or None.

    :param message: from :func:`messages`
    """
    return next((group for group in groups() if any(message.path.startswith(path) for path in group["paths"])), None)


def troubleshooting_part() -> str:
    """Return the groups in Markdown: their words, then each message with cause and remedy."""
    by_title: dict[str, list[Message]] = {group["title"]: [] for group in groups()}
    for message in messages():
        group = group_of(message)
        if group is not None:
            by_title[group["title"]].append(message)
    lines = []
    for group in groups():
        lines += [f"## {group['title']}", "", group["words"], ""]
        for message in by_title[group["title"]]:
            lines += [f"``{message.text}``", f": {_remedy(message, group)} ({message.error}, `{message.path}`)", ""]
    return "\n".join(lines)


def _remedy(message: Message, group: Mapping[str, Any]) -> str:
    said = [entry for entry in group.get("messages", ()) if entry["says"] in message.text]
    if not said:
        return "The message says what to do."
    return f"*Cause:* {said[0]['cause']} *Remedy:* {said[0]['remedy']}"


def usual_causes_part() -> str:
    """Return the usual cause of each tensor that :class:`NonFiniteUpdateError` names, as a table in Markdown."""
    rows = [f"| {tensor} | {cause} |" for tensor, cause in _USUAL_CAUSES.items()]
    return "\n".join(["| the first bad tensor | usual cause, and what to do |", "|---|---|", *rows, ""])
