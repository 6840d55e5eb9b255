"""Records under a URL, such as s3://bucket/runs: the objects of any file system that fsspec knows.

A store holds what a results folder holds, an object a file: `<record>/<file>`. Whole objects are put, read and listed,
and nothing else is asked of it. Names of objects are a stranger's text: no path on this disk is made of one before
`benchmarks.records.mirror` has looked at it. Credentials are found as fsspec finds them, in the environment, and never
in the URL.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.records.disk import replace_file
from benchmarks.records.redaction import redact
from benchmarks.wording import one_line
from tasks.errors import BadInput, RunFailed, require

T = TypeVar("T")
FORM = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[:/]")
"""What begins so is a URL; with one slash, it was one before somebody made a path of it."""
READ_ONLY = ("http", "https")
ON_DISK = ("file", "local")
"""Where there are links, and files that are written in place."""
ENDPOINT = re.compile(r"(AWS|FSSPEC)\w*ENDPOINT_URL\w*")
"""Variables that say which server a bucket is on."""
TOKENS = ("ETag", "etag", "md5Hash", "generation", "ino", "mtime", "LastModified", "last_modified", "created")
"""What a listing says of an object's content or age; file systems differ in what they say."""
TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")
CONFLICTS = (409, 412)
"""What S3 answers to one of two who create the same object at once."""


class StoreAway(RunFailed):
    """A store that does not answer, or refuses; the text is one line."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a listing says of an object."""

    size: int
    """Bytes."""
    version: str
    """Changes where the object does."""
    modified: float | None
    """Unix time, by the store's clock."""


