# Every target works on a fresh machine that has Python (3.10 to 3.13), make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
TYPED := build/typed

# The tests start our commands a hundred times: where this is set, each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup rank test test-end-to-end test-numpy test-slow bench lint mutants docs docs-serve

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv with the package and all that the other targets need

# The stamp is written last: an interrupted installation is taken up again.
$(STAMP): pyproject.toml setup.py constraints.txt $(wildcard native/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[tuning,zoo,dask,mujoco,box2d,docs,test]'
	@touch $@

rank: setup ## tune and rank three variants, PPO and TRPO on CartPole-v1 (two minutes on 2 cores)
	$(BIN)/ppo-variants rank quick

# More processes than cores: some tests wait for processes of theirs.
PYTEST := $(BIN)/python -m pytest -n 3 --dist worksteal
test: setup ## the fast tests
	$(PYTEST)

test-end-to-end: setup ## the built and installed package, whole studies killed, a cluster, pages and their examples, films
	$(PYTEST) -m "end_to_end and not slow"

ON_ARRAYS := engine engine_gradients hooks_on_arrays compiled_engine critic update_loop non_finite prediction rollout \
	lean_step baseline_rollouts baseline_updates
test-numpy: setup ## the fast tests of what runs on arrays, with the compiled kernels switched off
	SB3_PPO_VARIANTS_KERNELS=numpy $(PYTEST) $(ON_ARRAYS:%=tests/test_%.py)

test-slow: setup ## the learning and statistics tests, and what repeats the fast ones over all variants, spaces and engines
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow --timeout 3600

# SBX_PYTHON=PATH measures SBX with a Python that has sbx-rl, without JAX in this environment.
bench: setup ## speed against SB3, sb3-contrib and SBX; where the time goes; trials per hour (takes an hour)
	$(BIN)/python benchmarks/throughput.py $(if $(SBX_PYTHON),--sbx-python $(SBX_PYTHON))
	$(BIN)/python benchmarks/profile_engine.py
	$(BIN)/python benchmarks/hooks.py
	$(BIN)/python benchmarks/study.py

mutants: setup ## break the package in more than two hundred places, one at a time: a test must fail each time
	$(BIN)/python tests/mutants.py

docs: setup ## build the documentation into docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/_build/html

docs-serve: docs ## show the documentation on http://localhost:8000
	$(BIN)/python -m http.server --bind localhost --directory docs/_build/html 8000

# mypy and import-linter cannot map a directory to a package, as setuptools does: they are shown a tree of links
# in which tuning/ stands where it is installed.
lint: setup ## ruff (rules and format), clang-format, mypy --strict, import-linter (the rooms of CONTRIBUTING.md)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror native/*
	@rm -rf $(TYPED) && mkdir -p $(TYPED)/sb3_ppo_variants
	@cd $(TYPED)/sb3_ppo_variants && ln -s ../../../sb3_ppo_variants/* ../../../tuning ../../../zoo_configs .
	cd $(TYPED) && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p sb3_ppo_variants
	cd $(TYPED) && ../../$(BIN)/lint-imports --no-cache --no-logo ../../pyproject.toml
