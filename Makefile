# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Idle threads that spin take the core from the one that works.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 0
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test setup lint types contracts benchmarks

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml scripts/setup
	PYTHON=$(PYTHON) scripts/setup $(VENV)
	touch $@

demo: setup
	$(BIN)/python scripts/demo.py

test: setup lint types contracts
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

contracts: setup
	$(BIN)/lint-imports

benchmarks: setup
	$(BIN)/python benchmarks/classification.py
