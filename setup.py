"""The optional extension in C; all else stands in pyproject.toml."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "sb3_ppo_variants._kernels",
            sources=[f"native/{name}" for name in ("module.c", "kernels.c", "avx2.c", "avx512.c")],
            depends=[f"native/{name}" for name in ("kernels.h", "kernels.c")],
            # Products and sums are rounded one by one, as in NumPy; symbols for debugging would take most of the wheel
            extra_compile_args=["-std=gnu11", "-O3", "-g0", "-ffp-contract=off", "-fvisibility=hidden"],
            py_limited_api=True,
            optional=True,  # where it cannot be compiled, the package is installed without it and runs on NumPy
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
