"""Complete records under a URL, such as s3://bucket/runs: objects of any file system that fsspec knows.

A run works in a folder of this disk as any other does. When its record is complete, its files are uploaded as
`<record>/<file>`, `status` last, read back and compared; then the copy on this disk goes. A store holds no locks and no
states: machines that share work share a disk.

Readers keep a mirror in the user's cache. Names of objects are a stranger's text: a file is made only of
`<record>/<file>`, both of harmless characters. Credentials are found as fsspec finds them, and never in the URL.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.records.disk import open_file, remove_folder, replace_file
from benchmarks.records.parquet import LARGEST_FILE
from benchmarks.records.record import POLICY, RUNS, Record
from benchmarks.records.redaction import redact
from benchmarks.wording import memory, one_line
from tasks.errors import BadInput, RunFailed, require

FORM = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[:/]")
"""What begins so is a URL; with one slash, it was one before somebody made a path of it."""
READ_ONLY = ("http", "https")
ON_DISK = ("file", "local")
"""Where there are folders, and links."""
ENDPOINT = re.compile(r"(AWS|FSSPEC)\w*ENDPOINT_URL\w*")
"""Variables that say which server a bucket is on."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
KNOWN = ".mirror.json"
AT_ONCE = 8
"""Objects that are fetched side by side: at most so many times the largest file in memory."""
SPARE = 2**30
"""Bytes that stay free on this disk."""
NAMED = 3
"""Of the objects that are left where they are, how many are named."""


class StoreAway(RunFailed):
    """A store that does not answer, or refuses; the text is one line."""


def is_url(text: str) -> bool:
    """Whether a place for records is a store, and no folder."""
    return FORM.match(text) is not None


def is_default(runs: str) -> bool:
    """Whether records go there unless another place is named."""
    return not is_url(runs) and Path(runs) == RUNS


def checked_url(text: str) -> str:
    """A store's URL, without a slash at its end.

    Raises:
        BadInput: it holds credentials, which are not repeated in the message, or is no place for records.
    """
    scheme, _, rest = text.partition(":")
    where = rest.removeprefix("//")
    shown = f"{scheme}:..."
    require("@" not in where, f"{shown}: leave user and password out of the URL; credentials come from the environment")
    require(not any(mark in where for mark in "?#\\") and "::" not in text, f"{shown}: leave out ?, #, \\ and ::")
    placed = rest.startswith("//") and bool(where.strip("/"))
    require(placed, f"{shown}: write SCHEME://PLACE, such as s3://bucket/runs")
    parts = where.strip("/").split("/")
    require(not {"", ".", ".."} & set(parts), f"{one_line(text)}: leave out empty parts, . and ..")
    require(text.isprintable() and len(text) <= 1000, f"{shown}: the URL has to be printable and short")
    readable = scheme.lower() not in READ_ONLY
    require(readable, f"{one_line(text)}: nothing can be put there; use s3://, gs:// or a folder")
    return f"{scheme.lower()}:{rest.rstrip('/')}"


