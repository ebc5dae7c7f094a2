"""YAML in which no key is given twice: the second would replace the first, and nobody would know."""

from typing import Any

import yaml


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ValueError(f"line {line}: {key.value} is given twice, first in line {lines[key.value]}")
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def load_unique(text: str) -> Any:
    """Return what a YAML text holds; nothing is evaluated.

    :param text: the content of a file
    :raises yaml.YAMLError: no valid YAML
    :raises ValueError: a key that is given twice; the message names it and its lines
    """
    loader = _UniqueKeys(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
