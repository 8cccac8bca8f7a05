PY ?= .venv/bin/python

check:
	$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy && $(PY) -m pytest -m "not slow and not gpu"
.PHONY: check
