"""What is on disk is checked against the seal, and the index believes nothing that has changed since."""

from __future__ import annotations

import json
import os

import pytest
from record_factory import write_record, write_study

from benchmarks.analysis.table import read_table
from benchmarks.records import index as index_module
from benchmarks.records.index import INDEX, read_index
from benchmarks.records.reading import MUST_BE_SEALED
from benchmarks.records.record import SEAL, Record

ALL = ((True, True), (True, True))
NONE = ((False, False), (False, False))


def reasons(directory):
    return dict(read_table(directory).set_aside)


@pytest.fixture
def read_folders(monkeypatch):
    """The names of the records that were read from their files, and not from the index."""
    names, read = [], index_module.read_run

    def spy(record):
        names.append(record.name)
        return read(record)

    monkeypatch.setattr(index_module, "read_run", spy)
    return names


@pytest.mark.parametrize("file", MUST_BE_SEALED)
def test_an_edit_by_hand_is_noticed_in_every_file(tmp_path, file):
    record = write_record(tmp_path)
    path = record.folder / file
    # A trailing blank or a longer parquet file reads as before: only the hash tells.
    path.write_bytes(path.read_bytes() + b" " if not file.endswith("parquet") else _longer(record, file))
    assert "changed after the run ended" in reasons(tmp_path)[record.name]
    assert reasons(tmp_path)[record.name].startswith(file)


def _longer(record, file):
    rows = record.read_rows(file)
    record.write_rows(file, [row | {"note": 0.0} for row in rows])
    return (record.folder / file).read_bytes()


def test_a_better_number_with_samples_to_match_does_not_enter_the_table(tmp_path):
    record = write_record(tmp_path, base=NONE, final=NONE)
    better = write_record(tmp_path / "elsewhere", base=NONE, final=ALL)
    for file in ("summary.json", "samples.parquet"):
        (record.folder / file).write_bytes((better.folder / file).read_bytes())
    assert "changed after the run ended" in reasons(tmp_path)[record.name]


@pytest.mark.parametrize(
    ("seal", "reason"),
    [
        (None, "seal.json: missing"),
        ("", "seal.json: JSONDecodeError"),
        ("[]", "seal.json: TypeError"),
        ('{"sha256": []}', "a hash per file"),
        ('{"sha256": {}}', "says nothing of config.yaml"),
    ],
)
def test_a_seal_that_seals_nothing_sets_the_record_aside(tmp_path, seal, reason):
    record = write_record(tmp_path)
    (record.folder / SEAL).unlink()
    if seal is not None:
        (record.folder / SEAL).write_text(seal)
    assert reason in reasons(tmp_path)[record.name]


@pytest.mark.parametrize("path", ["../secret", "/etc/hostname"])
def test_a_seal_cannot_make_the_reader_look_outside_the_record(tmp_path, path):
    record = write_record(tmp_path)
    seal = json.loads((record.folder / SEAL).read_text())
    seal["sha256"][path] = "0" * 64
    (record.folder / SEAL).write_text(json.dumps(seal))
    assert "outside the record" in reasons(tmp_path)[record.name]


def test_every_file_is_read_once_so_that_what_is_hashed_is_what_is_believed(tmp_path, monkeypatch):
    record = write_record(tmp_path)
    files, read = [], Record.read

    def spy(self, file, *limits):
        files.append(file)
        return read(self, file, *limits)

    monkeypatch.setattr(Record, "read", spy)
    assert reasons(tmp_path) == {}
    assert sorted(files) == sorted(path.name for path in record.folder.iterdir())


def test_a_file_that_another_algorithm_left_is_sealed_too(tmp_path):
    record = write_record(tmp_path)
    record.write_json("proposals.json", [])
    record.write_status("complete")
    assert reasons(tmp_path) == {}
    (record.folder / "proposals.json").unlink()
    assert reasons(tmp_path)[record.name] == "proposals.json: missing"


def test_a_learning_curve_that_is_not_finite_sets_the_record_aside(tmp_path):
    record = write_record(tmp_path)
    record.write_rows("curve.parquet", [{"solved": float("nan")}])
    record.write_status("complete")
    assert "finite" in reasons(tmp_path)[record.name]