class Store:
    """The objects under a URL.

    Args:
        url: of the form SCHEME://PLACE.

    Raises:
        BadInput: see `checked_url`; or fsspec does not know the scheme, or lacks a package for it.
        StoreAway: from all methods, where the store does not answer or refuses.
    """

    def __init__(self, url: str) -> None:
        from fsspec import get_filesystem_class
        from fsspec.registry import known_implementations

        self.url = checked_url(url)
        self.scheme = self.url.partition(":")[0]
        try:
            self._kind = get_filesystem_class(self.scheme)
        except ValueError:
            raise BadInput(f"{one_line(url)}: no such kind of store; use s3://, gs://, file:// or a folder") from None
        except ImportError as error:
            about: Any = known_implementations.get(self.scheme, {})
            hint = "pip install 'grpo-bench[s3]'" if self.scheme in ("s3", "s3a") else about.get("err") or error
            raise BadInput(f"{one_line(url)} needs a package: {one_line(str(hint))}") from None

    @property
    def folder_name(self) -> str:
        """What this machine calls the store: its name, and a hash of the URL and of the server that it is on."""
        servers = sorted((name, value) for name, value in os.environ.items() if ENDPOINT.fullmatch(name))
        digest = hashlib.sha256(repr((self.url, servers)).encode()).hexdigest()[:12]
        readable = re.sub(r"[^A-Za-z0-9]+", "-", self.url.partition("://")[2]).strip("-")[:40]
        return f"{self.scheme}-{readable}-{digest}"

    @contextmanager
    def _asked(self) -> Iterator[tuple[Any, str]]:
        """The file system, new each time since others write there too, and the path of the URL's place in it."""
        try:
            system = self._kind(skip_instance_cache=True, use_listings_cache=False)
            yield system, str(system._strip_protocol(self.url)).rstrip("/")
        except RunFailed:
            raise
        # Clients of stores raise nearly anything, and all of it means that nothing was done.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise StoreAway(f"{one_line(self.url)}: {one_line(redact(reason)[:300])}") from None

    def list(self, under: str = "") -> dict[str, dict[str, Any]]:
        """Objects by key, which a stranger may have chosen, and what the store says of each: `size`, and more."""
        with self._asked() as (system, root):
            found = system.find(f"{root}/{under}".rstrip("/"), detail=True)
            return {
                path.removeprefix(f"{root}/"): about
                for path, about in found.items()
                if path.startswith(f"{root}/") and about.get("type", "file") == "file" and not about.get("islink")
            }

    def read(self, key: str, largest: int) -> bytes:
        """An object, as far as it is no longer than that; StoreAway where it is not there, too."""
        with self._opened(key) as stream:
            return bytes(stream.read(largest))

    @contextmanager
    def _opened(self, key: str) -> Iterator[Any]:
        with self._asked() as (system, root), system.open(self._place(root, key), "rb") as stream:
            yield stream

    def _place(self, root: str, key: str) -> str:
        if self.scheme in ON_DISK and os.path.realpath(f"{root}/{key}") != f"{os.path.realpath(root)}/{key}":
            raise OSError("it is reached through a link")
        return f"{root}/{key}"

    def hash(self, key: str) -> str:
        """SHA-256 of an object, read as a whole."""
        with self._opened(key) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def put(self, key: str, path: Path) -> None:
        """Upload a file of this disk, in the place of an object if there is one."""
        with self._asked() as (system, root):
            if self.scheme in ON_DISK:
                Path(f"{root}/{key}").parent.mkdir(parents=True, exist_ok=True)
            system.put_file(str(path), self._place(root, key))


def uploaded(url: str, name: str) -> bool:
    """Whether a store says that it has a complete record of this name.

    Raises:
        StoreAway: the store does not answer.
    """
    store = Store(url)
    return f"{name}/status" in store.list(name) and store.read(f"{name}/status", 100).strip() == b"complete"


def upload(url: str, record: Record) -> None:
    """Put a complete record into a store, and remove it from this disk once every file is known to be there.

    Raises:
        RunFailed: the store is away, or has not what was put there; the record stays here.
    """
    store, files = Store(url), _files(record.folder)
    try:
        for file, path in files.items():
            store.put(f"{record.name}/{file}", path)
        for file, path in files.items():
            with os.fdopen(open_file(path, os.O_RDONLY), "rb") as stream:
                here = hashlib.file_digest(stream, "sha256").hexdigest()
            if store.hash(f"{record.name}/{file}") != here:
                raise StoreAway(f"{one_line(store.url)}: {record.name}/{file} is not there as it was put")
    except StoreAway as error:
        left = f"{record.name} is complete in {record.folder} and not uploaded, which the same command does"
        raise RunFailed(f"{left}: {error}") from None
    remove_folder(record.folder)


