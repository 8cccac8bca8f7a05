# Two commands are all a newcomer needs: `make demo` runs the main job, `make test` runs the tests.
# Both make .venv and install into it what constraints pin; they need Python >= 3.11, make and git.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS := docker/constraints.txt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)
DEMO_OUT ?= demo-out
# Tests run in PROCESSES processes of one thread each; benchmarks measure, so they have the machine to themselves.
# Byte code is kept, whatever the environment says: without it each process that a test starts compiles all modules.
PROCESSES ?= 2
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test servers check explore lint format slow bench gpu weights clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.installed ## Install, make the demo archive, fuse its pairs, show their quality
	$(BIN)/scenefuse demo --out $(DEMO_OUT)

test: lint servers ## Install, then lint, type check and run every test that needs no GPU
	$(PYTEST) -m "not gpu and not bench"

check: lint ## Lint, types and the quick tests: what to run before a commit
	$(PYTEST) -m "not slow and not gpu and not bench"

servers: ## Get the servers that tests talk to, where that is possible
	@PYTHON=$(PYTHON) tests/servers.sh

slow: $(VENV)/.installed-dev servers ## The slower tests: real clusters, kills, memory, the whole demo
	$(PYTEST) -m "slow and not gpu and not bench"

explore: $(VENV)/.installed-dev ## The tests of properties on examples that no run has seen: look for faults of today, not of a change
	$(PYTEST) -m "not gpu and not bench" --hypothesis-profile explore $$(grep -rl "^from hypothesis" tests)

bench: $(VENV)/.installed-dev ## Every benchmark on a tiny size, and the tests that are too long for every day
	$(BIN)/python -m pytest -m bench

gpu: $(VENV)/.installed-dev ## The tests that need a CUDA device, on a machine that has one
	$(BIN)/python -m pytest -m gpu tests/gpu

weights: $(VENV)/.installed-dev ## Train the weights that ship from nothing, and score them on unseen landscapes
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
