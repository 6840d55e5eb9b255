"""One run: build, measure, improve, measure again, close the record."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.text import Text

from benchmarks.config.schema import RunConfig
from benchmarks.records.record import Record, open_record
from benchmarks.resume.interruption import ignore_interruptions, stoppable, unstoppable
from benchmarks.resume.lock import Held
from benchmarks.resume.state import StateStore
from benchmarks.running.attempt import end, known, say_where, update_manifest
from benchmarks.running.budget import refuse_unmeasurable
from benchmarks.running.closing import close, find_other_task
from benchmarks.running.ledger import Ledger
from benchmarks.running.manifest import describe, manifest
from benchmarks.running.out_of_memory import free_memory, is_out_of_memory, remembered, smaller
from benchmarks.running.preflight import refuse_unfit
from benchmarks.running.progress import Progress
from benchmarks.running.session import RunSession
from benchmarks.running.sharing import complete_in_store, shared
from benchmarks.running.start_evaluation import Shelf
from benchmarks.running.starting import equip, load_start
from benchmarks.running.together import owned, reason, refuse_undividable, started_alike, states_of
from benchmarks.running.tracking import open_tracker
from benchmarks.running.warmstart import book, find_or_make
from policies import ranks
from policies.source import Source, find_source
from tasks.api import Task


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
    """Run one configuration, resume it where it was interrupted, or leave it be where its record is complete.

    Raises:
        BadInput: something in the configuration cannot be, found before any model is loaded.
        RunFailed: a full disk, say, after the record was marked failed; or the store that it goes to is away.
        KeyboardInterrupt: after the record was marked interrupted.
        Exception: whatever the algorithm raised, after the record was marked failed.
    """
    ledger = Ledger(prices=config.budget.prices())

    def say(text: str) -> None:
        console.print(Text(text), highlight=False, soft_wrap=True)

    with stoppable(), ExitStack() as holding:
        with ledger.phase("load"):
            task: Task = config.task_class(config.task)
            source = find_source(config.policy)
            refuse_unmeasurable(config)
            refuse_undividable(config, task)
            find_other_task(config)
            record = open_record(config.results, config.run_name(task.fingerprint()))
            try:
                record, lock = holding.enter_context(owned(record))
                if not config.force and complete_in_store(config.store, record):
                    return Outcome(record, ran=False)
                sharing = holding.enter_context(shared(config.store, record, config.upload_every_s, say))
            except Held as other:
                return Outcome(record, ran=False, held_by=str(other))
            states = holding.enter_context(closing(states_of(record, lock, sharing)))
            if sharing and sharing.settle(states, force=config.force):
                return Outcome(record, ran=False)
            complete = ranks.first(record.status == "complete")
            if complete or config.force:
                states.remove()
            if complete and not config.force:
                return Outcome(record, ran=False)
            refuse_unfit(config, source, task)
            about = manifest(config, task.fingerprint(), source.label, command)
            resumes = ranks.first(states.exist())
            if resumes:
                about |= {key: value for key, value in known(record).items() if key == "out_of_memory"}
            else:
                record.write_json("manifest.json", about)
            record.write_status("running")
            record.clear(goes_on=resumes)
            record.write("config.yaml", OmegaConf.to_yaml(config.resolved).encode())
            if sharing:
                sharing.begin()
        try:
            while not attempt(remembered(config, about), source, task, record, states, console, about, ledger):
                free_memory()
                ledger = Ledger(prices=config.budget.prices())
        except BaseException:
            if sharing:
                sharing.give_up()
            raise
        if sharing:
            sharing.finish()
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
                policy = load_start(config, source, task)
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
                shelf = Shelf(config, fresh, find_other_task(config))
                session.known_start = shelf.start_metrics()
            algorithm.check(policy, task, session)
            session.begin()
            with session.improving():
                algorithm.improve(policy, task, session)
            close(config, session, source, about, shelf)
            states.remove()
            return True
        except BaseException as caught:
            if ranks.count() > 1:
                ignore_interruptions()  # The launcher sends them as soon as it sees one process end.
            error = reason(caught)
            size = smaller(config) if is_out_of_memory(error) else None
            if size is None:
                with unstoppable():
                    message = end(record, session, error)
                raise message from error
            updates = len(session.ledger.rows) if session else 0
            halving = {"after_update": updates, "micro_batch_size": size}
            fresh["out_of_memory"] = [*fresh.get("out_of_memory", []), halving]
            progress.say(f"out of memory; again with algo.micro_batch_size={size}")
            return False
