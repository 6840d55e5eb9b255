"""The starting policy's evaluation, made once and reused by every run that starts from the same policy.

It lies beside the records as `.evaluations/HASH.json`: a line with the SHA-256 of the rest, and the rest, compressed
JSON. HASH is that of all that decides it: weights and instructions, task, other task, evaluation settings, seed,
device, dtype, threads, sampler, packages, commit. A file that is damaged is not used but made again.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.records.disk import replace_file
from benchmarks.running.capability import Capability
from policies import ranks
from tasks.api import Task
from tasks.errors import require
from tasks.files import read_file

if TYPE_CHECKING:
    from benchmarks.config.schema import RunConfig

FOLDER = ".evaluations"
LARGEST = 2**30
"""Bytes of JSON."""
DECIDES = ("policy_state", "task_fingerprint", "device", "processes", "threads", "dtype", "packages", "git_commit")
"""What the manifest says that decides an evaluation."""


@dataclass(frozen=True, slots=True)
class StartEvaluation:
    """What is known of a starting policy."""

    val: dict[str, float]
    """Metrics of the learning curve's first point."""
    capability: Capability
    costs: Mapping[str, float]
    """What the run that made this booked for it, without `val`: wall_s, cpu_s, flops, rollouts."""
    made_by: str
    """Name of that run's record."""


class Shelf:
    """The place of one starting policy's evaluation. In a run of several processes the first reads and writes."""

    def __init__(self, config: RunConfig, manifest: Mapping[str, Any], other: Task | None) -> None:
        about = {
            **{name: manifest[name] for name in DECIDES},
            **{name: config.resolved.get(name) for name in ("task", "plugins", "evaluate")},
            **{name: getattr(config.policy, name) for name in ("sampler", "max_action_tokens")},
            "other": other and other.fingerprint(),
            "seed": config.seed,
        }
        self.key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        self.path = config.results.folder / FOLDER / f"{self.key}.json"
        self.lock = self.path.with_suffix(".lock")
        for path in (self.path.parent, self.lock):
            require(not path.is_symlink(), f"{path}: is a symbolic link, and is not written to; remove it")
        self.force = config.force

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While this is held no other run of this machine makes the same evaluation."""
        from filelock import FileLock

        if not ranks.is_first():
            yield
            return
        self.path.parent.mkdir(exist_ok=True)
        with FileLock(self.lock):
            yield

    def start_metrics(self) -> dict[str, float] | None:
        """Metrics of the learning curve's first point, if another run has measured them. All processes must ask."""
        found = self.read()
        return found.val if found else None

    def read(self) -> StartEvaluation | None:
        """What is there; None where nothing is, it is damaged, or `force` wants a new one. All processes must ask."""
        return None if self.force else ranks.once(self._read)

    def _read(self) -> StartEvaluation | None:
        try:
            digest, _, packed = read_file(self.path, LARGEST, follow=False).partition(b"\n")
        except OSError:
            return None
        if hashlib.sha256(packed).hexdigest().encode() != digest:
            return None
        try:
            found = json.loads(zlib.decompressobj().decompress(packed, LARGEST))
            return StartEvaluation(found["val"], Capability(**found["capability"]), found["costs"], found["made_by"])
        except (ValueError, LookupError, TypeError, RecursionError, zlib.error):
            return None  # Not as `write` leaves it, though its hash is right.

    def write(self, found: StartEvaluation) -> None:
        """Put an evaluation there, for other runs."""
        if not ranks.is_first():
            return
        known = Capability(found.capability.numbers, found.capability.tables)
        text = json.dumps(asdict(StartEvaluation(found.val, known, found.costs, found.made_by)))
        packed = zlib.compress(text.encode(), 1)
        replace_file(self.path, hashlib.sha256(packed).hexdigest().encode() + b"\n" + packed)
