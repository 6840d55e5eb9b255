# Two commands for a newcomer: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := tasks policies algorithms benchmarks

.PHONY: run test lint setup tiny format proofs grid bench soak campaign gpu-check real

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

# Every algorithm on Wordle and GSM8K with a language model, seed by seed, until it is done or broken off; the same
# command goes on. WORDS="--for 9m --state DIR gsm8k.path=DIR seed=0 ..." says more.
POLICY := smollm2_135m
WORDS :=
campaign: setup
	$(BIN)/python -m benchmarks campaign policy=$(POLICY) $(WORDS)

# Does everything run on this machine's GPU? At most five minutes.
gpu-check: setup
	PYTHONPATH=$(CURDIR):$(CURDIR)/tests/algorithms $(BIN)/python tests/gpu/gpu_checks.py

# Every algorithm of the campaign makes an update with SmolLM2-135M on real problems, on a CPU: about fifteen minutes on
# two cores. GSM8K=DIR has the rows of gsm8k.
real: setup
	$(BIN)/python -m pytest tests/real/all_algorithms.py

# What an update costs beside GRPO's, as ratios taken in one run.
bench: setup
	$(BIN)/python tests/performance/algorithm_costs.py

# Kill runs at random moments and at every fsync and rename, and count what is lost.
soak: setup
	PYTHONPATH=$(CURDIR) OMP_NUM_THREADS=1 $(BIN)/python tests/soak/kills.py

# Remake the embedded policy from scratch (about an hour and a half on one core).
tiny: setup
	$(BIN)/python -m policies.tiny.train

# Coverage, false positives and power of the statistics on simulated records (about five minutes).
proofs: setup
	$(BIN)/python tests/benchmarks/simulation.py
