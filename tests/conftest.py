"""One thread per test process: exact tests need a fixed order of additions, and workers share the cores."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before torch and NumPy load; child processes inherit it

import torch  # noqa: E402

torch.set_num_threads(1)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Nothing of the slow folder is imported only to be left out."""
    return True if collection_path.name == "slow" and "not slow" in config.option.markexpr else None


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking again and again through all that is imported by now, and stays."""
    import hypothesis  # noqa: F401 -- it looks for the owners of generators of random numbers, which are hidden then

    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """The same after each file, of what its tests have imported."""
    yield
    if nextitem is not None and nextitem.path != item.path:
        gc.collect()
        gc.freeze()
