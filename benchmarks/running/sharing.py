"""A run whose record goes to a store: it works on this disk as any run does, and the store gets copies of whole files.

    begin     config.yaml, manifest.json, `running`: others see that it has begun
    now and then, after a state is saved: all files that have changed, the log of states, the newest state, and last
              state/newest.json, which names it
    end       all files that have changed; `status` comes last, and of a complete run the state goes

An object is put as a whole, so a file of a record is the old one or the new one there too. A run goes on from this disk
or from the store, whichever has made more updates. The copy on this disk goes once a complete record is in the store;
until then it stays, and the next command uploads it.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.records.mirror import fetch, refuse_unfit, say_left, wanted
from benchmarks.records.record import POLICY, STATE, Record
from benchmarks.records.store import Store, StoreAway
from benchmarks.resume.lock import FOLDER, Held, held
from benchmarks.resume.state import LOG, SLOTS, StateStore
from benchmarks.running.store_lock import StoreLock, held_in_store
from tasks.errors import RunFailed

NEWEST = f"{STATE}/newest.json"
LARGEST_POINTER = 1000
STATES = tuple(f"{slot}.safetensors" for slot in range(SLOTS))
SHARE = 9
"""Between two uploads pass at least so many times the seconds that the last one took: a tenth of the time at most."""
Say = Callable[[str], object]


def status_in(store: Store, name: str) -> str | None:
    """How far a run came, as the store says; None where there is no record."""
    try:
        text = store.read(f"{name}/status", 100).decode().strip()
    except StoreAway:
        raise
    except (OSError, ValueError):
        return None
    return text if text in ("running", "complete", "interrupted", "failed") else None


class Sharing:
    """The store's side of one run.

    Args:
        store: where its record goes.
        record: on this disk.
        lock: on the run in the store.
        every_s: least seconds between two uploads while it runs.
        say: tells the user a line.
    """

    def __init__(self, store: Store, record: Record, lock: StoreLock, every_s: float, say: Say) -> None:
        self.store, self.record, self.lock, self.every_s, self.say = store, record, lock, every_s, say
        self.states: StateStore | None = None
        self._sent: dict[str, tuple[int, int]] = {}
        self._due = time.monotonic() + every_s
        self._away = False

    def settle(self, states: StateStore, *, force: bool) -> bool:
        """Bring this disk and the store together before anything is run.

        Returns:
            Whether the record is complete in the store, so that nothing is left to do.

        Raises:
            RunFailed: the store is away, or another machine has taken the run.
        """
        self.states = states
        if force:
            return False
        there, here = status_in(self.store, self.record.name), self.record.status
        if there == "complete":
            shutil.rmtree(self.record.folder)
            return True
        if here == "complete":
            self.finish()
            self.say(f"{self.record.name}: uploaded")
            return True
        newest = self._newest()
        if newest is not None and newest[0] > states.claimed():
            self._pull(newest[1], states)
        return False

    def begin(self) -> None:
        """Tell the store that the run has begun, and take away what an earlier attempt left there."""
        self.lock.confirm()
        self.store.write(f"{self.record.name}/status", b"running\n")
        self._put("config.yaml", "manifest.json")
        assert self.states is not None
        kept = {f"{STATE}/{file}" for file in (LOG, "newest.json", *STATES)} if self.states.exist() else set()
        self._remove_others({"status", *self._files(), *kept})

    def saved(self) -> None:
        """A state was saved: upload it with all else, unless the last upload is too young or the store is away."""
        began = time.monotonic()
        if began < self._due:
            return
        try:
            self._push(state=True)
            if self._away:
                self.say(f"{self.store.url} is back")
            self._away = False
        except StoreAway as error:
            if not self._away:
                self.say(f"not uploaded, and tried again later: {error}")
            self._away = True
        took = time.monotonic() - began
        self._due = time.monotonic() + max(self.every_s, SHARE * took)

    def finish(self) -> None:
        """Upload how the run ended; a complete record is on this disk no longer, then.

        Raises:
            RunFailed: the store is away, or another machine has taken the run; the record stays here.
        """
        status = self.record.status
        try:
            self._push(state=status != "complete")
            self.lock.confirm()
            self.store.write(f"{self.record.name}/status", f"{status}\n".encode())
            if status == "complete":
                self._remove_others({"status", *self._files()})
                self._verify()
                shutil.rmtree(self.record.folder)
        except StoreAway as error:
            here = f"{self.record.name} is {status} in {self.record.folder}"
            raise RunFailed(f"{here} and not uploaded, which the same command does: {error}") from None

    def _verify(self) -> None:
        """Raises StoreAway where the store has not all that this disk has, which is to be removed."""
        listed = self.store.list(self.record.name)
        for file, path in self._files().items():
            entry = listed.get(f"{self.record.name}/{file}")
            if entry is None or entry.size != path.stat().st_size:
                raise StoreAway(f"{self.store.url}: {file} is not there as it was put")

    def give_up(self) -> None:
        """Upload what a run that was broken off leaves, where that can be done."""
        try:
            self.finish()
        except RunFailed as error:
            self.say(str(error))

    def _files(self) -> dict[str, Path]:
        """The record's files by name, and those of its policy, without its status and its state."""
        folder = self.record.folder
        found = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and path.name != "status"]
        if (folder / POLICY).is_dir() and not (folder / POLICY).is_symlink():
            found += sorted((folder / POLICY).iterdir())
        return {path.relative_to(folder).as_posix(): path for path in found if path.is_file() and not path.is_symlink()}

    def _push(self, *, state: bool) -> None:
        self.lock.confirm()
        self._put(*self._files())
        self._remove_others({"status", *self._files(), *(f"{STATE}/{file}" for file in (LOG, "newest.json", *STATES))})
        last = self.states.last if state and self.states else None
        if last:
            updates, file = last
            # The log first: a state says how much of it is its own, and a longer one does no harm.
            self._put(f"{STATE}/{LOG}", f"{STATE}/{file}")
            pointer = json.dumps({"updates": updates, "file": file}).encode()
            self.store.write(f"{self.record.name}/{NEWEST}", pointer)

    def _put(self, *files: str) -> None:
        """Upload files that have changed since this process uploaded them."""
        for file in files:
            path = self.record.folder / file
            stat = path.stat()
            mark = stat.st_mtime_ns, stat.st_size
            if self._sent.get(file) != mark:
                self.store.upload(f"{self.record.name}/{file}", path)
                self._sent[file] = mark

    def _remove_others(self, kept: set[str]) -> None:
        begin = f"{self.record.name}/"
        listed = self.store.list(self.record.name)
        self.store.remove(key for key in listed if key.removeprefix(begin) not in kept)

    def _newest(self) -> tuple[int, str] | None:
        """The newest state in the store: updates, and the name of its file; None where there is none to be used."""
        try:
            about: Any = json.loads(self.store.read(f"{self.record.name}/{NEWEST}", LARGEST_POINTER))
            updates, file = about["updates"], about["file"]
        except StoreAway:
            raise
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return (updates, file) if type(updates) is int and file in STATES else None

    def _pull(self, state: str, states: StateStore) -> None:
        """Take the store's copy of the run in the place of this disk's.

        Raises:
            BadInput: there is too little room for it.
        """
        name, folder = self.record.name, self.record.folder
        listed = self.store.list(name)
        found, left = wanted(listed)
        say_left(self.store, left)
        big = [f"{STATE}/{file}" for file in (LOG, state)]
        if not all(f"{name}/{file}" in listed for file in big):
            return
        refuse_unfit(folder, sum(listed[f"{name}/{file}"].size for file in big), self.store.url)
        states.remove()
        for path in self._files().values():
            path.unlink()
        fetch(self.store, {key: entry for key, entry in found.items() if not key.endswith("/status")}, folder.parent)
        (folder / STATE).mkdir()
        try:
            for file in big:
                self.store.download(f"{name}/{file}", folder / file)
        except FileNotFoundError:
            states.remove()  # Removed meanwhile: the run starts afresh.


