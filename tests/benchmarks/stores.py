"""Stores for tests: in memory, in a folder, and one that is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from benchmarks.records.store import Store

URL = "memory://bucket/runs"


@contextmanager
def emptied() -> Iterator[None]:
    """fsspec's memory is one for the whole process."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    try:
        yield
    finally:
        MemoryFileSystem.store.clear()


def put(key: str, content: bytes) -> None:
    """An object under any key at all, as whoever owns a bucket can put it."""
    path = f"/bucket/runs/{key}"
    MemoryFileSystem.store[path] = MemoryFile(MemoryFileSystem(), path, content)


def upload_folder(folder: Path, store: Store) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.put(path.relative_to(folder).as_posix(), path)


@contextmanager
def away(monkeypatch: pytest.MonkeyPatch, *methods: str) -> Iterator[None]:
    """The file system of memory:// fails as a network does."""

    def gone(*args: Any, **kwargs: Any) -> None:
        raise TimeoutError("no answer from the server")

    with monkeypatch.context() as patched:
        for name in methods or ("find", "open", "put_file"):
            patched.setattr(MemoryFileSystem, name, gone)
        yield
