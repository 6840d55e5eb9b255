"""Claiming a run's record: its lock, its saved states and, where records go to a store, its copy there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks.config.schema import RunConfig
from benchmarks.records.record import Record, open_record
from benchmarks.records.store import upload, uploaded
from benchmarks.resume.lock import Held
from benchmarks.resume.state import StateStore
from benchmarks.running.attempt import known
from benchmarks.running.distributed import owned, states_of
from policies import ranks


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run."""

    record: Record
    ran: bool
    """False where a complete record was there already, or another process is at work on it. A complete record that goes
    to a store is there, and its folder on this disk is gone."""
    held_by: str | None = None
    """Who that is."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A record that is this run's to make."""

    record: Record
    states: StateStore

    def begin(self, config: RunConfig, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Put on record that the run begins, or resumes from a saved state.

        Returns:
            The manifest, with what a run that resumes knows of memory.
        """
        about = dict(manifest)
        if resumes := ranks.first(self.states.exist()):
            about |= {key: value for key, value in known(self.record).items() if key == "out_of_memory"}
        else:
            self.record.write_json("manifest.json", about)
        self.record.write_status("running")
        self.record.clear(resumes=resumes)
        self.record.write_json("config.json", config.resolved)
        return about


def claim(config: RunConfig, name: str, holding: ExitStack) -> Claim | Outcome:
    """Claim a run's record until `holding` is closed. A complete one that goes to a store is uploaded.

    Returns:
        The claim; or, where there is nothing to run, the outcome.

    Raises:
        BadInput: the record cannot be written.
        RunFailed: the store is away.
    """
    here = Record(config.results.folder / name)
    if config.results.store and not config.force and here.status is None and uploaded(config.results.store, name):
        return Outcome(here, ran=False)
    record = open_record(config.results.folder, name)
    try:
        record, lock = holding.enter_context(owned(record))
    except Held as other:
        return Outcome(record, ran=False, held_by=str(other))
    states = states_of(record, lock)
    complete = ranks.first(record.status == "complete")
    if complete or config.force:
        states.remove()
    if complete and not config.force:
        if config.results.store:
            upload(config.results.store, record)
        return Outcome(record, ran=False)
    return Claim(record, states)
