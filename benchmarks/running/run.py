"""One run: build, measure, improve, measure again, close the record."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks.config.schema import RunConfig
from benchmarks.records.record import OUTCOMES, RECORD_VERSION, Record, open_record
from benchmarks.records.store import upload, uploaded
from benchmarks.resume.interruption import ignore_interruptions, stoppable, unstoppable
from benchmarks.resume.lock import Held
from benchmarks.resume.state import StateStore
from benchmarks.running.attempt import end, known, say_where, update_manifest
from benchmarks.running.budget import refuse_unmeasurable
from benchmarks.running.distributed import ended_alike, owned, reason, refuse_undividable, started_alike, states_of
from benchmarks.running.evaluation import Evaluation, outcome_rows, sample_rows
from benchmarks.running.ledger import Ledger
from benchmarks.running.manifest import describe, manifest
from benchmarks.running.out_of_memory import free_memory, is_out_of_memory, remembered, smaller
from benchmarks.running.preflight import refuse_unfit
from benchmarks.running.progress import Progress
from benchmarks.running.session import RunSession
from benchmarks.running.tracking import open_tracker
from benchmarks.running.warmstart import book, find_or_make
from policies import ranks
from policies.source import Source, find_source
from tasks.api import Task

if TYPE_CHECKING:
    from policies.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run."""

    record: Record
    ran: bool
    """False where a complete record was there already, or another process is at work on it. A complete record that goes
    to a store is there, and its folder on this disk is gone."""
    held_by: str | None = None
    """Who that is."""


def run(config: RunConfig, console: Console, command: str) -> Outcome:
    """Run one configuration, resume it where it was interrupted, or do nothing where its record is complete.

    Raises:
        BadInput: something in the configuration cannot be, found before any model is loaded.
        RunFailed: a full disk, say, after the record was marked failed; or the store that it goes to is away.
        KeyboardInterrupt: after the record was marked interrupted.
        Exception: whatever the algorithm raised, after the record was marked failed.
    """
    ledger = Ledger(prices=config.budget.prices())
    with stoppable(), ExitStack() as holding:
        with ledger.phase("load"):
            task: Task = config.task_class(config.task)
            source = find_source(config.policy)
            refuse_unmeasurable(config)
            refuse_undividable(config, task)
            name = config.run_name(task.fingerprint())
            here = Record(config.results / name)
            if config.store and not config.force and here.status is None and uploaded(config.store, name):
                return Outcome(here, ran=False)
            record = open_record(config.results, name)
            try:
                record, lock = holding.enter_context(owned(record))
            except Held as other:
                return Outcome(record, ran=False, held_by=str(other))
            states = states_of(record, lock)
            complete = ranks.first(record.status == "complete")
            if complete or config.force:
                states.remove()
            if complete and not config.force:
                if config.store:
                    upload(config.store, record)
                return Outcome(record, ran=False)
            refuse_unfit(config, source, task)
            about = manifest(config, task.fingerprint(), source.label, command)
            resumes = ranks.first(states.exist())
            if resumes:
                about |= {key: value for key, value in known(record).items() if key == "out_of_memory"}
            else:
                record.write_json("manifest.json", about)
            record.write_status("running")
            record.clear(resumes=resumes)
            record.write_json("config.json", config.resolved)
        while not attempt(remembered(config, about), source, task, record, states, console, about, ledger):
            free_memory()
            ledger = Ledger(prices=config.budget.prices())
        if config.store:
            upload(config.store, record)
    return Outcome(record, ran=True)


def attempt(
    config: RunConfig,
    source: Source,
    task: Task,
    record: Record,
    states: StateStore,
    console: Console,
    fresh: dict[str, Any],
    ledger: Ledger,
) -> bool:
    """From the newest saved state, or the start, to the end of the run.

    Returns:
        False where memory ran out and the run is to be tried again with smaller micro-batches, which `fresh` now names.
    """
    with Progress(console, record.name) as progress, tempfile.TemporaryDirectory(prefix="grpo-bench-") as scratch:
        session: RunSession | None = None
        try:
            with ledger.phase("load"):
                algorithm = config.algorithm_class(config.algo)
                warm = None if config.warmstart is None else find_or_make(config, source, task, progress.say)
                source = warm.source if warm else source
                policy = load(config, source, task)
                fresh |= {"warmstart_state": warm.state} if warm else {}
                equip(ledger, policy)
                progress.follow(open_tracker(config, record.name) if ranks.is_first() else None)
                fresh |= describe(policy) | {"peak_flops_per_s": ledger.peak_flops_per_s}
                session = RunSession(config, policy, task, record, progress, Path(scratch), ledger, states)
                started_alike(session)
                if warm:
                    book(config, warm, ledger, resumed=session.saving.resumed_after is not None)
                about = update_manifest(record, fresh, session.saving.resumed_after)
                record.write_json("manifest.json", about)
                say_where(progress, session)
            algorithm.check(policy, task, session)
            session.begin()
            with session.improving():
                algorithm.improve(policy, task, session)
            close(config, session, source, about)
            states.remove()
            return True
        except BaseException as caught:
            if ranks.count() > 1:
                ignore_interruptions()  # The launcher sends them as soon as it sees one process end.
            error = reason(caught)
            size = smaller(config) if is_out_of_memory(error) else None
            if size is None:
                with unstoppable():
                    ended = end(record, session, error)
                raise ended from error
            updates = len(session.ledger.rows) if session else 0
            halving = {"after_update": updates, "micro_batch_size": size}
            fresh["out_of_memory"] = [*fresh.get("out_of_memory", []), halving]
            progress.say(f"out of memory; again with algo.micro_batch_size={size}")
            return False


