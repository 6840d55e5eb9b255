"""Tables of strangers: what is not as this project writes it is refused before it is unpacked."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.records.parquet import MOST_ROWS, Refused, column_names, read_columns, read_table, write_table

VALUES = st.none() | st.integers(-(2**63), 2**63 - 1)


def parquet(table: pa.Table, **how: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **how)
    return sink.getvalue()


@settings(max_examples=30)
@given(
    st.lists(
        st.fixed_dictionaries({"n": VALUES, "f": st.none() | st.floats(allow_nan=False), "t": st.text()}), max_size=4
    )
)
def test_rows_come_back_as_they_were_written(rows: list[dict[str, Any]]) -> None:
    assert read_table(write_table(rows)) == rows


def test_a_list_comes_back_as_json() -> None:
    assert read_table(write_table([{"a": [0, 1]}, {"a": {"b": None}}])) == [{"a": "[0, 1]"}, {"a": '{"b": null}'}]


def test_some_columns_can_be_read_and_a_missing_one_is_named() -> None:
    content = write_table([{"a": 1, "b": 2}])
    assert column_names(content) == ["a", "b"]
    assert read_columns(content, ["b"]) == {"b": [2]}
    with pytest.raises(KeyError, match="c"):
        read_columns(content, ["a", "c"])


@pytest.mark.parametrize("codec", ["gzip", "zstd", "brotli", "lz4"])
def test_only_snappy_and_nothing_are_unpacked(codec: str) -> None:
    with pytest.raises(Refused, match="other means than snappy"):
        read_table(parquet(pa.table({"a": ["x" * 10**6]}), compression=codec))
    assert read_table(parquet(pa.table({"a": [1]}), compression="none")) == [{"a": 1}]


@pytest.mark.parametrize(
    "column", [pa.array([[1]]), pa.array([{"x": 1}]), pa.array([[("k", 1)]], pa.map_("str", "int8"))]
)
def test_nested_columns_are_refused(column: Any) -> None:
    with pytest.raises(Refused, match="must be flat"):
        read_table(parquet(pa.table({"a": column})))


def test_a_small_file_that_unpacks_past_the_limit_is_refused_soon() -> None:
    index = pa.array([0] * 400, pa.int32())
    content = parquet(
        pa.table({"a": pa.DictionaryArray.from_arrays(index, pa.array(["x" * 10**6]))}), store_schema=False
    )
    assert len(content) < 100_000
    began = time.process_time()
    with pytest.raises(Refused, match="unpacks to more than 256 MiB"):
        read_table(content)
    assert time.process_time() - began < 5


def test_too_many_rows_are_refused_by_their_number() -> None:
    with pytest.raises(Refused, match=r"1,000,001 rows .* at most"):
        read_table(parquet(pa.table({"a": pa.array([True] * (MOST_ROWS + 1))})))


def test_too_many_columns_are_refused_by_their_number() -> None:
    with pytest.raises(Refused, match="1,001 columns"):
        read_table(parquet(pa.table({f"c{number}": [1] for number in range(1001)})))


def codec_changed(content: bytes) -> bytes:
    """The same file with a codec that does not exist: 0x15 is an i32 field, 2 is snappy, 0x16 the next field."""
    at = content.rindex(b"\x15\x02\x16")
    return content[: at + 1] + b"\x7e" + content[at + 2 :]


def test_a_codec_that_does_not_exist_is_refused_and_ends_no_process() -> None:
    content = codec_changed(write_table([{"a": 1}]))
    with pytest.raises(Refused, match="other means than snappy"):
        read_table(content)
    # Why the codec is not simply asked for. Where this fails, `_refuse_codecs` can be shorter.
    code = "import sys, io, pyarrow.parquet as pq; f = pq.ParquetFile(io.BytesIO(sys.stdin.buffer.read()))\n"
    code += "f.metadata.row_group(0).column(0).compression"
    done = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True)
    assert done.returncode < 0


def test_a_footer_that_is_cut_nested_or_endless_is_an_error_soon() -> None:
    def file(footer: bytes) -> bytes:
        return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"

    for footer in (
        b"",
        b"\x1c" * 1000,
        b"\x16" + b"\xff" * 1000,
        b"\x19\xfc\xff\xff\xff\xff\x0f",
        b"\x18\xff\x7f",
        b"\x1b",
    ):
        with pytest.raises((ValueError, OSError)):
            read_table(file(footer))
    for content in (b"", b"PAR1", b"PAR1PAR1", b"PAR1" + b"\xff" * 4 + b"PAR1"):
        with pytest.raises(ValueError, match=r"no parquet file|its footer"):
            read_table(content)
