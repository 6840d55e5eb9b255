"""The record's tables: written as flat parquet, and read from strangers within stated limits.

A parquet file of a kilobyte can stand for a terabyte: by compression, by dictionaries, by prefixes, by nested lists,
and its footer may lie about all of it. Hence what this project writes is all that it reads: flat columns, snappy or
nothing for compression (which makes a file at most RATIO times as large, whatever its footer says), few rows at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.records.parquet_footer import read_footer

LARGEST_FILE = 64 * 2**20
"""Bytes of a file."""
LARGEST_TABLE = 256 * 2**20
"""Bytes of the columns that are read, in memory."""
MOST_ROWS, MOST_COLUMNS = 1_000_000, 1000
RATIO = 22
"""Snappy's densest element copies 64 bytes and takes 3."""
CODECS = (0, 1)
"""Uncompressed, and snappy."""
SCHEMA, NUM_ROWS, ROW_GROUPS, GROUP_COLUMNS, CHUNK_META, META_CODEC, META_PACKED_BYTES = 2, 3, 4, 1, 3, 4, 7
ELEMENT_REPETITION, ELEMENT_NAME, ELEMENT_CHILDREN, REPEATED = 3, 4, 5, 2
"""Numbers of the fields in parquet.thrift."""


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

    _check(content)
    # Not `read_table`, which imports pandas.
    with pq.ParquetFile(pa.BufferReader(content)) as file:
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
        batches, size = [], 0
        # Small: threads only wait.
        for batch in file.iter_batches(rows, columns=list(found), use_threads=False):
            batches.append(batch)
            size += batch.nbytes
            if size > LARGEST_TABLE:
                raise Refused(f"it unpacks to more than {LARGEST_TABLE / 2**20:g} MiB")
        for batch in batches:
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


def _check(content: bytes) -> None:
    """Look at the footer, before Arrow does.

    Raises:
        Refused: it breaks a limit.
        Exception: it is no footer.
    """
    footer = read_footer(content)
    root, *columns = footer[SCHEMA]
    if footer[NUM_ROWS] > MOST_ROWS or len(columns) > MOST_COLUMNS:
        raise Refused(
            f"it has {footer[NUM_ROWS]:,} rows and {len(columns):,} columns; "
            f"{MOST_ROWS:,} rows and {MOST_COLUMNS:,} columns are read at most"
        )
    names = {column[ELEMENT_NAME] for column in columns}
    nested = any(column.get(ELEMENT_CHILDREN) or column.get(ELEMENT_REPETITION) == REPEATED for column in columns)
    if nested or len(names) < len(columns) or root[ELEMENT_CHILDREN] != len(columns):
        raise Refused("its columns must be flat, each with a name of its own")
    packed = 0
    for group in footer[ROW_GROUPS]:
        for chunk in group[GROUP_COLUMNS]:
            about = chunk[CHUNK_META]
            if about[META_CODEC] not in CODECS:
                raise Refused("it is compressed by other means than snappy")
            packed += max(0, about[META_PACKED_BYTES])
    # Columns that share bytes would unpack to more than the file allows for.
    if packed > len(content):
        raise Refused("its columns claim more bytes than it has")
