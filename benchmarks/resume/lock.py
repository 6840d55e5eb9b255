"""One process at a time works on a run.

A process holds a run by a lock of the operating system on `results/.locks/NAME.lock` (filelock), which is free again
when the process ends, however it ends. `NAME.json` beside it says who holds it, and is touched every half minute: where
a shared disk does not carry locks from host to host, a run that another host has touched within the last ten minutes is
taken for held. Nothing is opened through a link.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmarks.records.disk import open_file, replace_file
from benchmarks.wording import one_line
from tasks.errors import BadInput, RunFailed
from tasks.files import read_file

FOLDER = ".locks"
BEAT_S = 30.0
EXPIRED_S = 600.0
LARGEST = 1000
"""Bytes of what a lock says."""


class Held(Exception):
    """Another process is at work on the run; the text says which."""


class Lock:
    """A run that this process holds; `about` is the file that says so."""

    def __init__(self, about: Path) -> None:
        self.about = about
        self.owner = {"host": socket.gethostname(), "pid": os.getpid(), "token": os.urandom(8).hex()}
        replace_file(about, json.dumps(self.owner).encode())
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._beating.start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            with suppress(OSError):
                os.utime(self.about, follow_symlinks=False)

    def must_be_held(self) -> None:
        """Refuse to continue where another host has taken the run, because this one stood still for too long.

        Raises:
            RunFailed: it has, or the lock was removed.
        """
        owner = _owner(self.about)
        if not owner:
            raise RunFailed(f"{self.about} was removed, by which this process holds the run")
        if owner != self.owner:
            raise RunFailed(
                f"{describe_holder(owner)} has taken this run, because this process stood still for too long"
            )

    def release(self) -> None:
        """Let the run go."""
        self._over.set()
        self._beating.join()
        # A run is complete, or not, whatever becomes of its lock: a folder may be read-only by now, or gone.
        with suppress(OSError):
            if _owner(self.about) == self.owner:
                self.about.unlink()


@contextmanager
def held(directory: Path, name: str) -> Iterator[Lock]:
    """Hold a run.

    Args:
        directory: the results folder.
        name: the run's.

    Raises:
        Held: another process does.
        BadInput: the results folder is on a disk that takes no locks, or `.locks` is a link.
        OSError: the results folder cannot be written.
    """
    folder = directory / FOLDER
    if folder.is_symlink():
        raise BadInput(f"{folder}: is a symbolic link, and locks would be written where it leads; remove it")
    folder.mkdir(parents=True, exist_ok=True)
    path, about = folder / f"{name}.lock", folder / f"{name}.json"
    lock = FileLock(path, timeout=0, fallback_to_soft=False, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise Held(describe_holder(_owner(about))) from None
    except OSError as error:
        way = f"cannot be locked ({error.strerror}); use another disk, or remove it"
        raise BadInput(f"results.dir={directory}: {path.name} {way}") from None
    try:
        owner = _owner(about)
        if owner and owner.get("host") != socket.gethostname() and _age_s(about) < EXPIRED_S:
            raise Held(describe_holder(owner))
        mine = Lock(about)
        try:
            yield mine
        finally:
            mine.release()
    finally:
        with suppress(OSError):
            lock.release()


def holder(directory: Path, name: str) -> str | None:
    """Who is at work on a run; None if nobody is."""
    if not os.path.lexists(directory / FOLDER / f"{name}.json"):
        return None
    try:
        with held(directory, name):
            return None
    except Held as other:
        return str(other)


def holders(directory: Path) -> set[int]:
    """The processes of this host that hold runs of a results folder, by the locks' own words."""
    found = [_owner(path) for path in (directory / FOLDER).glob("*.json")]
    here = [owner.get("pid") for owner in found if owner.get("host") == socket.gethostname()]
    return {pid for pid in here if isinstance(pid, int)}


def _owner(about: Path) -> dict[str, Any]:
    """Who a lock says that it is held by; empty where it says nothing."""
    with suppress(OSError, ValueError, RecursionError):
        owner = json.loads(read_file(about, LARGEST, follow=False))
        if isinstance(owner, dict):
            return owner
    return {}


def _age_s(about: Path) -> float:
    """Seconds since a lock was touched, by the clock of the disk that it is on."""
    handle = open_file(about, os.O_RDONLY)
    try:
        with tempfile.NamedTemporaryFile(dir=about.parent, prefix=".clock-") as probe:
            return os.fstat(probe.fileno()).st_mtime - os.fstat(handle).st_mtime
    finally:
        os.close(handle)


def describe_holder(owner: dict[str, Any]) -> str:
    """The holder in words; on a shared disk, a stranger may have written them."""
    known = {"pid", "host"} <= owner.keys()
    return one_line(f"process {owner['pid']} on {owner['host']}"[:200]) if known else "another process"
