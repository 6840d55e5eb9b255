"""What a run needs to go on: written after each update, read when the same command is given again.

    state/log.jsonl                         one line an update, only ever appended to: its row of the ledger, and what
                                            the algorithm logs
    state/0.safetensors .. 2.safetensors    the last three states: counters and generators as JSON, weights and whatever
                                            tensors the algorithm hands over; each says how much of the log is its own

A state is written over the oldest of the three, so that two whole ones lie beside it at any moment. The newest whose
own checksum and whose log's checksum are right is the one to go on from. Nothing here is ever unpickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from benchmarks.records.disk import open_file, remove_folder, sync_folder
from benchmarks.records.record import STATE
from benchmarks.records.tensor_file import read_about, read_tensors, write_tensors
from benchmarks.wording import one_line

if TYPE_CHECKING:
    import torch

LOG = "log.jsonl"
SLOTS = 3
VERSION = 1
TENSOR = "tensor "
"""What a tensor is in the JSON part: this and its name."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A state that was read back."""

    updates: int
    about: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    log: list[dict[str, Any]]
    """One entry an update."""


class StateStore:
    """The states of one run.

    Args:
        record: its folder.
        allowed: raises where this process must no longer write there.
        saved: is called after each state.

    The run is told to wait for the disk one state late: a state survives the end of its process at once, and a power
    cut as soon as the disk has it, which is asked for in the background.
    """

    def __init__(
        self, record: Path, allowed: Callable[[], None] = lambda: None, saved: Callable[[], None] = lambda: None
    ) -> None:
        self.folder = record / STATE
        self.allowed, self.saved = allowed, saved
        self.last: tuple[int, str] | None = None
        """The newest state that is known to be whole: updates, and the name of its file."""
        self.damage: list[str] = []
        """What `newest` could not use, and why."""
        self._next = 0
        self._log_size, self._log_check = 0, xxhash.xxh3_128()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._waiting: Future[None] | None = None

    def exist(self) -> bool:
        """Whether there is anything to go on from, whole or not."""
        return any(self._slot(slot).exists() for slot in range(SLOTS))

    def claimed(self) -> int:
        """The most updates that a state says it holds, whole or not; -1 where there is none."""
        return max(map(self._claim, range(SLOTS)))

    def newest(self) -> Saved | None:
        """The newest state that is whole; later ones, and what the log says after it, are forgotten."""
        self.damage.clear()
        if self.folder.is_symlink():  # Whoever made that wants us to write somewhere else.
            self.remove()
        log = self._read_log()
        claimed = {slot: self._claim(slot) for slot in range(SLOTS)}
        for slot in sorted(range(SLOTS), key=lambda slot: claimed[slot], reverse=True):
            saved = self._read(slot, log) if claimed[slot] >= 0 else None
            if saved:
                self._next = (slot + 1) % SLOTS
                self.last = saved.updates, self._slot(slot).name
                self._cut_log(log[: saved.about["log_bytes"]])
                return saved
        return None

    def save(
        self,
        updates: int,
        about: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        log: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write a state.

        Args:
            updates: that the run has made.
            about: what JSON can hold.
            tensors: by name.
            log: entries since the last state.

        Raises:
            OSError: the disk is full, or refuses this state or the one before; older ones are as they were.
        """
        self.allowed()
        self.wait()
        new = not self.folder.exists()
        self.folder.mkdir(exist_ok=True)
        lines = b"".join(json.dumps(entry).encode() + b"\n" for entry in log)
        size, check = self._log_size + len(lines), self._log_check.copy()
        check.update(lines)
        log_path, path = self.folder / LOG, self._slot(self._next)
        with os.fdopen(open_file(log_path, os.O_RDWR | os.O_CREAT), "r+b") as stream:
            stream.seek(self._log_size)
            stream.write(lines)
            stream.truncate()
        belongs = {"version": VERSION, "updates": updates, "log_bytes": size, "log_check": check.hexdigest()}
        new |= not path.exists()
        write_tensors(path, {**about, **belongs}, tensors)
        self._log_size, self._log_check = size, check
        self._next = (self._next + 1) % SLOTS
        self.last = updates, path.name
        self._waiting = self._disk.submit(_sync, [log_path, path], [self.folder, self.folder.parent] if new else [])
        self.saved()

    def wait(self) -> None:
        """Wait until the disk has the last state.

        Raises:
            OSError: it refuses.
        """
        waiting, self._waiting = self._waiting, None
        if waiting:
            waiting.result()

    def close(self) -> None:
        """End the background thread."""
        self._disk.shutdown()

    def remove(self) -> None:
        """Forget all states."""
        self._waiting = None
        remove_folder(self.folder)
        self._next, self.last = 0, None
        self._log_size, self._log_check = 0, xxhash.xxh3_128()

    def _slot(self, number: int) -> Path:
        return self.folder / f"{number}.safetensors"

    def _read_log(self) -> bytes:
        try:
            with os.fdopen(open_file(self.folder / LOG, os.O_RDONLY), "rb") as stream:
                return stream.read()
        except OSError:
            return b""

    def _claim(self, slot: int) -> int:
        """The number of updates that a file says it holds, before it is read as a whole; -1 where it says nothing."""
        path = self._slot(slot)
        try:
            return int(read_about(path)["updates"])
        except FileNotFoundError:
            return -1
        except (OSError, ValueError, LookupError, TypeError) as error:
            self._note_damage(path, error)
            return -1

    def _read(self, slot: int, log: bytes) -> Saved | None:
        path = self._slot(slot)
        try:
            about, tensors = read_tensors(path)
            if about["version"] != VERSION:
                raise ValueError(f"it is of version {about['version']}, and this is {VERSION}")
            mine = log[: about["log_bytes"]]
            if xxhash.xxh3_128(mine).hexdigest() != about["log_check"]:
                raise ValueError(f"{LOG} is damaged")
            return Saved(int(about["updates"]), about, tensors, [json.loads(line) for line in mine.splitlines()])
        except (OSError, ValueError, LookupError, TypeError) as error:
            self._note_damage(path, error)
            return None

    def _note_damage(self, path: Path, error: Exception) -> None:
        self.damage.append(one_line(f"{STATE}/{path.name}: {error}"))

    def _cut_log(self, log: bytes) -> None:
        self._log_size, self._log_check = len(log), xxhash.xxh3_128(log)


def _sync(files: Sequence[Path], folders: Sequence[Path]) -> None:
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    for folder in folders:
        sync_folder(folder)


def pack(value: Any, tensors: dict[str, torch.Tensor], name: str) -> Any:
    """What JSON can hold of nested mappings and sequences; their tensors go to `tensors`, under names below `name`.

    Raises:
        TypeError: something that is neither, with its place.
    """
    import torch

    if isinstance(value, torch.Tensor):
        tensors[name] = value
        return TENSOR + name
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{name}: the keys of a state must be text")
        return {key: pack(each, tensors, f"{name}/{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [pack(each, tensors, f"{name}/{number}") for number, each in enumerate(value)]
    if isinstance(value, str) and value.startswith(TENSOR):
        raise TypeError(f"{name}: a text of a state must not begin with {TENSOR!r}")
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{name}: a state holds tensors, numbers, texts, lists and mappings, not {type(value).__name__}")


def unpack(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The inverse of `pack`; tuples have become lists."""
    if isinstance(value, dict):
        return {key: unpack(each, tensors) for key, each in value.items()}
    if isinstance(value, list):
        return [unpack(each, tensors) for each in value]
    if isinstance(value, str) and value.startswith(TENSOR):
        return tensors[value.removeprefix(TENSOR)]
    return value
