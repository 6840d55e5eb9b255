"""The footer of a parquet file, read without Arrow, which ends the process when asked for a compression unknown to it.

A footer is a struct in Thrift's compact protocol. It is read into dictionaries by the numbers of its fields, as
https://github.com/apache/parquet-format has them in parquet.thrift.
"""

from __future__ import annotations

from typing import Any

TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
INTEGERS = (4, 5, 6)
DEEPEST = 16
LARGEST_FOOTER = 2**20
"""Bytes."""
MAGIC = b"PAR1"


def read_footer(content: bytes) -> dict[int, Any]:
    """FileMetaData by field number: 2 schema, 3 num_rows, 4 row_groups.

    Raises:
        ValueError: it is no parquet file, or its footer is damaged or too large.
    """
    size = int.from_bytes(content[-8:-4], "little")
    if content[:4] != MAGIC or content[-4:] != MAGIC or size > len(content) - 12:
        raise ValueError("it is no parquet file")
    if size > LARGEST_FOOTER:
        raise ValueError(f"its footer is larger than {LARGEST_FOOTER / 2**20:g} MiB")
    try:
        return _Reader(content[-8 - size : -8]).struct(0)
    except IndexError:
        raise ValueError("its footer is cut") from None


class _Reader:
    """Thrift's compact protocol."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("its footer holds an endless number")

    def integer(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise IndexError
        self.at += count
        return self.data[self.at - count : self.at]

    def struct(self, depth: int) -> dict[int, Any]:
        if depth > DEEPEST:
            raise ValueError("its footer is nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while header := self.take(1)[0]:
            kind = header & 15
            number = number + (header >> 4) if header >> 4 else self.integer()
            if kind in (TRUE, FALSE):
                fields[number] = kind == TRUE
            else:
                fields[number] = self.value(kind, depth)
        return fields

    def value(self, kind: int, depth: int) -> Any:
        if kind in INTEGERS:
            return self.integer()
        if kind == BINARY:
            return self.take(self.varint())
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind in (LIST, SET):
            header = self.take(1)[0]
            count = header >> 4 if header >> 4 < 15 else self.varint()
            if count > len(self.data) - self.at:  # Every element has a byte at least.
                raise IndexError
            return [self.element(header & 15, depth) for _ in range(count)]
        if kind == DOUBLE:
            return self.take(8)
        if kind == BYTE:
            return self.take(1)[0]
        raise ValueError("its footer holds what no footer has")

    def element(self, kind: int, depth: int) -> Any:
        return self.take(1)[0] == TRUE if kind in (TRUE, FALSE) else self.value(kind, depth)