def test_a_second_call_reads_no_record_and_says_the_same(tmp_path, read_folders):
    write_study(tmp_path, 30, problems=4, seeds=3)
    first = read_table(tmp_path)
    assert len(read_folders) == 30
    read_folders.clear()
    assert read_table(tmp_path) == first
    assert read_folders == []


def test_only_what_changed_is_read_again(tmp_path, read_folders):
    kept, changed, gone = (write_record(tmp_path, seed=seed) for seed in range(3))
    read_table(tmp_path)
    read_folders.clear()
    for path in gone.folder.iterdir():
        path.unlink()
    fresh = write_record(tmp_path, seed=3)
    summary = changed.folder / "summary.json"
    stat = summary.stat()
    summary.write_text(summary.read_text().replace('"seed": 1', '"seed": 7'))
    os.utime(summary, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # Same size, same time of modification.
    table = read_table(tmp_path)
    assert set(read_folders) == {changed.name, fresh.name}
    assert [row["seeds"] for row in table.rows] == [[0, 3]]
    assert dict(table.set_aside).keys() == {changed.name}
    assert kept.name not in read_folders


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet"])
def test_a_damaged_index_is_made_anew(tmp_path, content, read_folders):
    write_record(tmp_path)
    first = read_table(tmp_path)
    (tmp_path / INDEX).write_bytes(content)
    assert read_table(tmp_path) == first
    assert len(read_folders) == 2
    assert read_table(tmp_path) == first
    assert len(read_folders) == 2


def test_what_other_code_read_is_not_believed(tmp_path, monkeypatch, read_folders):
    write_record(tmp_path)
    read_table(tmp_path)
    monkeypatch.setattr(index_module, "_code", lambda room="": f"another version of {room}")
    read_table(tmp_path)
    assert len(read_folders) == 2


def test_a_change_of_the_statistics_reads_no_record_again_and_computes_anew(tmp_path, monkeypatch, read_folders):
    write_record(tmp_path, final=ALL)
    first, code = read_table(tmp_path), index_module._code
    monkeypatch.setattr(index_module, "_code", lambda room="": code(room) if room else "another version")
    monkeypatch.setattr("benchmarks.analysis.statistics.accuracy_interval", lambda final, samples: (0.25, 0.75))
    read_folders.clear()
    (row,), (before,) = read_table(tmp_path).rows, first.rows
    assert read_folders == []
    assert (row["accuracy_ci_low"], row["accuracy_final"]) == (0.25, before["accuracy_final"])


def test_an_index_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    write_record(tmp_path, final=ALL)

    def refuse(*args, **kwargs):
        raise PermissionError("read-only")

    monkeypatch.setattr(index_module.tempfile, "mkstemp", refuse)
    assert read_table(tmp_path).rows[0]["accuracy_final"] == 1.0
    assert not (tmp_path / INDEX).exists()


def test_a_folder_whose_name_is_no_text_can_be_indexed(tmp_path, read_folders):
    record = write_record(tmp_path, without=["summary.json"])
    record.folder.rename(tmp_path / "bad-\udcff-name")
    write_record(tmp_path, seed=1)
    for _ in range(2):
        table = read_table(tmp_path)
        assert (len(table.rows), len(table.set_aside)) == (1, 1)
    assert len(read_folders) == 2


def test_the_index_of_one_record_is_that_record(tmp_path):
    record = write_record(tmp_path, seed=4)
    write_record(tmp_path, seed=5)
    assert [run.name for run in read_index(tmp_path, only=record.name).runs] == [record.name]


def test_several_processes_read_the_same_as_one(tmp_path, monkeypatch):
    write_study(tmp_path, 30, problems=4, seeds=3)
    damaged = write_record(tmp_path, without=["summary.json"])
    alone = read_index(tmp_path)
    monkeypatch.setattr(index_module, "MANY", 10)
    together = read_index(tmp_path)
    assert (together.runs, together.set_aside) == (alone.runs, alone.set_aside)
    assert [run.details() for run in together.runs] == [run.details() for run in alone.runs]
    assert [name for name, _ in together.set_aside] == [damaged.name]
