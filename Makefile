# Two commands for a newcomer: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := tasks policies algorithms benchmarks

.PHONY: run test lint setup tiny format proofs grid bench bench-compare soak

run: setup
	$(BIN)/python -m benchmarks run +algo=grpo

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "grpo-bench needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Every algorithm on every task that tiny can play, three seeds, two runs at a time: about two hours on two cores. Runs
# that are complete are skipped, so that the same command goes on where it was broken off.
ALGORITHMS := base,grpo,vector_grpo,feedback_grpo,gepa,rft,gdpo,dr_grpo
grid: setup
	$(BIN)/python -m benchmarks run -m +algo=$(ALGORITHMS) task=wordle,gsm_synth,wordle_turn seed=0,1,2 \
		policy.threads=1 launcher=joblib hydra.launcher.n_jobs=2

# Against bare TRL and the machine's limits (docs/performance.md), and what an update costs beside GRPO's. Half an hour on
# two quiet cores.
bench: setup
	$(BIN)/python tests/performance/bench.py
	$(BIN)/python tests/performance/limits.py
	$(BIN)/python tests/performance/algorithm_costs.py
	$(BIN)/python -m pytest tests/performance --benchmark-enable --benchmark-autosave \
		--benchmark-storage=results/performance/micro

# The last two measured commits of results/performance/; fails where a ratio got worse by more than 15%.
bench-compare: setup
	$(BIN)/python tests/performance/compare.py

# Kill runs at random moments and at every fsync and rename, and count what is lost.
soak: setup
	PYTHONPATH=$(CURDIR) OMP_NUM_THREADS=1 $(BIN)/python tests/soak/kills.py

# Remake the embedded policy from scratch (about an hour and a half on one core).
tiny: setup
	$(BIN)/python -m policies.tiny.train

# Coverage, false positives and power of the statistics on simulated records (about five minutes).
proofs: setup
	$(BIN)/python tests/benchmarks/simulation.py
