"""All records of a folder, read once: an index keeps what was read, and a later call reads only what changed since.

The index is a cache and nothing more. It lies in the results folder as `.index.parquet`; where it is absent, damaged,
of another version of this code or of pyarrow, everything is read again, and where it cannot be written it is not.
A record counts as unchanged while every file of it has the size, inode and times (of modification and of the inode's
change, which no `touch` sets back) that it had when it was read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.reading import FILES, Answers, Damaged, Run, read_run
from benchmarks.record import Record
from tasks.errors import BadInput

INDEX = ".index.parquet"
TEXTS = ("name", "signature", "reason", "status", "about", "problems", "seal", "manifest", "curve")


@dataclass(slots=True)
class Index:
    """What a folder's records hold."""

    directory: Path
    runs: list[Run]
    set_aside: list[tuple[str, str]]
    """(name, reason) of the records that cannot be used."""
    memory: dict[str, list[float]] = field(default_factory=dict)
    """Numbers computed from runs, by a hash of all that they were computed from."""
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _changed: bool = False
    _used: set[str] = field(default_factory=set)

    def key(self, what: str, groups: Sequence[Sequence[Run]]) -> str:
        """A hash of all that a number computed from complete runs depends on: their contents, and the code."""
        seals = [[run.seal for run in runs] for runs in groups]
        return hashlib.sha256(json.dumps([_code(), what, seals]).encode()).hexdigest()

    def remember(self, key: str, numbers: Sequence[float]) -> None:
        """Keep numbers for the next call."""
        self.memory[key] = list(numbers)
        self._used.add(key)
        self._changed = True

    def recall(self, key: str) -> list[float] | None:
        """Numbers of an earlier call."""
        self._used.add(key)
        return self.memory.get(key)

    def save(self) -> None:
        """Write the index where something changed."""
        if not self._changed:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        # A folder whose name is no text, which Arrow refuses, is read anew each time.
        rows = [row for row in self._rows if row["name"].isprintable()]
        numbers = pa.list_(pa.float64())
        columns = {name: pa.array([row[name] for row in rows], pa.string()) for name in TEXTS}
        columns |= {name: pa.array([row[name] for row in rows], numbers) for name in ("base", "final")}
        kept = {key: numbers for key, numbers in self.memory.items() if key in self._used}
        about = {b"code": _code().encode(), b"memory": json.dumps(kept).encode()}
        table = pa.table(columns)
        # A results folder may be read-only: then every call reads it whole.
        with contextlib.suppress(OSError):
            handle, temporary = tempfile.mkstemp(prefix=INDEX, dir=self.directory)
            os.close(handle)
            try:
                pq.write_table(table.replace_schema_metadata(about), temporary, compression="zstd")
                Path(temporary).replace(self.directory / INDEX)
            finally:
                Path(temporary).unlink(missing_ok=True)


def read_index(directory: Path, only: str | None = None) -> Index:
    """Read every record of a directory, or only the one with this name.

    Raises:
        BadInput: there is no such directory.
    """
    if not directory.is_dir():
        raise BadInput(f"{directory}: no such results folder; run something first, or give --runs DIR")
    if only is not None:
        folders = [directory / only] if _signature(directory / only) else []
        rows = [_read(folder, "") for folder in folders]
        return Index(directory, [_run(row, {}) for row in rows if row["reason"] is None], _aside(rows))
    known, memory = _load(directory)
    rows, changed = [], False
    for folder in _folders(directory):
        if not (signature := _signature(folder)):
            continue
        row = known.get(folder.name)
        if row is None or row["signature"] != signature:
            row, changed = _read(folder, signature), True
        rows.append(row)
    changed |= len(rows) != len(known)
    names: dict[str, list[str]] = {}
    runs = [_run(row, names) for row in rows if row["reason"] is None]
    return Index(directory, runs, _aside(rows), memory, rows, changed)


def _folders(directory: Path) -> list[Path]:
    with os.scandir(directory) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    return [directory / name for name in names]


def _aside(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["name"], row["reason"]) for row in rows if row["reason"] is not None]


def _signature(folder: Path) -> str:
    """Sizes, inodes and times of a record's files; empty where the folder is no record."""
    found = []
    with contextlib.suppress(OSError):
        folders = [str(folder)]
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                        continue
                    stat = entry.stat(follow_symlinks=False)
                    found.append((entry.name, stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns))
    if not any(name in FILES for name, *_ in found):
        return ""
    return hashlib.sha256(repr(sorted(found)).encode(errors="surrogateescape")).hexdigest()


def _read(folder: Path, signature: str) -> dict[str, Any]:
    row: dict[str, Any] = {**dict.fromkeys((*TEXTS, "base", "final")), "name": folder.name, "signature": signature}
    try:
        run = read_run(Record(folder))
    except Damaged as damage:
        return {**row, "reason": str(damage)}
    about = json.dumps(run.about)
    texts = {"status": run.status, "about": about, "seal": run.seal, "manifest": run.manifest, "curve": run.curve}
    ids = sorted(run.final)
    answers = {"base": [run.base[name] for name in ids], "final": [run.final[name] for name in ids]}
    return {**row, **texts, "problems": json.dumps(ids), **answers}


def _run(row: dict[str, Any], names: dict[str, list[str]]) -> Run:
    ids = names.get(row["problems"])
    if ids is None:
        ids = names[row["problems"]] = json.loads(row["problems"])
    base: Answers = dict(zip(ids, row["base"], strict=True))
    final: Answers = dict(zip(ids, row["final"], strict=True))
    about = json.loads(row["about"])
    return Run(row["name"], row["status"], about, base, final, row["seal"], row["manifest"], row["curve"])


def _load(directory: Path) -> tuple[dict[str, dict[str, Any]], dict[str, list[float]]]:
    """The rows of the index by name, and what was computed; nothing where there is no index to be used."""
    import pyarrow.parquet as pq

    # A cache that cannot be read is no cache: whatever is wrong with it, the records tell the same again.
    try:
        with pq.ParquetFile(directory / INDEX) as file:
            about = file.schema_arrow.metadata
            if about[b"code"] != _code().encode():
                return {}, {}
            rows = file.read().to_pylist()
        return {row["name"]: row for row in rows}, json.loads(about[b"memory"])
    except Exception:
        return {}, {}


@cache
def _code() -> str:
    """A hash of this floor's code: what another version of it read or computed must not be believed."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
