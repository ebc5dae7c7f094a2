"""Tests of the documentation: what generates it, and a harness' study in seconds, are on the import path."""

import sys
from pathlib import Path

_REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(_REPOSITORY / "docs"), str(_REPOSITORY / "tests/tuning")]
