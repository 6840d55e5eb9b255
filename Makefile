# Two commands for a newcomer: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := tasks policies algorithms benchmarks

.PHONY: run test test-slow lint setup tiny format proofs grid publish bench bench-compare bench-reading soak fuzz campaign campaign-cpu gpu-check real lock licences

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

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml supply/install.py supply/requirements.lock supply/cuda.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "grpo-bench needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python supply/install.py
	touch $@

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Every algorithm on every task that tiny can play, three seeds; the control of feedback_grpo; and how costs grow with the
# horizon. Two runs at a time, seed by seed, so that what is there after an early stop compares. Complete runs are
# skipped and broken ones go on, so the same command continues. policy.threads=1 is part of these records' names; without
# it launcher=joblib would share the cores out as well.
ALGORITHMS := base,grpo,vector_grpo,feedback_grpo,gepa,rft,gdpo,dr_grpo
RUNS := results/runs
SWEEP = $(BIN)/python -m benchmarks run -m results.dir=$(RUNS) results.keep_policy=false policy.threads=1 launcher=joblib hydra.launcher.n_jobs=2
grid: setup
	$(SWEEP) seed=0,1,2 task=wordle,gsm_synth,wordle_turn +algo=$(ALGORITHMS)
	$(SWEEP) seed=0,1,2 +algo=feedback_grpo algo.shuffled=true
	$(SWEEP) task.max_turns=1,2,3,4 +algo=fork_grpo,grpo budget=smoke

# What records say, small enough to be committed: tables, claims, the page and two pictures of it (drawn by kaleido in the
# Chromium that is installed), and of each record all but its samples, whose hashes are in its seal.json. The folder is
# named after policy and budget; `make publish RUNS=results/campaign/runs SLICE=smollm2_135m-campaign` is a campaign's.
SLICE := tiny-quick
PUBLISHED = results/published/$(SLICE)
publish: setup
	mkdir -p $(PUBLISHED)/records
	$(BIN)/python -m benchmarks table --runs $(RUNS) --format csv >$(PUBLISHED)/table.csv
	$(BIN)/python -m benchmarks table --runs $(RUNS) --format markdown >$(PUBLISHED)/table.md
	$(BIN)/python -m benchmarks claims --runs $(RUNS) \
		--policy $(firstword $(subst -, ,$(SLICE))) --budget $(lastword $(subst -, ,$(SLICE))) >$(PUBLISHED)/claims.txt
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check kaleido
	$(BIN)/python -m benchmarks report --runs $(RUNS) --out $(PUBLISHED)/report.html --figures results/figures
	cp results/figures/$(SLICE)-gains.svg $(PUBLISHED)/gains.svg
	cp results/figures/$(SLICE)-progress.svg $(PUBLISHED)/progress.svg
	cd $(RUNS) && cp --parents */config.json */manifest.json */summary.json */outcomes.parquet */curve.parquet */seal.json */status \
		$(CURDIR)/$(PUBLISHED)/records

# Every algorithm on Wordle and GSM8K with a language model, seed by seed, until it is done or broken off; the same
# command goes on. WORDS="--for 9m --state DIR gsm8k.path=DIR seed=0 ..." says more.
POLICY := smollm2_135m
WORDS :=
campaign: setup
	$(BIN)/python -m benchmarks campaign policy=$(POLICY) $(WORDS)

# As much of a campaign as two CPU cores make in two hours: SmolLM2-135M and single turns of Wordle, three seeds. The
# first run makes the warm start with both cores, then runs go two at a time. results/published/smollm2_135m-reduced has
# what came of it.
REDUCED := results/reduced
WARM := warmstart=sft warmstart.transcripts=2400 warmstart.learning_rate=5e-4 warmstart.batch_size=8 \
	warmstart.micro_batch_size=4
SHORT := budget=campaign budget.name=reduced budget.flops=5.5e13 budget.checkpoints=2 batch.problems=4 \
	evaluate.test_problems=100 evaluate.val_problems=24 evaluate.test_samples=1 evaluate.greedy=false
TURNS := task=wordle_turn task.words=classic policy=smollm2_135m policy.learning_rate=1e-4 policy.micro_batch_size=8 \
	results.dir=$(REDUCED)/runs results.keep_policy=false results.save_every_s=200
campaign-cpu: setup
	OMP_NUM_THREADS=2 $(BIN)/python -m benchmarks run +algo=base $(TURNS) $(WARM) $(SHORT)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks run -m launcher=joblib hydra.launcher.n_jobs=2 seed=0,1,2 \
		+algo=base,gepa,feedback_grpo,grpo,vector_grpo $(TURNS) $(WARM) $(SHORT)

# Does everything run on this machine's GPU? Meant to take at most five minutes.
gpu-check: setup
	PYTHONPATH=$(CURDIR):$(CURDIR)/tests/algorithms $(BIN)/python tests/gpu/gpu_checks.py

# Every algorithm of the campaign makes an update with SmolLM2-135M on real problems, on a CPU: a quarter of an hour on
# one core. GSM8K=DIR has the rows of gsm8k.
real: setup
	$(BIN)/python -m pytest tests/real/all_algorithms.py

# Against bare TRL and the machine's limits (docs/performance.md), and what an update costs beside GRPO's. Some twenty
# minutes on a core of its own.
bench: setup
	$(BIN)/python tests/performance/bench.py
	$(BIN)/python tests/performance/limits.py
	$(BIN)/python tests/performance/algorithm_costs.py
	$(BIN)/python -m pytest tests/performance --benchmark-enable --benchmark-autosave \
		--benchmark-storage=results/performance/micro

# The last two measured commits of results/performance/; fails where a ratio got worse by more than 15%.
bench-compare: setup
	$(BIN)/python tests/performance/compare.py

# Kill runs and sweeps at random moments and at every fsync and rename, damage states, fill disks, feed a million hostile
# inputs, and count in one table what is lost. An hour on two cores at most.
soak: setup
	PYTHONPATH=$(CURDIR) OMP_NUM_THREADS=1 $(BIN)/python tests/soak/soak.py

# How long table and report take over 200 and over 10,000 made-up runs (some minutes).
bench-reading: setup
	PYTHONPATH=$(CURDIR):$(CURDIR)/tests/benchmarks $(BIN)/python tests/performance/reading.py

# Remake the embedded policy from scratch (about an hour and a half on one core).
tiny: setup
	$(BIN)/python -m policies.tiny.train

# Coverage, false positives and power of the statistics on simulated records (about five minutes).
proofs: setup
	$(BIN)/python tests/benchmarks/simulation.py

# Over a million hostile inputs for everything that reads a stranger's bytes, as many targets at once as there are cores
# (53 minutes of targets' time on a busy machine).
fuzz: setup
	$(BIN)/python tests/fuzz/fuzz.py

# After a change of constraints.txt or of the dependencies: look up the hashes anew, and the licences.
lock: setup
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python supply/lock.py

licences: setup
	$(BIN)/python supply/licences.py
