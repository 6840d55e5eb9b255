"""Claiming a run's record: its lock, its saved states and, where records go to a store, its copy there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from benchmarks.config.schema import RunConfig
from benchmarks.records.record import Record, open_record
from benchmarks.resume.lock import Held
from benchmarks.resume.state import StateStore
from benchmarks.running.attempt import known
from benchmarks.running.sharing import Sharing, complete_in_store, shared
from benchmarks.running.together import owned, states_of
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
    sharing: Sharing | None

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
        self.record.clear(goes_on=resumes)
        self.record.write("config.yaml", OmegaConf.to_yaml(config.resolved).encode())
        if self.sharing:
            self.sharing.begin()
        return about

    @contextmanager
    def uploaded(self) -> Iterator[None]:
        """Have the store know how what is done inside ended."""
        try:
            yield
        except BaseException:
            if self.sharing:
                self.sharing.give_up()
            raise
        if self.sharing:
            self.sharing.finish()


def claim(config: RunConfig, name: str, holding: ExitStack, say: Callable[[str], None]) -> Claim | Outcome:
    """Claim a run's record until `holding` is closed.

    Returns:
        The claim; or, where there is nothing to run, the outcome.

    Raises:
        BadInput: the record cannot be written.
        RunFailed: the store is away.
    """
    record = open_record(config.results.folder, name)
    try:
        record, lock = holding.enter_context(owned(record))
        if not config.force and complete_in_store(config.results.store, record):
            return Outcome(record, ran=False)
        sharing = holding.enter_context(shared(config.results.store, record, config.results.upload_every_s, say))
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
    return Claim(record, states, sharing)