def load(config: RunConfig, source: Source, task: Task) -> LanguageModel:
    """The policy as it starts."""
    from policies.language_model import load_policy

    policy = load_policy(config.policy, source, config.adapter, config.seed)
    policy.instructions = policy.instructions or task.instructions
    return policy


def equip(ledger: Ledger, policy: LanguageModel) -> None:
    """Give the ledger the meters, and the peak, of the device that the policy is on."""
    from benchmarks.running.machine import meters, peak_flops_per_s

    ledger.meters = meters(policy.device)
    if policy.device.type == "cpu" and ranks.local_rank() > 0:
        ledger.meters.pop("energy_j", None)  # It counts the whole machine, and the first process reads it.
    ledger.peak_flops_per_s = sum(ranks.gather(peak_flops_per_s(policy.device, policy.model.dtype)))


def close(config: RunConfig, session: RunSession, source: Source, about: dict[str, Any]) -> None:
    """Evaluate the final and the starting policy on test, the only time that test is touched, and end the record."""
    session.open()
    ended_alike(session)
    if session.curve[-1]["spent/updates"] != len(session.ledger.rows):
        session.checkpoint()
    found: dict[str, Evaluation] = {}
    greedy: dict[str, Evaluation] = {}
    policy = session.policy
    for stage in ("final", "base"):
        if stage == "base":
            with session.ledger.phase("load"):
                policy = load(config, source, session.task)
        found[stage] = session.measure(policy, "test")
        if config.evaluate.greedy:
            greedy[stage] = session.measure(policy, "test", greedy=True)
    with session.ledger.phase("record"):
        if config.keep_policy:
            session.record.keep_policy(session.policy.save)
        for file, evaluations in (("samples.parquet", found), ("greedy.parquet", greedy)):
            rows = [sample_rows(session.task, evaluations[stage].rollouts, stage) for stage in sorted(evaluations)]
            if rows:
                session.record.write_rows(file, [row for stage in rows for row in stage])
        modes = (("sampled", config.evaluate.temperature, found), ("greedy", 0.0, greedy))
        outcomes = [
            row
            for mode, temperature, evaluations in modes
            for stage in sorted(evaluations)
            for row in outcome_rows(session.task, evaluations[stage].rollouts, stage, mode, temperature)
        ]
        session.record.write_rows(OUTCOMES, outcomes)
        session.add_up()
        session.save()
        # In this phase, so that no cost of the algorithm moves while it is summed up.
        session.record.write_json("summary.json", summary(config, session, found, greedy, about))
    session.record.write_status("complete")


def summary(
    config: RunConfig,
    session: RunSession,
    found: dict[str, Evaluation],
    greedy: dict[str, Evaluation],
    about: dict[str, Any],
) -> dict[str, Any]:
    """The numbers of one run."""
    from benchmarks.running.machine import peak_memory

    ledger = session.ledger
    costs, spent, phases = ledger.by_phase(), ledger.spent(), ledger.phases()
    rollouts, generated = ledger.total("rollouts"), ledger.total("generated_tokens")
    play_s = phases.get("rollout", 0.0) + phases.get("score", 0.0)
    samples = config.evaluate.test_samples
    base, final = found["base"].metrics, found["final"].metrics
    memory = peak_memory(session.policy.device)
    device_bytes = memory["peak_device_bytes"]
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
        "n_test": len(found["final"].rollouts) // samples,
        "test_samples": samples,
        "accuracy_base": base["solved"],
        "accuracy_final": final["solved"],
        "policy_state": session.policy.state_hash(),
        "metrics_base": base,
        "metrics_final": final,
        "greedy_base": greedy["base"].metrics if greedy else None,
        "greedy_final": greedy["final"].metrics if greedy else None,
        "rollouts": rollouts,
        "tokens_generated": generated,
        "tokens_prompt": ledger.total("prompt_tokens"),
        "tokens_trained": ledger.total("trained_tokens"),
        "tokens_reflected": ledger.total("reflected_tokens"),
        "flops": spent["flops"],
        "wall_s": spent["seconds"],
        "cpu_s": ledger.total("cpu_s"),
        "gpu_s": ledger.total("gpu_s") if "gpu_s" in ledger.meters else None,
        "evaluate_wall_s": phases.get("evaluate", 0.0),
        "phases": phases,
        "costs": costs,
        "peak_flops_per_s": ledger.peak_flops_per_s,
        "rollouts_per_s": rollouts / play_s if play_s > 0 else None,
        "tokens_per_s": generated / play_s if play_s > 0 else None,
        **memory,
        "peak_memory_bytes": memory["peak_host_bytes"] if device_bytes is None else device_bytes,
        "energy_j": spent["joules"],
        "dollars": spent["dollars"],
    }
