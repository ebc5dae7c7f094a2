"""One page for each variant, the same headings on all, and the gallery of their slopes."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sb3_ppo_variants.tuning.ranking.statistics import FEW_SEEDS

from sb3_ppo_variants.experiment import registered_envs
from sb3_ppo_variants.registry import VARIANTS, Algorithm
from sitegen import docstrings, metrics, pictures, published, usable

_HERE = Path(__file__).parent
_TEMPLATES = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # noqa: S701 -- reStructuredText, of our own words
)
_TEMPLATES.filters["underlined"] = lambda text, mark: f"{text}\n{mark * len(text)}"
_TEMPLATES.filters["indented"] = lambda text, width: "\n".join(
    f"{' ' * width}{line}" if line else "" for line in text.splitlines()
)


@cache
def variants_data() -> dict[str, dict[str, Any]]:
    """Return what ``data/variants.yml`` says, by id."""
    data: dict[str, dict[str, Any]] = yaml.safe_load((_HERE.parent / "data/variants.yml").read_text(encoding="utf-8"))
    return data


@cache
def citations() -> dict[str, str]:
    """Return BibTeX entries by key."""
    entries: dict[str, str] = yaml.safe_load((_HERE.parent / "data/citations.yml").read_text(encoding="utf-8"))
    return entries


def variant_pages(results: Path) -> dict[str, str]:
    """Return the pages of all variants and their index: name in ``generated/variants`` -> text.

    :param results: folder of published rankings
    """
    data = variants_data()
    rankings = published.rankings(results)
    pages = {f"{name}.rst": variant_page(VARIANTS[name], data[name], rankings) for name in VARIANTS}
    rows = [(VARIANTS[name], docstrings.split(VARIANTS[name].cls).summary) for name in VARIANTS]
    pages["index.rst"] = _TEMPLATES.get_template("variants.rst.j2").render(rows=rows)
    return pages


def variant_page(variant: Algorithm, data: Mapping[str, Any], rankings: published.Rankings) -> str:
    """Return the page of one variant.

    :param variant: of the registry
    :param data: what ``data/variants.yml`` says of it
    :param rankings: published ones
    """
    return _TEMPLATES.get_template("variant.rst.j2").render(
        variant=variant,
        name=variant.cls.__name__,
        doc=docstrings.split(variant.cls),
        data=data,
        example=example(variant),
        action_rows=usable.action_rows(variant),
        forms=usable.FORMS,
        observations=usable.observations(variant),
        parameters=_parameters(variant, data),
        environments=registered_envs(variant.id),
        meanings={key: re.sub(r"`([^`]+)`", r"``\1``", text) for key, text in metrics.meanings().items()},
        results=published.lines_of(rankings, variant.id),
        bibtex=[citations()[key] for key in data["cite"]],
    )


def example(variant: Algorithm) -> str:
    """Return Python that trains, saves and loads a variant with its defaults spelled out.

    :param variant: of the registry
    """
    name = variant.cls.__name__
    own = {key: value for key, value in variant.own_parameters.items() if value is not None}
    arguments = "".join(f"    {key}={value!r},\n" for key, value in own.items())
    return (
        f"from sb3_ppo_variants import {name}\n\n"
        f'model = {name}(\n    "MlpPolicy",\n    "Pendulum-v1",\n{arguments}    seed=0,\n)\n'
        f'model.learn(10_000)\nmodel.save("{variant.id}")\nmodel = {name}.load("{variant.id}")\n'
    )


def _parameters(variant: Algorithm, data: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return name, default, range that tuning searches, meaning, and how to tune it."""
    texts = docstrings.split(variant.cls).parameters
    ranges = {name: str(parameter) for name, parameter in variant.own_search_space.items()}
    return [
        (name, repr(default), ranges.get(name, ""), texts[name], data["tune"][name])
        for name, default in variant.own_parameters.items()
    ]


def choose_part(results: Path) -> str:
    """Return what the published rankings say, in reStructuredText; that nothing is published, where it is so.

    :param results: folder of published rankings
    """
    families = published.families(published.rankings(results))
    reports = {study: f"reports/{study}.html" for study in published.reports(results)}
    return _TEMPLATES.get_template("choose.rst.j2").render(families=families, few_seeds=FEW_SEEDS, reports=reports)


def draw_pictures(folder: Path) -> None:
    """Draw the pictures of all variants and the gallery.

    :param folder: where they go
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = variants_data()
    for name, variant in VARIANTS.items():
        pictures.draw_variant(variant.cls, data[name]["picture"], folder, name)
    pictures.draw_gallery(
        {variant.cls.__name__: (variant.cls, data[name]["picture"][0]) for name, variant in VARIANTS.items()}, folder
    )