@contextmanager
def shared(url: str | None, record: Record, every_s: float, say: Say) -> Iterator[Sharing | None]:
    """Hold a run in the store that its record goes to; None where that is a folder.

    Raises:
        Held: another machine is at work on it.
        StoreAway: the store does not answer.
    """
    if url is None:
        yield None
        return
    store = Store(url)
    with held_in_store(store, record.name, record.folder.parent / FOLDER) as lock:
        yield Sharing(store, record, lock, every_s, say)


def complete_in_store(url: str | None, record: Record) -> bool:
    """Whether a store has the complete record, so that this disk's copy, if there is one, can go.

    Raises:
        StoreAway: the store does not answer.
    """
    if url is None or status_in(Store(url), record.name) != "complete":
        return False
    shutil.rmtree(record.folder)
    return True


def upload_left(url: str, folder: Path, say: Say) -> None:
    """Upload the complete records that an earlier command could not.

    Raises:
        RunFailed: the store is away.
    """
    if not folder.is_dir():
        return
    for each in sorted(folder.iterdir()):
        record = Record(each)
        if each.is_symlink() or not each.is_dir() or record.status != "complete":
            continue
        try:
            with held(folder, record.name), shared(url, record, 0, say) as sharing:
                if sharing is not None and record.status == "complete":
                    sharing.settle(StateStore(each), force=False)
        except Held:
            continue