def upload_left(url: str, folder: Path, say: Callable[[str], object]) -> None:
    """Upload the complete records that an earlier command could not.

    Raises:
        RunFailed: the store is away.
    """
    for each in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not each.is_symlink() and Record(each).status == "complete":
            upload(url, Record(each))
            say(f"{each.name}: uploaded")


def _files(folder: Path) -> dict[str, Path]:
    """The files of a record and of its policy by name, `status` last; none that is hidden, or a link."""
    found = {}
    for place in (folder, folder / POLICY):
        for path in sorted(place.iterdir()) if place.is_dir() and not place.is_symlink() else []:
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                found[path.relative_to(folder).as_posix()] = path
    return {file: path for file, path in found.items() if file != "status"} | {"status": folder / "status"}


def readable(runs: str, only: str | None = None) -> Path:
    """The folder that a reader looks into: the one named, or the mirror of the store that is named.

    Args:
        runs: a folder, or a store's URL.
        only: the one record that is needed.

    Raises:
        BadInput: a URL that cannot be used, or too little room for what is there.
        StoreAway: the store does not answer.
    """
    return mirror(Store(runs), only) if is_url(runs) else Path(runs)


def mirror(store: Store, only: str | None = None) -> Path:
    """Bring this disk's copy of a store up to date: fetch what is new or another, and remove what is gone.

    Raises:
        BadInput, StoreAway: see `readable`.
    """
    from filelock import FileLock

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "grpo-bench" / "stores" / store.folder_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be made ({error.strerror}); XDG_CACHE_HOME says where caches go") from None
    # Two at once would take each other's files for what the store no longer has.
    with FileLock(folder / ".lock"):
        listed = _wanted(store, only)
        known: dict[str, str] = {}
        with suppress(OSError, ValueError, AttributeError):
            known = {str(key): str(value) for key, value in json.loads((folder / KNOWN).read_bytes()).items()}
        mine = {key for key in known if only is None or key.startswith(f"{only}/")}
        for key in mine - listed.keys():
            if _is_file_of_a_record(key):
                (folder / key).unlink(missing_ok=True)
        versions = {key: repr(sorted(about.items(), key=str)) for key, about in listed.items()}
        fresh = [key for key in listed if known.get(key) != versions[key] or not (folder / key).is_file()]
        size = sum(listed[key]["size"] or 0 for key in fresh)
        room = max(0, shutil.disk_usage(folder).free - SPARE)
        require(size <= room, f"{one_line(store.url)}: {memory(size)} to fetch, {folder} has room for {memory(room)}")

        def fetch(key: str) -> None:
            content = store.read(key, LARGEST_FILE)
            (folder / key).parent.mkdir(exist_ok=True)
            replace_file(folder / key, content)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(fetch, fresh))
        kept = {key: version for key, version in known.items() if key not in mine}
        replace_file(folder / KNOWN, json.dumps(kept | versions).encode())
    return folder


def _wanted(store: Store, only: str | None) -> dict[str, dict[str, Any]]:
    """The objects that are files of a record; others are left where they are, and some of them named."""
    found, left = {}, []
    listed = store.list(only or "")
    for key, about in listed.items():
        record, _, file = key.partition("/")
        if not _is_file_of_a_record(key):
            if not file.startswith(f"{POLICY}/"):
                left.append(f"{key[:200]}: no name of a record's file")
        elif f"{record}/status" not in listed:
            continue  # It is being uploaded.
        elif (about.get("size") or 0) > LARGEST_FILE:
            left.append(f"{key}: {memory(about['size'])}, and {memory(LARGEST_FILE)} are read at most")
        else:
            found[key] = about
    for line in [*left[:NAMED], *([f"{len(left) - NAMED} more"] if len(left) > NAMED else [])]:
        print(f"not read: {one_line(store.url)}: {one_line(line)}", file=sys.stderr)
    return found


def _is_file_of_a_record(key: str) -> bool:
    return key.count("/") == 1 and all(map(NAME.fullmatch, key.split("/")))
