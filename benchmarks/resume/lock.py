"""One process at a time works on a run.

A process holds a run by an advisory lock (flock) on `results/.locks/NAME`, which the operating system frees when the
process ends, however it ends. The file says who holds it, and is touched every half minute: where a shared disk does
not carry locks from host to host, a run that another host has touched within the last ten minutes is taken for held.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.wording import one_line
from tasks.errors import BadInput, RunFailed

FOLDER = ".locks"
BEAT_S = 30.0
EXPIRED_S = 600.0


class Held(Exception):
    """Another process is at work on the run; the text says which."""


class Lock:
    """A run that this process holds."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self.handle = path, handle
        self.owner = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "token": os.urandom(8).hex()})
        os.ftruncate(handle, 0)
        os.pwrite(handle, self.owner.encode(), 0)
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._beating.start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            os.utime(self.handle)

    def must_be_held(self) -> None:
        """Refuse to go on where another host has taken the run, because this one stood still for too long.

        Raises:
            RunFailed: it has.
        """
        owner = _owner(self.path)
        if owner != self.owner:
            raise RunFailed(
                f"{describe_holder(owner)} has taken this run, because this process stood still for too long"
            )

    def release(self) -> None:
        """Let the run go."""
        self._over.set()
        self._beating.join()
        # While it is still locked: whoever waits for this very file sees that it is no longer the one in the folder.
        self.path.unlink(missing_ok=True)
        os.close(self.handle)


@contextmanager
def held(directory: Path, name: str) -> Iterator[Lock]:
    """Hold a run.

    Args:
        directory: the results folder.
        name: the run's.

    Raises:
        Held: another process does.
        BadInput: the results folder is on a disk that takes no locks.
        OSError: the results folder cannot be written.
    """
    (directory / FOLDER).mkdir(parents=True, exist_ok=True)
    lock = _take(directory / FOLDER / name)
    try:
        yield lock
    finally:
        lock.release()


def holder(directory: Path, name: str) -> str | None:
    """Who is at work on a run; None if nobody is."""
    if not (directory / FOLDER / name).exists():
        return None
    try:
        with held(directory, name):
            return None
    except Held as other:
        return str(other)


def holders(directory: Path) -> set[int]:
    """The processes of this host that hold runs of a results folder, by the locks' own words."""
    about = [_about(_owner(path)) for path in (directory / FOLDER).glob("*")]
    here = [each.get("pid") for each in about if each.get("host") == socket.gethostname()]
    return {pid for pid in here if isinstance(pid, int)}


def _owner(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _take(path: Path) -> Lock:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Held(describe_holder(_owner(path))) from None
            except OSError as error:
                where = f"results.dir={path.parent.parent}"
                raise BadInput(f"{where}: its disk takes no locks ({error.strerror}); use another") from None
            if not path.exists() or os.fstat(handle).st_ino != path.stat().st_ino:
                os.close(handle)  # Its holder removed it in between.
                continue
            owner = os.pread(handle, 1000, 0).decode(errors="replace")
            if _elsewhere(owner) and _age_s(path, handle) < EXPIRED_S:
                raise Held(describe_holder(owner))
            return Lock(path, handle)
        except BaseException:
            os.close(handle)
            raise


def _elsewhere(owner: str) -> bool:
    """Whether a lock that is free here was left by another host."""
    return bool(owner) and _about(owner).get("host") != socket.gethostname()


def _age_s(path: Path, handle: int) -> float:
    """Seconds since the lock was touched, by the clock of the disk that it is on."""
    touched = os.fstat(handle).st_mtime
    probe = path.with_name(f".{path.name}.{os.getpid()}")
    probe.touch()
    try:
        return probe.stat().st_mtime - touched
    finally:
        probe.unlink()


def _about(owner: str) -> dict[str, object]:
    try:
        about = json.loads(owner)
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def describe_holder(owner: str) -> str:
    """Who a lock says that it is held by; on a shared disk and in a store, a stranger may have written it."""
    about = _about(owner)
    known = {"pid", "host"} <= about.keys()
    return one_line(f"process {about['pid']} on {about['host']}"[:200]) if known else "another process"
