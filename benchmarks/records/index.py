"""All records of a folder, read once: an index keeps what was read, and a later call reads only what changed since.

The index is a cache and nothing more. It lies in the results folder as `.index.gz`; where it is absent, damaged
or of another version of this code, everything is read again, and where it cannot be written it is not.
A record counts as unchanged while every file of it has the size, inode and times (of modification and of the inode's
change, which no `touch` sets back) that it had when it was read.

It is gzip members one after the other: the head, which is JSON and has what every command reads of every record, and
then for each record the lines of its `Details`, which are unpacked where somebody asks for them.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import math
import os
import tempfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.records.reading import FILES, Damaged, Details, Run, read_run
from benchmarks.records.record import Record
from tasks.errors import BadInput
from tasks.files import read_file

INDEX = ".index.gz"
LARGEST_FILE = 2**28
"""Bytes of the index: some hundred thousand records."""
LARGEST_HEAD, LARGEST_DETAILS = 2**30, 2**26
"""Bytes, unpacked."""
MANY = 500
"""From so many new records on, several processes read them."""
AT_ONCE = 50
"""Records that a process is handed."""
GZIP = 31
"""What zlib calls gzip's format."""
Row = dict[str, Any]
"""What the head says of a record: name, signature, reason (why it was set aside, or null), and of one that was not,
status, about, problems, seal, and where its details begin behind the head and how many bytes they are."""


class _Kept(NamedTuple):
    """What the index has of one record."""

    row: Row
    packed: bytes | memoryview
    """Its details."""


@dataclass(slots=True)
class Index:
    """What a folder's records hold."""

    directory: Path
    runs: list[Run]
    set_aside: list[tuple[str, str]]
    """(name, reason) of the records that cannot be used."""
    memory: dict[str, list[float]] = field(default_factory=dict)
    """Numbers computed from runs, by a hash of all that they were computed from."""
    _kept: list[_Kept] = field(default_factory=list)
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
        memory = {key: numbers for key, numbers in self.memory.items() if key in self._used}
        places: dict[tuple[str, ...], int] = {}
        rows, at = [], 0
        for row, packed in self._kept:
            # Most records share their problems, which are written once.
            place = places.setdefault(row["problems"], len(places))
            rows.append({**row, "problems": place, "at": at, "size": len(packed)})
            at += len(packed)
        head = {"code": _code("records"), "memory": memory, "problems": list(places), "rows": rows}
        content = b"".join([gzip.compress(json.dumps(head).encode(), 1), *(packed for _, packed in self._kept)])
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
        kept = [entry for entry in [_read(directory / only)] if entry]
        return Index(directory, _runs(directory, kept), _aside(kept))
    known, memory = _load(directory)
    found, fresh = {}, []
    for folder in _folders(directory):
        before = known.get(folder.name)
        if before and before.row["signature"] == _signature(folder):
            found[folder.name] = before
        else:
            fresh.append(folder)
    read = {kept.row["name"]: kept for kept in _read_all(fresh) if kept}
    kept = [entry for _, entry in sorted((found | read).items())]
    return Index(directory, _runs(directory, kept), _aside(kept), memory, kept, bool(read) or len(kept) != len(known))


def _folders(directory: Path) -> list[Path]:
    with os.scandir(directory) as entries:
        # A link is looked at, and set aside: what it leads to is no record of this folder.
        names = sorted(entry.name for entry in entries if entry.is_symlink() or entry.is_dir(follow_symlinks=False))
    return [directory / name for name in names]


def _runs(directory: Path, kept: Sequence[_Kept]) -> list[Run]:
    return [
        Run(row["name"], row["status"], row["about"], row["problems"], row["seal"], _Packed(directory, entry))
        for entry in kept
        if (row := entry.row)["reason"] is None
    ]


def _aside(kept: Sequence[_Kept]) -> list[tuple[str, str]]:
    return [(row["name"], row["reason"]) for row, _ in kept if row["reason"] is not None]


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


def _read_all(folders: Sequence[Path]) -> list[_Kept | None]:
    if len(folders) < MANY:
        return list(map(_read, folders))
    # Not forked: Arrow has threads by now, and a fork of a process with threads may hang.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        return list(processes.map(_read, folders, chunksize=AT_ONCE))