def is_url(text: str) -> bool:
    """Whether a place for records is a store, and no folder."""
    return FORM.match(text) is not None


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
    require(
        rest.startswith("//") and bool(where.strip("/")), f"{shown}: write SCHEME://PLACE, such as s3://bucket/runs"
    )
    parts = where.strip("/").split("/")
    require(not {"", ".", ".."} & set(parts), f"{one_line(text)}: leave out empty parts, . and ..")
    require(text.isprintable() and len(text) <= 1000, f"{shown}: the URL has to be printable and short")
    require(
        scheme.lower() not in READ_ONLY, f"{one_line(text)}: nothing can be put there; use s3://, gs:// or a folder"
    )
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
        self.url = checked_url(url)
        self.scheme = self.url.partition(":")[0]
        self._on_disk = self.scheme in ON_DISK
        self._kind = file_system(self.scheme, self.url)
        self._made: Any = None
        self._root = ""

    @property
    def folder_name(self) -> str:
        """What this machine calls the store: its name, and a hash of the URL and of the server that it is on."""
        servers = sorted((name, value) for name, value in os.environ.items() if ENDPOINT.fullmatch(name))
        digest = hashlib.sha256(repr((self.url, servers)).encode()).hexdigest()[:12]
        readable = re.sub(r"[^A-Za-z0-9]+", "-", self.url.partition("://")[2]).strip("-")[:40]
        return f"{self.scheme}-{readable}-{digest}"

    def list(self, under: str = "") -> dict[str, Entry]:
        """Objects below a name by their keys, which a stranger may have chosen."""
        place = self._place(under)
        # Where nothing is there, nothing is listed; what is not found is the bucket, or the whole server.
        found = self._tell(lambda fs: fs.find(place, detail=True))
        begin, below = self._root.rstrip("/") + "/", place + "/"
        return {
            path.removeprefix(begin): _entry(about)
            for path, about in found.items()
            if path.startswith(below) and about.get("type", "file") == "file" and self._within(path)
        }

    def read(self, key: str, largest: int, listed: Entry | None = None) -> bytes:
        """An object.

        Args:
            key: its name.
            largest: bytes that it may have.
            listed: what a listing said of it, which spares asking.

        Raises:
            FileNotFoundError: there is none.
            OSError: it is larger than that many bytes, or a link (in file:// only) leads elsewhere.
        """
        place = self._place(key)
        if not self._within(place):
            raise OSError(errno.ELOOP, "it is reached through a link")

        def get(fs: Any) -> bytes:
            # S3 refuses a range of an empty object.
            size = listed.size if listed else fs.info(place)["size"]
            return bytes(fs.cat_file(place, start=0, end=largest + 1)) if size else b""

        content = self._ask(get)
        if len(content) > largest:
            raise OSError(errno.EFBIG, f"it is larger than {largest / 2**20:g} MiB")
        return content

    def write(self, key: str, data: bytes) -> None:
        """Put an object in the place of another, if there is one."""
        if self._on_disk:
            self._put_local(key, data)
        else:
            self._tell(lambda fs: fs.pipe_file(self._place(key), data))

    def create(self, key: str, data: bytes) -> bool:
        """Put an object unless there is one. Returns whether it did.

        Atomic where the store can do that, as S3 can; who relies on it reads back.
        """

        def put(fs: Any) -> bool:
            if self._on_disk:
                fs.makedirs(fs._parent(self._place(key)), exist_ok=True)
                with suppress(FileExistsError), open(self._place(key), "xb") as stream:  # noqa: PTH123
                    stream.write(data)
                    return True
                return False
            try:
                fs.pipe_file(self._place(key), data, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                answer = getattr(error.__cause__, "response", {}).get("ResponseMetadata", {})
                if answer.get("HTTPStatusCode") in CONFLICTS:
                    return False
                raise
            return True

        return self._tell(put)

    def upload(self, key: str, path: Path) -> None:
        """Put a file of this disk."""
        if self._on_disk:
            self._put_local(key, path.read_bytes())
        else:
            self._tell(lambda fs: fs.put_file(str(path), self._place(key)))

    def download(self, key: str, path: Path) -> None:
        """Write an object of any size to a file of this disk, whose name is this side's choice.

        Raises:
            FileNotFoundError: there is no such object.
            OSError: a link (in file:// only) leads elsewhere.
        """
        place = self._place(key)
        if not self._within(place):
            raise OSError(errno.ELOOP, "it is reached through a link")
        part = path.with_name(f".{path.name}.part")
        part.unlink(missing_ok=True)
        self._ask(lambda fs: fs.get_file(place, str(part)))
        part.replace(path)

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; some may be gone already."""
        for key in keys:
            with suppress(FileNotFoundError):
                self._ask(lambda fs, key=key: fs.rm_file(self._place(key)))  # type: ignore[misc]

    def entry(self, key: str) -> Entry | None:
        """What the store says of one object; None where there is none."""
        try:
            return _entry(self._ask(lambda fs: fs.info(self._place(key))))
        except FileNotFoundError:
            return None

    def _put_local(self, key: str, data: bytes) -> None:
        """A file system's own way is to write in place, where a reader sees half a file."""

        def put(fs: Any) -> None:
            path = Path(self._place(key))
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, data)

        self._tell(put)

    def _place(self, key: str) -> str:
        if self._made is None:
            self._ask(lambda fs: None)
        return f"{self._root.rstrip('/')}/{key}".rstrip("/")

    def _within(self, place: str) -> bool:
        """Whether an object is where its name says: only a disk has links."""
        if not self._on_disk:
            return True
        root = os.path.realpath(self._root)
        return os.path.realpath(place) == root + place.removeprefix(self._root.rstrip("/"))

    def _ask(self, what: Callable[[Any], T]) -> T:
        """What the file system answers; FileNotFoundError passes."""
        try:
            if self._made is None:
                # Neither instances nor listings are to be remembered: others write there too.
                made = self._kind(skip_instance_cache=True, use_listings_cache=False)
                self._root = str(made._strip_protocol(self.url))
                self._made = made
            self._made.invalidate_cache()
            return what(self._made)
        except FileNotFoundError:
            raise
        # Clients of stores raise nearly anything, and all of it means that nothing was done.
        except Exception as error:
            raise self._away(error) from None

    def _tell(self, what: Callable[[Any], T]) -> T:
        """The same where nothing has to be there, so that what is not found is the bucket."""
        try:
            return self._ask(what)
        except FileNotFoundError as error:
            raise self._away(error) from None

    def _away(self, error: Exception) -> StoreAway:
        reason = " ".join(str(error).split()) or type(error).__name__
        return StoreAway(f"{one_line(self.url)}: {one_line(redact(reason)[:300])}")


def file_system(scheme: str, url: str) -> Any:
    """fsspec's class for a scheme.

    Raises:
        BadInput: it knows none, or a package is missing.
    """
    from fsspec import get_filesystem_class
    from fsspec.registry import known_implementations

    try:
        return get_filesystem_class(scheme)
    except ValueError:
        raise BadInput(f"{one_line(url)}: no such kind of store; use s3://, gs://, file:// or a folder") from None
    except ImportError as error:
        if scheme in ("s3", "s3a"):
            raise BadInput(f"{one_line(url)} needs the package s3fs: pip install 'grpo-bench[s3]'") from None
        told: Mapping[str, Any] = known_implementations.get(scheme, {})
        raise BadInput(f"{one_line(url)}: {one_line(str(told.get('err') or error))}") from None


def _entry(about: Mapping[str, Any]) -> Entry:
    modified = next((when for name in TIMES if (when := _time(about.get(name))) is not None), None)
    size = int(about.get("size") or 0)
    return Entry(size, repr([size, *(str(about[name]) for name in TOKENS if about.get(name) is not None)]), modified)


def _time(value: object) -> float | None:
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return float(value) if isinstance(value, int | float) else None
