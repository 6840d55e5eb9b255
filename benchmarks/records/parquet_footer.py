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
        return _struct(content[-8 - size : -8], 0, 0)[0]
    except IndexError:
        raise ValueError("its footer is cut") from None


# Functions that hand on where they are, and one-byte numbers and texts read on the spot: a footer has hundreds of
# values, a folder tens of thousands of footers, and methods of a reader would take three times as long.
def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """The fields that begin at a place, and where they end."""
    if depth > DEEPEST:
        raise ValueError("its footer is nested too deep")
    fields: dict[int, Any] = {}
    number = 0
    while header := data[at]:
        at += 1
        kind = header & 15
        if header > 15:
            number += header >> 4
        else:
            value, at = _varint(data, at)
            number = (value >> 1) ^ -(value & 1)
        if kind == BINARY or kind in INTEGERS:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _varint(data, at - 1)
            if kind == BINARY:
                fields[number] = data[at : at + value]
                at += value
            else:
                fields[number] = (value >> 1) ^ -(value & 1)
        elif kind == STRUCT:
            fields[number], at = _struct(data, at, depth + 1)
        elif kind in (TRUE, FALSE):
            fields[number] = kind == TRUE
        else:
            fields[number], at = _value(data, at, kind, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """A list, or a number that is no integer, and where it ends."""
    if kind in (LIST, SET):
        header = data[at]
        inner = header & 15
        count, at = (header >> 4, at + 1) if header >> 4 < 15 else _varint(data, at + 1)
        if count > len(data) - at:  # Every element has a byte at least.
            raise IndexError
        elements = []
        for _ in range(count):
            element, at = _struct(data, at, depth + 1) if inner == STRUCT else _element(data, at, inner, depth)
            elements.append(element)
        return elements, at
    if kind == DOUBLE:
        return data[at : at + 8], at + 8
    if kind == BYTE:
        return data[at], at + 1
    raise ValueError("its footer holds what no footer has")


def _element(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """An element of a list that is no struct, and where it ends."""
    if kind in (TRUE, FALSE):
        return data[at] == TRUE, at + 1
    if kind in INTEGERS:
        value, at = _varint(data, at)
        return (value >> 1) ^ -(value & 1), at
    if kind == BINARY:
        size, at = _varint(data, at)
        return data[at : at + size], at + size
    if depth > DEEPEST:
        raise ValueError("its footer is nested too deep")
    return _value(data, at, kind, depth + 1)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("its footer holds an endless number")
