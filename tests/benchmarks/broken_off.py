"""Runs that are broken off and gone on with, and what they must have in common with one that was not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.config.schema import RunConfig, check_config, compose_config
from benchmarks.records.record import Record
from benchmarks.running.ledger import VARIABLE
from benchmarks.running.run import run

SMALL = (
    "budget=smoke",
    "policy.device=cpu",
    "policy.threads=1",
    "evaluate.test_problems=2",
    "evaluate.val_problems=2",
    "evaluate.greedy=false",
)
TIMES = (*VARIABLE, "spent/seconds", "spent/device_seconds")


class Killed(BaseException):
    """Stands for the end of the process: nobody handles it, and nothing more is written."""


def configured(folder: Path, *words: str) -> RunConfig:
    return check_config(compose_config([*SMALL, f"results.dir={folder}", *words]))


def run_on(folder: Path, *words: str) -> Record:
    with Path(os.devnull).open("w") as nowhere:
        return run(configured(folder, *words), Console(file=nowhere), "test").record


def outcome(record: Record) -> dict[str, Any]:
    """All that a run found and spent but what a clock or a meter says."""
    assert record.status == "complete"
    summary = record.read_json("summary.json")
    found: dict[str, Any] = {
        path.name: [{k: v for k, v in row.items() if not k.endswith(TIMES)} for row in record.read_rows(path.name)]
        for path in sorted(record.folder.glob("*.parquet"))
    }
    kept = ("policy_state", "accuracy_final", "rollouts", "tokens_generated", "tokens_trained", "flops", "updates")
    found["costs"] = {
        phase: {name: value for name, value in costs.items() if not name.endswith(TIMES)}
        for phase, costs in summary["costs"].items()
        if phase not in ("load", "record")
    }
    return found | {key: summary[key] for key in kept}


def dies(at: int, what: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which ends the process at its n-th call."""
    calls = 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise Killed
        return what(*args, **kwargs)

    return dying
