"""One run: build, measure, improve, measure again, close the record."""

from __future__ import annotations

import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from benchmarks.config import RunConfig
from benchmarks.evaluation import sample_rows
from benchmarks.manifest import describe, manifest, peak_memory_bytes
from benchmarks.progress import Progress
from benchmarks.record import RECORD_VERSION, Record, open_record
from benchmarks.session import RunSession
from policies.source import find_source
from tasks.api import Task


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run."""

    record: Record
    ran: bool
    """False where a complete record was there already."""


def run(config: RunConfig, console: Console, command: str) -> Outcome:
    """Run one configuration, or leave it be where its record is complete.

    Raises:
        BadInput: something in the configuration cannot be, found before any model is loaded.
        KeyboardInterrupt: after the record was marked interrupted.
        Exception: whatever the algorithm raised, after the record was marked failed.
    """
    task: Task = config.task_class(config.task)
    algorithm = config.algorithm_class(config.algo)
    source = find_source(config.policy)
    fingerprint = task.fingerprint()
    record = open_record(config.results, config.run_name(fingerprint))
    if record.status == "complete" and not config.force:
        return Outcome(record, ran=False)
    about = manifest(config, fingerprint, source.label, command)
    record.write_status("running")
    record.clear()
    record.write("config.yaml", OmegaConf.to_yaml(config.resolved).encode())
    record.write_json("manifest.json", about)
    with Progress(console, record.name) as progress, tempfile.TemporaryDirectory(prefix="grpo-bench-") as scratch:
        session: RunSession | None = None
        try:
            from policies.language_model import load_policy

            policy = load_policy(config.policy, source)
            policy.instructions = policy.instructions or task.instructions
            about |= describe(policy)
            record.write_json("manifest.json", about)
            session = RunSession(config, policy, task, record, progress, Path(scratch))
            algorithm.check(policy, task, session)
            session.begin()
            with session.ledger.phase("update"):
                algorithm.improve(policy, task, session)
            close(config, session, source, about)
        except BaseException as error:
            if session is not None:
                session.save()
            interrupted = isinstance(error, KeyboardInterrupt)
            if not interrupted:
                record.write("error.txt", traceback.format_exc().encode())
            record.write_status("interrupted" if interrupted else "failed")
            raise
    return Outcome(record, ran=True)


def close(config: RunConfig, session: RunSession, source: Any, about: dict[str, Any]) -> None:
    """Evaluate the final and the starting policy on test, the only time that test is touched, and end the record."""
    from policies.language_model import load_policy

    session.open()
    if session.curve[-1]["spent/updates"] < len(session.ledger.rows):
        session.checkpoint()
    final = session.measure(session.policy, "test")
    start = load_policy(config.policy, source)
    start.instructions = start.instructions or session.task.instructions
    base = session.measure(start, "test")
    rows = sample_rows(session.task, base.rollouts, "base") + sample_rows(session.task, final.rollouts, "final")
    session.record.write_rows("samples.parquet", rows)
    session.save()
    session.record.write_json("summary.json", summary(config, session, base.metrics, final.metrics, len(rows), about))
    session.record.write_status("complete")


def summary(
    config: RunConfig,
    session: RunSession,
    base: dict[str, float],
    final: dict[str, float],
    sample_count: int,
    about: dict[str, Any],
) -> dict[str, Any]:
    """The numbers of one run."""
    ledger = session.ledger
    phases = ledger.phases()
    wall = sum(seconds for phase, seconds in phases.items() if phase != "evaluate")
    rollouts, generated = ledger.total("rollouts"), ledger.total("generated_tokens")
    play_s = phases.get("rollout", 0.0) + phases.get("score", 0.0)
    samples = config.evaluate.test_samples
    return {
        "record_version": RECORD_VERSION,
        "algo": config.algo.name,
        "task": config.task.name,
        "policy": config.policy.name,
        "budget": config.budget.name,
        "seed": config.seed,
        "experiment": about["experiment"],
        "task_version": session.task.version,
        "stopped_by": session.stopped_by,
        "updates": len(ledger.rows),
        "n_test": sample_count // 2 // samples,
        "test_samples": samples,
        "accuracy_base": base["solved"],
        "accuracy_final": final["solved"],
        "metrics_base": base,
        "metrics_final": final,
        "rollouts": rollouts,
        "tokens_generated": generated,
        "tokens_prompt": ledger.total("prompt_tokens"),
        "tokens_trained": ledger.total("trained_tokens"),
        "flops": ledger.total("flops"),
        "wall_s": wall,
        "evaluate_wall_s": phases.get("evaluate", 0.0),
        "phases": phases,
        "rollouts_per_s": rollouts / play_s if play_s > 0 else None,
        "tokens_per_s": generated / play_s if play_s > 0 else None,
        "peak_memory_bytes": peak_memory_bytes(session.policy),
        "energy_j": None,
    }
