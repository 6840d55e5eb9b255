"""Noticing that a run learns nothing, and saying so while there is time to stop it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.config.schema import RunConfig

FIRST = 2
"""Updates after which a run that never saw a difference says so."""


def no_signal(rows: Sequence[Mapping[str, float | None]], config: RunConfig) -> str:
    """What to say after an update, where no group of the first updates had rewards that differ; nothing otherwise.

    A group whose rollouts all score alike has no advantages, whichever algorithm computes them.

    Args:
        rows: of the ledger, up to now.
        config: of the run.
    """
    if len(rows) != FIRST or any(row.get("groups_without_signal") != 1 for row in rows):
        return ""
    groups = FIRST * config.algo.problems_per_update
    sft = "try warmstart=sft" if config.warmstart is None else "try a longer warm start (warmstart.transcripts)"
    return f"all {groups} groups have equal rewards: nothing to learn; {sft}"
