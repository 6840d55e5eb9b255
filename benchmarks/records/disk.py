"""Writing a file so that a kill, a power cut or a full disk leaves the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Put a whole new file in the place of an old one, and wait until the disk has it.

    Raises:
        OSError: the disk is full, or refuses; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.unlink(missing_ok=True)  # A killed writer's; or a link, which must not be written through.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def open_file(path: Path, flags: int) -> int:
    """A regular file's handle, by the flags of `os.open`.

    Raises:
        OSError: it is a link, a pipe or a device, or cannot be opened.
    """
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)  # A pipe would wait for its other end.
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no regular file")
    return handle


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names of a folder's files."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def settle_file(path: Path) -> None:
    """Give a file the usual rights (safetensors writes 0600), and wait until the disk has it."""
    mask = os.umask(0)
    os.umask(mask)
    handle = open_file(path, os.O_RDONLY)
    try:
        os.fchmod(handle, 0o666 & ~mask)
        os.fsync(handle)
    finally:
        os.close(handle)


def settle_files(folder: Path) -> None:
    """Do that with every file of a folder."""
    for path in folder.iterdir():
        settle_file(path)
    sync_folder(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it, if it is there; of a link in its place the link alone."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def remove_parts(folder: Path) -> None:
    """Remove what writers left that were killed while they wrote."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)
