"""The coordinator's work per cell does not grow with the cells that are finished: counted, not timed."""

import importlib
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest
from sb3_ppo_variants.tuning.runs.store import CellStore


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("coordinator")


class Calls:
    """Counts the Python calls made inside the harness, and the statements that reach the database."""

    def __enter__(self) -> "Counter[str]":
        self.counts: Counter[str] = Counter()
        sys.setprofile(self._see)
        return self.counts

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, what: Any) -> None:
        if event == "call":
            self.counts["calls"] += 1
        elif event == "c_call" and getattr(what, "__name__", "") == "execute":
            self.counts["statements"] += 1


@pytest.mark.slow  # traces every call of some hundred cells
def test_work_per_cell_is_the_same_for_few_and_for_many_cells(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    original = CellStore.read
    monkeypatch.setattr(CellStore, "read", lambda self, cell: (reads.append(self.path(cell)), original(self, cell))[1])
    benchmark.coordinate(make(tmp_path / "warm"), 30, benchmark.Instant())
    work = []
    for cells in (30, 130, 230):
        folder = make(tmp_path / str(cells))
        reads.clear()
        with Calls() as first:
            number = benchmark.coordinate(folder, cells, benchmark.Instant())
        with Calls() as again:
            assert benchmark.coordinate(folder, cells, benchmark.Instant()) == number
        assert len(reads) == 2 * number, "each cell is looked up once by each coordinator"
        work.append((number, [counts[name] for counts in (first, again) for name in ("calls", "statements")]))
    early, late = (
        [(more - less) / (many - few) for less, more in zip(before, after, strict=True)]
        for (few, before), (many, after) in pairwise(work)
    )
    assert all(later <= 1.1 * earlier for earlier, later in zip(early, late, strict=True)), (early, late)


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder
