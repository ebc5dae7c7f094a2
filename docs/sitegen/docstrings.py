"""A variant's docstring, taken apart for the headings of its page; every paragraph goes to one of them."""

import inspect
import re
from dataclasses import dataclass, field

_STARTS = {
    "failures": ("Known failure mode",),
    "sources": ("Source:", "Sources:"),
    "logs": ("Logs ",),
    "parameters": (":param", ":raises"),
    # From here on, what belongs to no other heading is about papers and code
    "papers": (
        "In the paper",
        "In TRPO's paper",
        "In rsl_rl's code",
        "This is this package's own",
        "No paper defines",
        "The paper has two versions",
    ),
}


@dataclass
class Docstring:
    """Paragraphs of a docstring in reStructuredText, in their order.

    :param summary: the first: what differs from PPO
    :param method: equation and rules
    :param papers: where paper and code stand, and which of the two is followed
    :param parameters: name -> text of ``:param name:``
    :param logs: what is logged
    :param failures: known failure modes
    :param sources: what is cited
    """

    summary: str = ""
    method: list[str] = field(default_factory=list)
    papers: list[str] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)
    logs: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)


def split(cls: type) -> Docstring:
    """Take the docstring of a variant apart.

    :param cls: its class
    """
    parts = Docstring()
    rest = "method"
    for paragraph in _paragraphs(inspect.getdoc(cls) or ""):
        kind = next((name for name, starts in _STARTS.items() if paragraph.startswith(starts)), None)
        if not parts.summary:
            parts.summary = paragraph
        elif kind == "parameters":
            parts.parameters |= dict(re.findall(r"^:param (\w+):\s*(.*?)(?=^:|\Z)", paragraph, flags=re.M | re.S))
        elif kind is None or kind == "papers":
            rest = kind or rest
            getattr(parts, rest).append(paragraph)
        else:
            getattr(parts, kind).append(paragraph)
    parts.parameters = {name: " ".join(text.split()) for name, text in parts.parameters.items()}
    return parts


def _paragraphs(text: str) -> list[str]:
    """Split at blank lines; an indented block belongs to what it hangs on."""
    found: list[str] = []
    for block in re.split(r"\n\s*\n", text):
        if found and block.startswith(" "):
            found[-1] += f"\n\n{block}"
        elif block.strip():
            found.append(block)
    return found
