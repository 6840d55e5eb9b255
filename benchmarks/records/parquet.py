"""The record's tables: written as flat parquet, and read from strangers within stated limits.

A parquet file of a kilobyte can stand for a terabyte: by compression, by dictionaries, by nested lists, and its footer
may lie about all of it. Hence only what this project writes is read: flat columns, snappy or no compression (which
makes a file at most RATIO times as large, whatever its footer says), few rows at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

LARGEST_FILE = 64 * 2**20
"""Bytes of a file."""
LARGEST_TABLE = 256 * 2**20
"""Bytes of the columns that are read, in memory."""
LARGEST_FOOTER = 2**20
MOST_ROWS, MOST_COLUMNS = 1_000_000, 1000
RATIO = 22
"""Snappy's densest element copies 64 bytes and takes 3."""
CODECS = ("UNCOMPRESSED", "SNAPPY")
MAGIC = b"PAR1"


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
        _refuse_codecs(content, file.metadata, [there.index(name) for name in found])
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


@contextmanager
def _opened(content: bytes) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if len(content) < 12 or not content.startswith(MAGIC) or not content.endswith(MAGIC):
        raise Refused("it is no parquet file")
    if int.from_bytes(content[-8:-4], "little") > LARGEST_FOOTER:
        raise Refused(f"its footer is larger than {LARGEST_FOOTER / 2**20:g} MiB")
    # Not `read_table`, which imports pandas.
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        about, types = file.metadata, file.schema_arrow
        if about.num_rows > MOST_ROWS or about.num_columns > MOST_COLUMNS:
            raise Refused(
                f"it has {about.num_rows:,} rows and {about.num_columns:,} columns; "
                f"{MOST_ROWS:,} rows and {MOST_COLUMNS:,} columns are read at most"
            )
        if any(map(pa.types.is_nested, types.types)) or not len(set(types.names)) == len(types) == about.num_columns:
            raise Refused("its columns must be flat, each with a name of its own")
        yield file


def _refuse_codecs(content: bytes, about: Any, places: Sequence[int]) -> None:
    """Refuse columns that are compressed by other means than ours, or that claim the same bytes again and again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # To ask for a codec that does not exist ends the process (pyarrow 26); to read with it is an error. Hence every
    # column is first read from a copy whose data are zeros, where nothing can be unpacked.
    footer = 8 + int.from_bytes(content[-8:-4], "little")
    blank = pq.ParquetFile(pa.BufferReader(MAGIC + bytes(len(content) - footer - 4) + content[-footer:]))
    packed = 0
    for group in range(about.num_row_groups):
        for place in places:
            try:
                blank.reader.read_row_group(group, column_indices=[place], use_threads=False)
            except (OSError, ValueError) as error:
                if "codec" in str(error):
                    raise Refused("it is compressed by other means than snappy") from None
            column = about.row_group(group).column(place)
            if column.compression not in CODECS:
                raise Refused("it is compressed by other means than snappy")
            packed += max(0, column.total_compressed_size)
    if packed > len(content):
        raise Refused("its columns claim more bytes than it has")
