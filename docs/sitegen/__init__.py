"""Writes the pages that follow from the code and the results: ``docs/generated``, before Sphinx reads its sources."""

from sitegen.write import write_all

__all__ = ["write_all"]
