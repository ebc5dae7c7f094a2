"""A study file key by key, from the models that read it."""

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sb3_ppo_variants.tuning.study.study_file import Study

_SIGNS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}


def study_keys_part() -> str:
    """Return definition lists in Markdown, a heading for each part of the file."""
    lines = []
    for path, model in _models(Study, ""):
        lines += [f"## `{path}`" if path else "## The file", ""]
        texts = _texts(model)
        for name, field in model.model_fields.items():
            lines += [f"`{path}.{name}`" if path else f"`{name}`", f": {_line(field, texts[name])}", ""]
    return "\n".join(lines)


def _models(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    for name, field in model.model_fields.items():
        for inner in _inner_models(field.annotation):
            nested = f"{name}.NAME" if _is_mapping(field.annotation) else name
            yield from _models(inner, f"{path}.{nested}" if path else nested)


def _inner_models(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return list(dict.fromkeys(inner for part in get_args(annotation) for inner in _inner_models(part)))


def _is_mapping(annotation: Any) -> bool:
    return "dict[" in str(annotation)


def _texts(model: type[BaseModel]) -> dict[str, str]:
    found = re.findall(r"^:param (\w+):\s*(.*?)(?=^:|\Z)", inspect.getdoc(model) or "", flags=re.M | re.S)
    return {name: " ".join(text.split()) for name, text in found}


def _line(field: FieldInfo, text: str) -> str:
    """Return meaning, kind, bounds and default of a key."""
    facts = [_kind(field.annotation)]
    for rule in field.metadata:
        for cls, (sign, attribute) in _SIGNS.items():
            if isinstance(rule, cls):
                facts.append(f"{sign} {getattr(rule, attribute):,}")
    if field.is_required():
        facts.append("**required**")
    elif field.default is not PydanticUndefined and not isinstance(field.default, BaseModel):
        facts.append(f"default `{field.default!r}`")
    return f"{text[0].upper()}{text[1:]}. ({', '.join(facts)})"


def _kind(annotation: Any) -> str:
    names = {"int": "whole number", "float": "number", "str": "text", "bool": "true or false", "NoneType": "nothing"}
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "keys below"
    if inspect.isclass(annotation) and annotation.__name__ in names:
        return names[annotation.__name__]
    text = str(annotation)
    if text.startswith("typing.Literal"):
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if text.startswith("dict["):
        return "name: keys below" if _inner_models(annotation) else "name: value"
    if text.startswith("list["):
        return "list"
    return " or ".join(
        dict.fromkeys(_kind(part) for part in get_args(annotation) if not hasattr(part, "allow_inf_nan"))
    )
