"""What is generated, and where it goes."""

from collections.abc import Callable
from pathlib import Path

from sb3_ppo_variants.tuning.report.plot import plot

from sitegen import arm, effects, engines, facts, messages, metrics, published, study_keys, variant_pages

_PARTS: dict[str, Callable[[], str]] = {
    "metrics.md": metrics.metrics_part,
    "troubleshooting.md": messages.troubleshooting_part,
    "usual_causes.md": messages.usual_causes_part,
    "study_keys.md": study_keys.study_keys_part,
    "commands.md": facts.commands_part,
    "checklist.md": facts.checklist_part,
    "shared_space.md": facts.shared_space_part,
    "versions.md": facts.versions_part,
    "costs.md": facts.costs_part,
    "speed.md": engines.speed_part,
    "speed_sentence.md": engines.speed_sentence,
    "options.rst": facts.options_part,
    **effects.effect_parts(),
}


def write_all(source: Path) -> None:
    """Write all generated pages and parts of pages; what has not changed keeps its date, so Sphinx need not read it.

    :param source: the folder ``docs``
    """
    results = source.parent / "results"
    for name, text in variant_pages.variant_pages(results).items():
        write(source / "variants" / name, text)
    variant_pages.draw_pictures(source / "variants/pictures")
    write(source / "generated/parts/choose.rst", variant_pages.choose_part(results))
    write(source / "generated/parts/arm.md", arm.arm_part(results))
    write(source / "generated/extra/example_report.html", facts.example_report())
    for study, report in published.reports(results).items():
        write(source / "generated/extra/reports" / f"{study}.html", report.read_text(encoding="utf-8"))
    plot([engines.LEARNING], source / "generated/engines.png")
    for name, part in _PARTS.items():
        write(source / "generated/parts" / name, part())


def write(path: Path, text: str) -> None:
    """Write a file unless it has this text already.

    :param path: of the file
    :param text: its content
    """
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
