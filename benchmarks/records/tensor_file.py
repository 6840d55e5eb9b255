"""Tensors and a JSON object in one safetensors file with a checksum, written over an older file of its kind.

Writing over the pages that a file has already takes a tenth of the time that a new file takes. While it lasts, the file
is neither old nor new, and its checksum says so. Layout: huggingface.co/docs/safetensors, with the object as `about`
and an xxh3-128 checksum as `check` among the file's metadata. The checksum covers the whole file with itself as zeros.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from benchmarks.records.disk import open_file

if TYPE_CHECKING:
    import torch

UNKNOWN = "0" * 32
"""The checksum while it is computed."""
DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def write_tensors(path: Path, about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a file; what it held before is lost even if this fails.

    Args:
        path: of the file, which need not exist.
        about: what JSON can hold.
        tensors: by name, on any device; they are not copied where they are on the CPU and contiguous.

    Raises:
        OSError: the disk is full, or refuses.
    """
    arrays = [_bytes_of(tensor) for tensor in tensors.values()]
    header: dict[str, Any] = {"__metadata__": {"check": UNKNOWN, "about": json.dumps(about)}}
    end = 0
    for (name, tensor), array in zip(tensors.items(), arrays, strict=True):
        dtype = DTYPES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [end, end + len(array)]}
        end += len(array)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    check = xxhash.xxh3_128(head)
    for array in arrays:
        check.update(array)
    head = head.replace(UNKNOWN.encode(), check.hexdigest().encode(), 1)
    with os.fdopen(open_file(path, os.O_WRONLY | os.O_CREAT), "wb", buffering=0) as stream:
        try:
            for part in (memoryview(head), *arrays):
                while part:
                    part = part[stream.write(part) :]
        except OSError:
            stream.truncate(0)  # On a full disk, room for the record to say so.
            raise
        stream.truncate(len(head) + end)


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read a file, into memory of its own.

    Returns:
        The object, and the tensors on the CPU.

    Raises:
        ValueError: it is not such a file, or not whole.
        OSError: it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    with os.fdopen(open_file(path, os.O_RDONLY), "rb") as stream:
        content = stream.read()
    head = content[: _head_size(content[:8], len(content))]
    check, about = _metadata(head)
    found = xxhash.xxh3_128(head.replace(check.encode(), UNKNOWN.encode(), 1))
    found.update(memoryview(content)[len(head) :])
    if found.hexdigest() != check:
        raise ValueError("its checksum is another")
    try:
        return about, load(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def read_about(path: Path) -> dict[str, Any]:
    """The object of a file, which is not checked.

    Raises:
        ValueError: it is not such a file.
        OSError: it cannot be read.
    """
    with os.fdopen(open_file(path, os.O_RDONLY), "rb") as stream:
        head = stream.read(8)
        return _metadata(head + stream.read(_head_size(head, os.fstat(stream.fileno()).st_size) - 8))[1]


def _head_size(start: bytes, whole: int) -> int:
    size = 8 + int.from_bytes(start, "little")
    if not 8 < size <= whole:
        raise ValueError("it is cut off")
    return size


def _metadata(head: bytes) -> tuple[str, dict[str, Any]]:
    try:
        metadata = json.loads(head[8:])["__metadata__"]
        return str(metadata["check"]), json.loads(metadata["about"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"it holds no state ({type(error).__name__})") from None


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    import torch

    flat = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
    return memoryview(flat.numpy().data)
