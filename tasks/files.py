"""Reading a file that somebody else may have written: a regular file of a limited size, never a pipe or a device."""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
from pathlib import Path

from tasks.errors import BadInput

LARGEST = 256 * 2**20
"""Bytes that a user's file may have unless its reader says otherwise."""


def located(text: str, what: str) -> Path:
    """The path that a user's text means.

    Args:
        text: as typed; `~` is the home folder.
        what: the setting that it was given for.

    Raises:
        BadInput: no file system can hold such a path, or it may not be looked at.
    """
    try:
        path = Path(text).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except (OSError, ValueError, RuntimeError) as error:  # too long, a loop of links, a NUL, a home that nobody has
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{what}: {text[:200]!r} is no path that can be used ({reason})") from None
    return path


def read_file(path: Path, largest: int = LARGEST, *, follow: bool = True) -> bytes:
    """A regular file's content.

    Args:
        path: of the file.
        largest: bytes that it may have.
        follow: whether it may be a symbolic link.

    Raises:
        OSError: it is not there, may not be read, is no regular file, is a link, or is larger than that.
    """
    # Not blocking: opening a pipe would wait for somebody to write into it.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise OSError(errno.ELOOP, "it is a symbolic link") from None
        raise
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        if about.st_size > largest:
            raise OSError(errno.EFBIG, f"it is larger than {largest / 2**20:g} MiB")
        # Mostly one call: a folder of records has tens of thousands of files.
        pieces = [os.read(handle, min(about.st_size, largest) + 1)]
        size = len(pieces[0])
        while pieces[-1] and about.st_size < size <= largest:  # It grows, or does not know its size.
            pieces.append(os.read(handle, min(largest + 1 - size, 2**20)))
            size += len(pieces[-1])
    finally:
        os.close(handle)
    if size > largest:
        raise OSError(errno.EFBIG, f"it is larger than {largest / 2**20:g} MiB")
    return b"".join(pieces)


def unzipped(content: bytes, largest: int = LARGEST) -> bytes:
    """What a gzip file's content holds.

    Raises:
        OSError: it is no gzip, or holds more than `largest` bytes.
        EOFError, zlib.error: it is damaged.
    """
    held = gzip.GzipFile(fileobj=io.BytesIO(content)).read(largest + 1)
    if len(held) > largest:
        raise OSError(errno.EFBIG, f"it holds more than {largest / 2**20:g} MiB")
    return held


def why(error: Exception) -> str:
    """The reason alone: an operating system's message holds the whole path, and with it whose home it is in."""
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
