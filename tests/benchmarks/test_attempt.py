"""How an early end is told and recorded."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from benchmarks.records.record import Record
from benchmarks.running.attempt import end
from tasks.errors import RunFailed


@pytest.mark.parametrize(("there", "number"), [(True, errno.ENOSPC), (False, errno.ENOENT)])
def test_a_full_disk_and_a_folder_that_is_gone_are_one_line(tmp_path: Path, there: bool, number: int) -> None:
    record = Record(tmp_path / "run")
    if there:
        record.folder.mkdir()
    found = end(record, None, OSError(number, "why"))
    assert isinstance(found, RunFailed)
    assert str(found) == f"{record.folder}: why; nothing was done yet"
    assert (record.status == "failed") == there


def test_any_other_error_keeps_its_traceback(tmp_path: Path) -> None:
    record, error = Record(tmp_path), PermissionError(errno.EACCES, "why")
    assert end(record, None, error) is error
    assert "PermissionError" in (tmp_path / "error.txt").read_text()
