# A newcomer needs two commands: `make demo` runs the main job, `make test` runs the tests.
# Both create .venv and install the pinned versions into it; they need Python >= 3.11, make and git.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS := docker/constraints.txt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)
DEMO_OUT ?= demo-out
# Tests run in PROCESSES processes of one thread each; benchmarks run alone, because they measure.
# Byte code is always kept: otherwise each process that a test starts would compile all modules.
PROCESSES ?= 2
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test servers check explore lint format slow bench gpu weights clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.installed ## Install, simulate the demo archive, fuse its pairs, score the results
	$(BIN)/scenefuse demo --out $(DEMO_OUT)

test: ## Install, then lint, type check and run every test that needs no GPU
	@$(MAKE) --no-print-directory --jobs=2 lint servers
	$(PYTEST) -m "not gpu and not bench"

check: lint ## Lint, type check and the quick tests: run this before a commit
	$(PYTEST) -m "not slow and not gpu and not bench"

servers: ## Install the servers that tests talk to, where possible
	@PYTHON=$(PYTHON) tests/servers.sh

slow: $(VENV)/.installed-dev servers ## The slower tests: real clusters, kills, memory, the whole demo
	$(PYTEST) -m "slow and not gpu and not bench"

explore: $(VENV)/.installed-dev ## Property-based tests on fresh random examples: finds old faults, not only those of a change
	$(PYTEST) -m "not gpu and not bench" --hypothesis-profile explore $$(grep -rl "^from hypothesis" tests)

bench: $(VENV)/.installed-dev ## Every benchmark at a tiny size, and tests too long for every day
	$(BIN)/python -m pytest -m bench

gpu: $(VENV)/.installed-dev ## The tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu tests/gpu

weights: $(VENV)/.installed-dev ## Train the shipped weights from scratch and score them on unseen landscapes
	$(BIN)/python -m tests.bench.weights --out weights-out --json tests/bench/results/weights.json

lint: $(VENV)/.installed-dev ## ruff, mypy and hadolint
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/hadolint docker/Dockerfile docker/stac-api.Dockerfile

format: $(VENV)/.installed-dev ## Format the code
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	$(INSTALL) --editable '.[dev,geoparquet,s3]'
	@touch $@ $(VENV)/.installed

clean: ## Remove the environment and caches
	rm -rf $(VENV) .venv-servers .pytest_cache .mypy_cache .ruff_cache .hypothesis
