"""The runs of a sweep or a campaign, checked before any is begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.config.schema import RunConfig, check_config, compose_all
from benchmarks.records.record import Record
from benchmarks.records.store import uploaded
from benchmarks.resume.lock import holder
from tasks.api import Task

AT_WORK = "at work elsewhere"
NOT_UPLOADED = "complete, not uploaded"


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run, begun or not."""

    words: list[str]
    """Its overrides."""
    config: RunConfig
    task: Task
    record: Record
    """On this disk."""

    def state(self) -> str:
        """How far it is, whoever ran it: a record's status, `not run`, or who is at work on it."""
        name, here = self.record.name, self.record.status
        results, url = self.config.results.folder, self.config.results.store
        if other := holder(results, name):
            return f"{AT_WORK} ({other})"
        if url and here in (None, "complete"):
            return NOT_UPLOADED if here else "complete" if uploaded(url, name) else "not run"
        return here or "not run"


def planned(runs: Sequence[Sequence[str]], config_dir: Path | None = None) -> list[PlannedRun]:
    """The runs that these words stand for.

    Raises:
        BadInput: something in the configuration of one of them cannot be.
    """
    tasks: dict[str, tuple[Task, str]] = {}
    found = []
    for words, composed in zip(runs, compose_all(runs, config_dir), strict=True):
        config = check_config(composed)
        key = repr((config.task_class, config.resolved["task"]))
        if key not in tasks:
            task: Task = config.task_class(config.task)
            tasks[key] = (task, task.fingerprint())
        task, fingerprint = tasks[key]
        record = Record(config.results.folder / config.run_name(fingerprint))
        found.append(PlannedRun([*words], config, task, record))
    return found
