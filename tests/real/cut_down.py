"""Runs with a real language model on a CPU, cut down to a minute: they show that everything works, and no more."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from benchmarks.config.schema import check_config, compose_config
from benchmarks.records.record import Record
from benchmarks.running.run import run

SMALL = (
    *("budget=smoke", "budget.updates=1", "batch.problems=1", "batch.group_size=2"),
    *("evaluate.val_problems=1", "evaluate.test_problems=1", "evaluate.greedy=false"),
)


def cut_down_run(algo: str, folder: Path, results: Path, *words: str) -> Record:
    """One update of an algorithm with SmolLM2-135M-Instruct."""
    policy = ("policy=smollm2_135m", f"policy.path={folder}", "policy.device=cpu")
    gepa = ("algo.valset_size=1", "algo.minibatch_size=1") if algo == "gepa" else ()
    config = check_config(compose_config([f"+algo={algo}", *policy, *SMALL, *gepa, f"results.dir={results}", *words]))
    with Path(os.devnull).open("w") as nowhere:
        return run(config, Console(file=nowhere), "test").record
