"""One thread per test process: exact tests need a fixed order of additions, and workers share the cores."""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before torch and NumPy load; child processes inherit it

import torch  # noqa: E402

torch.set_num_threads(1)
