"""One machine at a time works on a run whose record goes to a store.

A machine holds a run by an object, `.locks/NAME`, that says who holds it and is written again every minute. Whoever
finds it silent for ten minutes, by the store's clock, takes the run over. It is created only where there is none, which
S3 does atomically, and is read back: where a store cannot do that, or two take a dead machine's run at the same moment,
the last writer holds it, and the other stops before it uploads anything more.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.records.store import Store, StoreAway
from benchmarks.resume.lock import EXPIRED_S, FOLDER, Held, describe_holder
from tasks.errors import RunFailed

BEAT_S = 60.0
LARGEST = 1000
"""Bytes of a lock."""


class StoreLock:
    """A run that this machine holds.

    Args:
        store: where its record goes.
        name: the run's.
        local: the folder of locks on this disk. The caller holds the run here, so a lock that bears the mark kept in
            this folder was left by a process that was killed.

    Raises:
        Held: another machine does.
        StoreAway: the store does not answer.
    """

    def __init__(self, store: Store, name: str, local: Path) -> None:
        self.store, self.key, self.mark = store, f"{FOLDER}/{name}", local / f"{name}.mark"
        about = {"host": socket.gethostname(), "pid": os.getpid(), "token": os.urandom(8).hex()}
        self.owner = json.dumps(about).encode()
        self.taken_by: str | None = None
        """Who has taken the run from this machine, as far as is known."""
        while not store.create(self.key, self.owner):
            other = read_lock(store, name)
            if other is not None:
                if other != _read(self.mark) and is_fresh(store, name):
                    raise Held(describe_holder(other.decode(errors="replace")))
                store.write(self.key, self.owner)
                break
        self.mark.parent.mkdir(parents=True, exist_ok=True)
        self.mark.write_bytes(self.owner)
        self._look()
        if self.taken_by:
            raise Held(self.taken_by)
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="store lock", daemon=True)
        self._beating.start()

    def _look(self) -> None:
        other = read_lock(self.store, self.key.removeprefix(f"{FOLDER}/"))
        if other != self.owner and self.taken_by is None:
            self.taken_by = describe_holder((other or b"").decode(errors="replace"))

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S) and not self.taken_by:
            # A store that is away: another machine may take the run meanwhile, and the next look tells.
            with suppress(StoreAway):
                self._look()
                if not self.taken_by:
                    self.store.write(self.key, self.owner)

    def must_be_held(self) -> None:
        """Refuse to go on where it is known that another machine has taken the run.

        Raises:
            RunFailed: it has.
        """
        if self.taken_by:
            raise RunFailed(f"{self.taken_by} has taken this run, because this machine was silent for too long")

    def confirm(self) -> None:
        """Ask the store whether the run is still held.

        Raises:
            RunFailed: another machine has taken it.
            StoreAway: the store does not answer.
        """
        self._look()
        self.must_be_held()

    def release(self) -> None:
        """Let the run go. Where the store is away the lock stays, and this machine knows it by its mark."""
        self._over.set()
        self._beating.join()
        with suppress(StoreAway):
            self._look()
            if not self.taken_by:
                self.store.remove([self.key])
            self.mark.unlink(missing_ok=True)


@contextmanager
def held_in_store(store: Store, name: str, local: Path) -> Iterator[StoreLock]:
    """Hold a run that this process holds on this disk.

    Raises:
        Held, StoreAway: see `StoreLock`.
    """
    lock = StoreLock(store, name, local)
    try:
        yield lock
    finally:
        lock.release()


def holder_in_store(store: Store, name: str, local: Path) -> str | None:
    """Which machine is at work on a run that nobody holds on this disk; None if none is.

    Raises:
        StoreAway: the store does not answer.
    """
    other = read_lock(store, name)
    if other is None or other == _read(local / f"{name}.mark") or not is_fresh(store, name):
        return None
    return describe_holder(other.decode(errors="replace"))


def read_lock(store: Store, name: str) -> bytes | None:
    """What a lock says; None where there is none. One that is too long says nothing."""
    try:
        return store.read(f"{FOLDER}/{name}", LARGEST)
    except FileNotFoundError:
        return None
    except OSError:
        return b""


def is_fresh(store: Store, name: str) -> bool:
    """Whether a lock was written within the last ten minutes, by the store's clock."""
    lock = store.entry(f"{FOLDER}/{name}")
    if lock is None:
        return False
    probe = f"{FOLDER}/.clock-{os.urandom(8).hex()}"
    store.write(probe, b"now")
    try:
        now = store.entry(probe)
    finally:
        store.remove([probe])
    # A store that tells no time: the lock counts until somebody removes it.
    if now is None or now.modified is None or lock.modified is None:
        return True
    return now.modified - lock.modified < EXPIRED_S


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
