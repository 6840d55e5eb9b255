"""All records of a folder, read once: an index keeps what was read, and a later call reads only what changed since.

The index is a cache and nothing more. It lies in the results folder as `.index.gz`; where it is absent, damaged
or of another version of this code, everything is read again, and where it cannot be written it is not.
A record counts as unchanged while every file of it has the size, inode and times (of modification and of the inode's
change, which no `touch` sets back) that it had when it was read.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.records.parquet import LARGEST_FILE
from benchmarks.records.reading import FILES, Answers, Damaged, Run, read_run
from benchmarks.records.record import Record
from tasks.errors import BadInput
from tasks.files import read_file

INDEX = ".index.gz"
LARGEST_INDEX = 2**30
"""Bytes of the index, unpacked: some hundred thousand records."""
MANY = 1000
"""From so many new records on, several processes read them."""
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

    def recall(self, key: str, *counts: int) -> list[float] | None:
        """Numbers of an earlier call, if they are as many as one of `counts` says: the file may be a stranger's."""
        self._used.add(key)
        numbers = self.memory.get(key)
        return numbers if numbers is not None and len(numbers) in counts else None

    def save(self) -> None:
        """Write the index where something changed."""
        if not self._changed:
            return
        kept = {key: numbers for key, numbers in self.memory.items() if key in self._used}
        lines = [json.dumps({"code": _code(), "memory": kept}), *map(json.dumps, self._rows)]
        content = gzip.compress("\n".join(lines).encode(), compresslevel=1)
        # A results folder may be read-only: then every call reads it whole.
        with contextlib.suppress(OSError):
            handle, temporary = tempfile.mkstemp(prefix=INDEX, dir=self.directory)
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(content)
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
    signatures = {folder: signature for folder in _folders(directory) if (signature := _signature(folder))}
    fresh = [folder for folder, s in signatures.items() if known.get(folder.name, {}).get("signature") != s]
    found = dict(zip(fresh, _read_all(fresh, [signatures[folder] for folder in fresh]), strict=True))
    rows = [found.get(folder) or known[folder.name] for folder in signatures]
    changed = bool(fresh) or len(rows) != len(known)
    names: dict[str, list[str]] = {}
    runs = [_run(row, names) for row in rows if row["reason"] is None]
    return Index(directory, runs, _aside(rows), memory, rows, changed)


def _folders(directory: Path) -> list[Path]:
    with os.scandir(directory) as entries:
        # A link is looked at, and set aside: what it leads to is no record of this folder.
        names = sorted(entry.name for entry in entries if entry.is_symlink() or entry.is_dir(follow_symlinks=False))
    return [directory / name for name in names]


def _aside(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["name"], row["reason"]) for row in rows if row["reason"] is not None]


def _signature(folder: Path) -> str:
    """Sizes, inodes and times of a record's files; empty where the folder is no record."""
    found = []
    with contextlib.suppress(OSError):
        if folder.is_symlink():
            return f"link to {folder.readlink()}" if folder.is_dir() else ""
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


def _read_all(folders: Sequence[Path], signatures: Sequence[str]) -> list[dict[str, Any]]:
    if len(folders) < MANY:
        return list(map(_read, folders, signatures))
    # Not forked: Arrow has threads by now, and a fork of a process with threads may hang.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        return list(processes.map(_read, folders, signatures, chunksize=100))


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
    # A cache that cannot be read is no cache: whatever is wrong with it, the records tell the same again.
    try:
        head, *lines = _unpacked(read_file(directory / INDEX, LARGEST_FILE, follow=False)).split("\n")
        about = json.loads(head)
        if about["code"] != _code():
            return {}, {}
        memory = {str(key): [float(number) for number in numbers] for key, numbers in about["memory"].items()}
        rows = {row["name"]: row for row in map(json.loads, lines)}
        for row in rows.values():
            if row["reason"] is None:
                _run(row, {})
        return rows, memory
    except Exception:
        return {}, {}


def _unpacked(content: bytes) -> str:
    unpacker = zlib.decompressobj(wbits=31)  # gzip's format
    text = unpacker.decompress(content, LARGEST_INDEX)
    if not unpacker.eof:
        raise ValueError(f"it is cut, or unpacks to more than {LARGEST_INDEX / 2**20:g} MiB")
    return text.decode()


@cache
def _code() -> str:
    """A hash of this floor's code: what another version of it read or computed must not be believed."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
