"""The record's tables: written as flat parquet, and read from strangers within stated limits.

A parquet file of a kilobyte can stand for a terabyte: by compression, dictionaries, prefixes, nested lists; and its
footer may lie about all of it. Hence what this project writes is all that it reads: flat columns, snappy or nothing
for compression (which makes a file at most RATIO times as large, whatever its footer says), few rows at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

LARGEST_FILE = 128 * 2**20
"""Bytes of a file."""
LARGEST_TABLE = 2**30
"""Bytes of the columns that are read, in memory."""
MOST_ROWS, MOST_COLUMNS = 1_000_000, 1000
LARGEST_FOOTER = 4 * 2**20
RATIO = 22
"""Snappy's densest element copies 64 bytes and takes 3."""
CODECS = ("SNAPPY", "UNCOMPRESSED")


class Refused(ValueError):
    """A table that is not read; the text is the reason."""


def write_table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A parquet file, one row per mapping: a key that a row lacks is null there, and a list or a mapping is JSON."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def flat(value: Any) -> Any:
        return json.dumps(value) if isinstance(value, list | tuple | dict) else value

    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [flat(row.get(name)) for row in rows] for name in names})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


@contextmanager
def _opened(content: bytes) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if int.from_bytes(content[-8:-4], "little") > LARGEST_FOOTER:
        raise Refused(f"its footer is larger than {LARGEST_FOOTER / 2**20:g} MiB")
    # Not `read_table`, which imports pandas.
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        _check(file.metadata, len(content))
        yield file


def column_names(content: bytes) -> list[str]:
    """The names of a parquet file's columns.

    Raises:
        Refused, Exception: see `read_columns`.
    """
    with _opened(content) as file:
        return list(file.schema_arrow.names)


def read_columns(content: bytes, names: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """Columns of a parquet file by name: those named, or all.

    Raises:
        Refused: it breaks a limit, is compressed by other means, or is nested.
        KeyError: it has no such column.
        Exception: whatever Arrow raises where it is no parquet file.
    """
    with _opened(content) as file:
        there = file.schema_arrow.names
        found: dict[str, list[Any]] = {name: [] for name in (there if names is None else names)}
        for name in found:
            if name not in there:
                raise KeyError(name)
        # One value can be as long as all that the file unpacks to.
        rows = max(1, min(MOST_ROWS, LARGEST_TABLE // (RATIO * len(content))))
        size = 0
        # Small: threads only wait.
        for batch in file.iter_batches(rows, columns=list(found), use_threads=False):
            size += batch.nbytes
            if size > LARGEST_TABLE:
                raise Refused(f"it unpacks to more than {LARGEST_TABLE / 2**20:g} MiB")
            for name, values in zip(batch.schema.names, batch.columns, strict=True):
                found[name] += values.to_pylist()
    return found


def read_table(content: bytes) -> list[dict[str, Any]]:
    """Rows of a parquet file.

    Raises:
        Refused, Exception: see `read_columns`.
    """
    columns = read_columns(content)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _check(footer: Any, size: int) -> None:
    if footer.num_rows > MOST_ROWS or footer.num_columns > MOST_COLUMNS:
        raise Refused(
            f"it has {footer.num_rows:,} rows and {footer.num_columns:,} columns; "
            f"{MOST_ROWS:,} rows and {MOST_COLUMNS:,} columns are read at most"
        )
    columns = [footer.schema.column(number) for number in range(footer.num_columns)]
    nested = [column.path for column in columns if column.max_repetition_level or "." in column.path]
    if nested or len({column.path for column in columns}) < len(columns):
        raise Refused("its columns must be flat, each with a name of its own")
    packed = 0
    for group in range(footer.num_row_groups):
        for number in range(footer.num_columns):
            chunk = footer.row_group(group).column(number)
            if chunk.compression not in CODECS:
                raise Refused(f"it is compressed by {chunk.compression}; {' or '.join(CODECS)} is read")
            packed += chunk.total_compressed_size
    # Columns that share bytes would unpack to more than the file allows for.
    if packed > size:
        raise Refused("its columns claim more bytes than it has")
