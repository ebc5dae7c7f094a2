"""Which entries of ``zoo_configs`` a study has chosen."""

import re
from pathlib import Path


def exported_blocks(path: Path) -> dict[tuple[str, str], str]:
    """(study, environment) -> lines of an entry that ``export`` wrote into a zoo file, without the date."""
    found = {}
    for block in re.split(r"\n(?=\S)", path.read_text(encoding="utf-8")):
        study = re.search(r"# Study (\S+), seed", block)
        if study:
            text = re.sub(r"\d{4}-\d\d-\d\d", "DATE", block).rstrip()
            found[study[1], block.partition(":")[0]] = text.partition("\n\n")[0]
    return found
