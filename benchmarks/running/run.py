"""One run: claim the record, load, measure, improve, measure again, close the record."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.config.schema import RunConfig
from benchmarks.records.store import upload
from benchmarks.resume.interruption import stoppable
from benchmarks.running.attempt import ended, say_where, update_manifest
from benchmarks.running.claim import Claim, Outcome, claim
from benchmarks.running.closing import close, find_other_task
from benchmarks.running.distributed import refuse_undividable, started_alike
from benchmarks.running.ledger import Ledger
from benchmarks.running.manifest import describe, manifest
from benchmarks.running.out_of_memory import free_memory, remembered
from benchmarks.running.preflight import refuse_unfit, refuse_unmeasurable
from benchmarks.running.progress import Progress
from benchmarks.running.session import RunSession
from benchmarks.running.start_evaluation import Shelf
from benchmarks.running.starting import equip, load_start
from benchmarks.running.tracking import open_tracker
from benchmarks.running.warmstart import book, find_or_make
from policies import ranks
from policies.source import Source
from tasks.api import Task


def run(config: RunConfig, console: Console, command: str) -> Outcome:
    """Run one configuration, resume it where it was interrupted, or leave it be where its record is complete.

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
            source = config.source
            refuse_unmeasurable(config)
            refuse_undividable(config, task)
            find_other_task(config)
            claimed = claim(config, config.run_name(task.fingerprint()), holding)
            if isinstance(claimed, Outcome):
                return claimed
            refuse_unfit(config, source, task)
            about = claimed.begin(config, manifest(config, task.fingerprint(), source.label, command))
        while not attempt(remembered(config, about), source, task, claimed, console, about, ledger):
            free_memory()
            ledger = Ledger(prices=config.budget.prices())
        if config.results.store:
            upload(config.results.store, claimed.record)
    return Outcome(claimed.record, ran=True)


def attempt(
    config: RunConfig,
    source: Source,
    task: Task,
    claimed: Claim,
    console: Console,
    fresh: dict[str, Any],
    ledger: Ledger,
) -> bool:
    """From the newest saved state, or the start, to the end of the run.

    Returns:
        False where memory ran out and the run is to be tried again with smaller micro-batches, which `fresh` now names.
    """
    record = claimed.record
    session: RunSession | None = None
    with Progress(console, record.name) as progress, tempfile.TemporaryDirectory(prefix="grpo-bench-") as scratch:
        try:
            with ledger.phase("load"):
                algorithm = config.algorithm_class(config.algo)
                warm = None if config.warmstart is None else find_or_make(config, source, task, progress.say)
                source = warm.source if warm else source
                policy = load_start(config, source, task)
                equip(ledger, policy)
                progress.follow(open_tracker(config, record.name) if ranks.is_first() else None)
                fresh |= describe(policy) | {"peak_flops_per_s": ledger.peak_flops_per_s}
                fresh |= {"warmstart_state": warm.state} if warm else {}
                session = RunSession(config, policy, task, record, progress, Path(scratch), ledger, claimed.states)
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
            claimed.states.remove()
            return True
        except BaseException as caught:
            progress.say(ended(config, record, session, fresh, caught))
            return False