def _read(folder: Path) -> _Kept | None:
    """What the index keeps of a folder; None where it is no record."""
    if not (signature := _signature(folder)):
        return None
    row: Row = {"name": folder.name, "signature": signature, "reason": None, "problems": ()}
    try:
        run = read_run(Record(folder))
    except Damaged as damage:
        return _Kept(row | {"reason": str(damage)}, b"")
    row |= {"status": run.status, "about": run.about, "problems": run.problems, "seal": run.seal}
    details = run.details()
    answers = [details.base, details.final, details.base_tstar, details.final_tstar]
    # A line each: in JSON that was read, a line break is a blank between values and nothing else.
    lines = [details.manifest.replace("\n", " "), details.curve, json.dumps(answers)]
    return _Kept(row, gzip.compress("\n".join(lines).encode(), compresslevel=1))


class _Packed:
    """The details of one record, unpacked when somebody asks for them."""

    __slots__ = ("directory", "found", "kept")

    def __init__(self, directory: Path, kept: _Kept) -> None:
        self.directory, self.kept = directory, kept
        self.found: Details | None = None

    def __call__(self) -> Details:
        if self.found is None:
            self.found = self._unpacked()
        return self.found

    def _unpacked(self) -> Details:
        row, packed = self.kept
        # A cache that cannot be read is no cache: whatever is wrong with it, the record tells the same again.
        try:
            manifest, curve, answers = _unpacked(packed, LARGEST_DETAILS)[0].split(b"\n")
            base, final, *tstar = json.loads(answers)
            sizes = {len(base), len(final), *map(len, filter(None, tstar))}
            if sizes == {len(row["problems"])} and all(map(_are_shares, (base, final, *tstar))):
                return Details(manifest.decode(), curve.decode(), base, final, *tstar)
        except Exception:
            pass
        try:
            return read_run(Record(self.directory / row["name"])).details()
        except Damaged as damage:
            raise BadInput(f"{row['name']}: {damage}; it changed just now, so run this again") from None


def _are_shares(values: list[Any]) -> bool:
    # Not number by number: there are hundreds a record. A NaN may hide from `min` and `max`, and not from a sum.
    numbers = set(map(type, values)) <= {int, float}
    return numbers and min(values, default=0) >= 0 and max(values, default=0) <= 1 and not math.isnan(sum(values))


def _load(directory: Path) -> tuple[dict[str, _Kept], dict[str, list[float]]]:
    """What the index has by record's name, and what was computed; nothing where there is no index to be used."""
    # A cache that cannot be read is no cache: whatever is wrong with it, the records tell the same again.
    try:
        text, packed = _unpacked(read_file(directory / INDEX, LARGEST_FILE, follow=False), LARGEST_HEAD)
        head = json.loads(text)
        if head["code"] != _code("records"):
            return {}, {}
        memory = {str(key): [float(number) for number in numbers] for key, numbers in head["memory"].items()}
        problems = [tuple(map(str, ids)) for ids in head["problems"]]
        kept = {}
        for row in head["rows"]:
            at, size = row.pop("at"), row.pop("size")
            row["problems"] = problems[row["problems"]]
            kept[row["name"]] = _Kept(row, packed[at : at + size])
        sound = all(isinstance(row["signature"], str) for row, _ in kept.values())
        sound = sound and all(isinstance(run.about, dict) for run in _runs(directory, list(kept.values())))
        return (kept, memory) if sound else ({}, {})
    except Exception:
        return {}, {}


def _unpacked(content: bytes | memoryview, most: int) -> tuple[bytes, memoryview]:
    """The first gzip member, and what follows it."""
    unpacker = zlib.decompressobj(GZIP)
    text = unpacker.decompress(content, most)
    if not unpacker.eof:
        raise ValueError(f"it is cut, or unpacks to more than {most / 2**20:g} MiB")
    return text, memoryview(unpacker.unused_data)


@cache
def _code(room: str = "") -> str:
    """A hash of the code of a room of this floor, or of all: what other code read or computed must not be believed."""
    floor = Path(__file__).parents[1]
    sources = sorted({*(floor / room).rglob("*.py"), floor / "wording.py"})
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
