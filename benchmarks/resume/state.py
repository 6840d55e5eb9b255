"""What a run needs to resume: written after each update, read when the same command is given again.

    state/log.jsonl             one line an update, only ever appended to: its row of the ledger, and what the algorithm
                                logs
    state/00000012.safetensors  the state after update 12, and the one before it: counters and generators as JSON in the
                                metadata, weights and whatever tensors the algorithm hands over

A state is a new file, synced before it takes its name; the oldest of three goes after that. Each says how much of the
log is its own, and holds a checksum of its tensors and one of its part of the log. The newest that is whole is the one
to resume from. Nothing here is ever unpickled.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import xxhash

from benchmarks.records.disk import open_file, remove_folder, settle_file, sync_folder
from benchmarks.records.record import STATE
from benchmarks.wording import memory, one_line
from tasks.files import read_file

if TYPE_CHECKING:
    import torch

LOG = "log.jsonl"
LARGEST_LOG = 2**30
"""Bytes: some million updates."""
NAME = re.compile(r"(\d{8})\.safetensors")
KEPT = 2
VERSION = 2
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
        writable: whether this process owns the run; where it does not, saving and removing do nothing.
    """

    def __init__(self, record: Path, allowed: Callable[[], None] = lambda: None, *, writable: bool = True) -> None:
        self.folder, self.allowed, self.writable = record / STATE, allowed, writable
        self.damage: list[str] = []
        """What `newest` could not use, and why."""
        self._log_size, self._log_check = 0, xxhash.xxh3_128()

    def exist(self) -> bool:
        """Whether there is anything to resume from, whole or not."""
        return bool(self._names())

    def newest(self, restore: Callable[[Saved], None] = lambda saved: None) -> Saved | None:
        """The newest state that is whole; what the log says after it is forgotten. Where none is, all are removed.

        Args:
            restore: takes a state over, or raises, and changes nothing, where it makes no sense.
        """
        self.damage.clear()
        if self.folder.is_symlink():  # Whoever made that wants us to write somewhere else.
            self.remove()
        try:
            log = read_file(self.folder / LOG, LARGEST_LOG, follow=False)
        except OSError as error:
            log = b""
            if not isinstance(error, FileNotFoundError):
                self._note_damage(LOG, error)
        for name in self._names():
            # Damaged files make JSON, safetensors and whoever takes them over raise nearly anything.
            try:
                saved = self._read(name, log)
                restore(saved)
            except Exception as error:
                self._note_damage(name, error)
                continue
            mine = log[: saved.about["log_bytes"]]
            self._log_size, self._log_check = len(mine), xxhash.xxh3_128(mine)
            return saved
        self.remove()
        return None

    def save(
        self,
        updates: int,
        about: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        log: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write a state, and wait until the disk has it.

        Args:
            updates: that the run has made.
            about: what JSON can hold.
            tensors: by name, on any device.
            log: entries since the last state.

        Raises:
            OSError: the disk is full, or refuses; older states are as they were.
        """
        if not self.writable:
            return
        self.allowed()
        if self.folder.is_symlink():
            raise OSError(errno.ELOOP, "it is reached through a symbolic link")
        if not self.folder.exists():
            self.folder.mkdir()
            sync_folder(self.folder.parent)
        lines = b"".join(json.dumps(entry).encode() + b"\n" for entry in log)
        size, check = self._log_size + len(lines), self._log_check.copy()
        check.update(lines)
        with os.fdopen(open_file(self.folder / LOG, os.O_RDWR | os.O_CREAT), "r+b") as stream:
            stream.seek(self._log_size)
            stream.write(lines)
            stream.truncate()
            stream.flush()
            os.fsync(stream.fileno())
        belongs = {"version": VERSION, "updates": updates, "log_bytes": size, "log_check": check.hexdigest()}
        write_state(self.folder / f"{updates:08d}.safetensors", {**about, **belongs}, tensors)
        self._log_size, self._log_check = size, check
        for name in self._names()[KEPT:]:
            (self.folder / name).unlink()

    def remove(self) -> None:
        """Forget all states."""
        if self.writable:
            remove_folder(self.folder)
        self._log_size, self._log_check = 0, xxhash.xxh3_128()

    def _names(self) -> list[str]:
        """Of the states, the newest first."""
        if self.folder.is_symlink() or not self.folder.is_dir():
            return []
        return sorted((path.name for path in self.folder.iterdir() if NAME.fullmatch(path.name)), reverse=True)

    def _read(self, name: str, log: bytes) -> Saved:
        about, tensors = read_state(self.folder / name)
        if about["version"] != VERSION:
            raise ValueError(f"it is of version {about['version']}, and {VERSION} is read")
        size, updates = about["log_bytes"], about["updates"]
        if type(size) is not int or not 0 <= size <= len(log) or updates != int(name.partition(".")[0]):
            raise ValueError("it says what cannot be")
        mine = log[:size]
        if xxhash.xxh3_128(mine).hexdigest() != about["log_check"]:
            raise ValueError(f"{LOG} is damaged")
        return Saved(updates, about, tensors, [json.loads(line) for line in mine.splitlines()])

    def _note_damage(self, name: str, error: Exception) -> None:
        self.damage.append(one_line(f"{STATE}/{name}: {str(error)[:200] or type(error).__name__}"))


def write_state(path: Path, about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors and a JSON object as one safetensors file, in the place of another if there is one.

    Raises:
        OSError: the disk is full, or refuses; the file is as it was.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    whole: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        found = tensor.detach().cpu().contiguous()
        size, shared = found.numel() * found.element_size(), found.data_ptr() in {t.data_ptr() for t in whole.values()}
        # save_file refuses views and tensors that share memory.
        whole[name] = found.clone() if size and (shared or found.untyped_storage().nbytes() != size) else found
    text = json.dumps(about)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        save_file(whole, part, {"about": text, "check": _checksum(text, whole)})
        settle_file(part)
        part.replace(path)
    except SafetensorError as error:
        part.unlink(missing_ok=True)
        full = "No space left" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, os.strerror(errno.ENOSPC) if full else str(error)) from None
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read such a file.

    Returns:
        The object, and the tensors on the CPU.

    Raises:
        ValueError: it is not such a file, or not whole.
        OSError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    handle = open_file(path, os.O_RDONLY)  # A regular file, and no link.
    size = os.fstat(handle).st_size
    os.close(handle)
    if size > psutil.virtual_memory().available:
        raise ValueError(f"it is larger than the memory that is free ({memory(size)})")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    text = metadata.get("about", "")
    if metadata.get("check") != _checksum(text, tensors):
        raise ValueError("its checksum is another")
    return dict(json.loads(text)), tensors


def _checksum(text: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """Of the object and every tensor's name, type, shape and bytes; safetensors has none."""
    import torch

    digest = xxhash.xxh3_128(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
