"""YAML text in the style of the files in ``zoo_configs``: one line a value, lists inline, in the given order."""

from collections.abc import Mapping
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)


def entry_yaml(entry: Mapping[str, Any]) -> str:
    """The text of a zoo entry, or of anything like it, ending with a newline.

    :param entry: plain YAML values
    """
    text: str = yaml.dump(dict(entry), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text
