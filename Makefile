# Two commands for a newcomer: `make run` and `make test`. Everything else is `python -m benchmarks --help`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test test-slow lint format setup bench soak lock

run: setup
	$(BIN)/python -m benchmarks run +algo=grpo

# A worker a core, each with one thread. `make test-slow` has the tests that take more than ten seconds each: every
# command of README.md and docs/, real models, several processes. CI runs both.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
test: setup
	$(PYTEST) -m "not slow"

test-slow: setup
	$(PYTEST) -m slow

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python supply/audit.py

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml supply/install.py supply/requirements.lock supply/cuda.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "grpo-bench needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python supply/install.py
	touch $@

# Against bare TRL and the machine's limits (docs/performance.md), and what an update costs beside GRPO's. Some twenty
# minutes on a core of its own.
bench: setup
	$(BIN)/python tests/performance/bench.py
	$(BIN)/python tests/performance/limits.py
	$(BIN)/python tests/performance/algorithm_costs.py
	$(BIN)/python -m pytest tests/performance --benchmark-enable --benchmark-autosave \
		--benchmark-storage=results/performance/micro

# Kill runs and sweeps at random moments and at every fsync and rename, damage states, fill disks, feed a million hostile
# inputs, and count in one table what is lost. An hour on two cores at most.
soak: setup
	PYTHONPATH=$(CURDIR) OMP_NUM_THREADS=1 $(BIN)/python tests/soak/soak.py

# After a change of constraints.txt or of the dependencies: look up the hashes anew.
lock: setup
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python supply/lock.py
