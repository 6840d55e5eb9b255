"""What a store holds, as a folder on this disk: readers read that, within the limits that hold for any folder.

A mirror lies in the user's cache. A call lists the store once, fetches the objects whose version is another than when
they were fetched last, and removes what is no longer there. Keys are a stranger's: a file is made only of
`<record>/<file>`, both of harmless characters; everything else is counted, named and left where it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from benchmarks.records.parquet import LARGEST_FILE
from benchmarks.records.record import POLICY, RUNS, STATE
from benchmarks.records.store import Entry, Store, is_url
from benchmarks.wording import memory, one_line
from tasks.errors import BadInput

KNOWN = ".mirror.json"
TRIES = 3
"""Listings in one call, while a run uploads: an old list of files with a new status would look like damage."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
AT_ONCE = 8
"""Objects that are fetched side by side: at most so many times the largest file in memory."""
SPARE = 2**30
"""Bytes that stay free on this disk."""
NAMED = 3
"""Of the objects that are left where they are, how many are named."""


class NoRecords(BadInput):
    """A store without a record."""


def readable(runs: str, only: str | None = None) -> Path:
    """The folder that a reader looks into: the one named, or the mirror of the store that is named.

    Args:
        runs: a folder, or a store's URL.
        only: the one record that is needed.

    Raises:
        BadInput: no records there, a URL that cannot be used, or too little room for what is there.
        StoreAway: the store does not answer.
    """
    return mirror(Store(runs), only) if is_url(runs) else Path(runs)


def nothing_there(runs: str) -> bool:
    """Whether there is no such folder, or nothing in such a store.

    Raises:
        BadInput, StoreAway: see `readable`.
    """
    try:
        return not readable(runs).is_dir()
    except NoRecords:
        return True


def is_default(runs: str) -> bool:
    """Whether records go there without being told so."""
    return not is_url(runs) and Path(runs) == RUNS


def mirror(store: Store, only: str | None = None) -> Path:
    """Bring the mirror of a store up to date.

    Raises:
        BadInput, StoreAway: see `readable`.
    """
    from filelock import FileLock

    folder = mirrors() / store.folder_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be made ({error.strerror}); XDG_CACHE_HOME says where caches go") from None
    left: list[str] = []
    # Two at once would take each other's files for what the store no longer has.
    with FileLock(folder / ".lock"):
        for _ in range(TRIES):
            listed, left = wanted(store.list(only or ""))
            if not _follow(store, listed, folder, only):
                break
    say_left(store, left)
    if not listed and only is None:
        url = one_line(store.url)
        raise NoRecords(f"{url}: there are no records; results.dir={url} puts them there")
    return folder


def _follow(store: Store, listed: Mapping[str, Entry], folder: Path, only: str | None) -> bool:
    """Fetch what is new and remove what is gone. Returns whether there was anything, so that more may have come."""
    known = _load(folder)
    mine = {key for key in known if only is None or key.startswith(f"{only}/")}
    gone = mine - listed.keys()
    for key in gone:
        _forget(folder, key)
    fresh = {
        key: entry for key, entry in listed.items() if known.get(key) != entry.version or not (folder / key).is_file()
    }
    refuse_unfit(folder, sum(entry.size for entry in fresh.values()), store.url)
    absent = fetch(store, fresh, folder)
    kept = {key: version for key, version in known.items() if key not in mine}
    found = {key: entry.version for key, entry in listed.items() if key not in absent}
    _write(folder / KNOWN, json.dumps(kept | found).encode())
    return bool(gone or fresh)


def mirrors() -> Path:
    """Where this user's mirrors are."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "grpo-bench" / "stores"


def wanted(listed: Mapping[str, Entry]) -> tuple[dict[str, Entry], list[str]]:
    """The objects that are files of a record, by key; and why others are left where they are, a line each."""
    found: dict[str, Entry] = {}
    left = []
    for key, entry in listed.items():
        parts = key.split("/")
        hidden = parts[0].startswith(".") and parts[0] not in (".", "..")  # Locks, warm starts, an index.
        if hidden or parts[1:2] in ([STATE], [POLICY]):
            continue
        if not _is_file_of_a_record(key):
            left.append(f"{key[:200]}: no name of a record's file")
        elif entry.size > LARGEST_FILE:
            left.append(f"{key}: {memory(entry.size)}, and {memory(LARGEST_FILE)} are read at most")
        else:
            found[key] = entry
    return found, left


def say_left(store: Store, left: list[str]) -> None:
    """Name some of what is not read, on standard error."""
    for line in left[:NAMED]:
        print(f"not read: {one_line(store.url)}: {one_line(line)}", file=sys.stderr)
    if len(left) > NAMED:
        print(f"not read: {one_line(store.url)}: {len(left) - NAMED} more", file=sys.stderr)


def refuse_unfit(folder: Path, size: int, url: str) -> None:
    """Refuse to fill this disk.

    Raises:
        BadInput: so many bytes do not fit.
    """
    free = shutil.disk_usage(folder).free - SPARE
    if size > free:
        raise BadInput(
            f"{one_line(url)}: {memory(size)} are to be fetched, and {folder} has room for {memory(max(0, free))}"
        )


def fetch(store: Store, entries: Mapping[str, Entry], folder: Path) -> set[str]:
    """Write objects whose keys `wanted` let pass to files below a folder, a record's `status` after its other files.

    Returns:
        Keys of what was gone, or had outgrown the limit, when it was asked for.
    """

    def one(key: str) -> str | None:
        target = folder / key
        try:
            content = store.read(key, LARGEST_FILE, entries[key])
        except OSError:  # StoreAway is none.
            target.unlink(missing_ok=True)
            return key
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, content, entries[key].modified)
        return None

    last = [key for key in entries if key.endswith("/status")]
    first = [key for key in entries if not key.endswith("/status")]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        gone = [key for group in (first, last) for key in pool.map(one, group)]
    return {key for key in gone if key is not None}


def _write(path: Path, content: bytes, modified: float | None = None) -> None:
    """A cache need not survive a power cut, but nobody is to see half a file."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    if modified is not None:
        with suppress(OSError, OverflowError):
            os.utime(part, (modified, modified))
    part.replace(path)


def _load(folder: Path) -> dict[str, str]:
    """Versions of what was fetched, by key; nothing where this cannot be read: all is fetched again, then."""
    with suppress(OSError, ValueError):
        known = json.loads((folder / KNOWN).read_bytes())
        if isinstance(known, dict):
            return {
                key: version for key, version in known.items() if _is_file_of_a_record(key) and isinstance(version, str)
            }
    return {}


def _is_file_of_a_record(key: object) -> bool:
    """Whether a key is one that a file is made of."""
    parts = key.split("/") if isinstance(key, str) else []
    return len(parts) == 2 and all(NAME.fullmatch(part) for part in parts)


def _forget(folder: Path, key: str) -> None:
    (folder / key).unlink(missing_ok=True)
    with suppress(OSError):  # Another file of the record is there yet.
        (folder / key).parent.rmdir()
