"""A few updates of a run that leave nothing behind: for estimates and checks."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks.config.schema import RunConfig
from benchmarks.records.record import Record
from benchmarks.running.ledger import Ledger
from benchmarks.running.progress import Progress
from benchmarks.running.session import RunSession
from tasks.api import Task

if TYPE_CHECKING:
    from policies.language_model import LanguageModel


class Rehearsal(RunSession):
    """A session that evaluates nothing."""

    def checkpoint(self) -> None:
        """Nothing: a rehearsal is about improving."""


@contextmanager
def rehearsal(
    config: RunConfig,
    policy: LanguageModel,
    task: Task,
    updates: int,
    ledger: Ledger | None = None,
    kind: type[Rehearsal] = Rehearsal,
) -> Iterator[Any]:
    """A session of so many updates at most, whose record is in a temporary folder and silent."""
    short = replace(config, budget=replace(config.budget, updates=updates))
    with tempfile.TemporaryDirectory(prefix="grpo-bench-") as folder:
        silent = Progress(Console(file=io.StringIO()), "rehearsal")
        yield kind(short, policy, task, Record(Path(folder)), silent, Path(folder), ledger)
