"""What is on disk is checked against the seal; what cannot be used is set aside with the reason."""

from __future__ import annotations

import json

import pytest
from record_factory import set_aside, write_record

from benchmarks.analysis.experiments import read_experiments
from benchmarks.analysis.table import read_table, render
from benchmarks.records.reading import MUST_BE_SEALED, SAMPLES, find_record, read_run, read_runs
from benchmarks.records.record import SEAL, Record
from benchmarks.report.show import show
from tasks.errors import BadInput, RunFailed

ALL = ((True, True), (True, True))
NONE = ((False, False), (False, False))


def reasons(directory):
    return set_aside(directory)[1]


@pytest.mark.parametrize("file", MUST_BE_SEALED)
def test_an_edit_by_hand_is_noticed_in_every_file(tmp_path, file):
    record = write_record(tmp_path)
    path = record.folder / file
    # A trailing blank or a longer parquet file reads as before: only the hash tells.
    path.write_bytes(path.read_bytes() + b" " if not file.endswith("parquet") else _longer(record, file))
    reason = reasons(tmp_path)[record.name]
    assert "changed after the run ended" in reason
    assert reason.startswith(file)


def _longer(record, file):
    rows = record.read_rows(file)
    record.write_rows(file, [row | {"note": 0.0} for row in rows])
    return (record.folder / file).read_bytes()


def test_a_better_number_with_samples_to_match_does_not_enter_the_table(tmp_path):
    record = write_record(tmp_path, base=NONE, final=NONE)
    better = write_record(tmp_path / "elsewhere", base=NONE, final=ALL)
    for file in ("summary.json", "outcomes.parquet"):
        (record.folder / file).write_bytes((better.folder / file).read_bytes())
    assert "changed after the run ended" in reasons(tmp_path)[record.name]


@pytest.mark.parametrize(
    ("seal", "reason"),
    [
        (None, "seal.json: missing"),
        ("", "seal.json: JSONDecodeError"),
        ("[1]", "seal.json: TypeError"),
        ('{"record_version": 2, "sha256": []}', "a hash per file"),
        ('{"record_version": 2, "sha256": {}}', "says nothing of config.json"),
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
    assert read_run(record).status == "complete"
    # The status twice: once to see whether it is there at all.
    assert sorted(files) == sorted([*(path.name for path in record.folder.iterdir()), "status"])


def test_a_file_that_another_algorithm_left_is_sealed_too(tmp_path):
    record = write_record(tmp_path)
    record.write_json("proposals.json", [])
    reseal(record)
    assert read_run(record).status == "complete"
    (record.folder / "proposals.json").unlink()
    assert reasons(tmp_path)[record.name] == "proposals.json: missing"


def test_a_learning_curve_that_is_not_finite_sets_the_record_aside(tmp_path):
    record = write_record(tmp_path)
    record.write_rows("curve.parquet", [{"solved": float("nan")}])
    record.write_status("complete")
    assert "finite" in reasons(tmp_path)[record.name]


def reseal(record):
    record.write_status("complete")


def test_a_record_without_its_texts_is_read_all_the_same(tmp_path):
    record = write_record(tmp_path)
    before = read_run(record)
    for file in SAMPLES:
        (record.folder / file).unlink(missing_ok=True)
    assert read_run(record) == before
    assert read_run(record).outcomes("score") == pytest.approx([0.45, 0.95])
    with pytest.raises(BadInput, match="no test samples to show"):
        show(record, None)


def test_show_refuses_samples_that_were_edited(tmp_path):
    record = write_record(tmp_path)
    record.write_rows("samples.parquet", record.read_rows("samples.parquet"))
    (record.folder / "samples.parquet").write_bytes(_longer(record, "samples.parquet"))
    with pytest.raises(BadInput, match=r"samples\.parquet: changed after the run ended"):
        show(find_record(tmp_path, "last"), None)


def test_what_a_network_disk_leaves_in_a_record_does_not_set_it_aside(tmp_path):
    record = write_record(tmp_path)
    (record.folder / ".nfs000000000001").write_bytes(b"x")
    (record.folder / "link").symlink_to("/etc/hostname")
    reseal(record)
    assert ".nfs000000000001" not in record.read_json(SEAL)["sha256"]
    assert "link" not in record.read_json(SEAL)["sha256"]
    (record.folder / ".nfs000000000001").unlink()
    assert reasons(tmp_path) == {}


def test_a_seed_that_started_from_other_weights_is_not_pooled(tmp_path):
    for seed, state in enumerate(("aa", "aa", "bb")):
        record = write_record(tmp_path, seed=seed)
        record.write_json("manifest.json", record.read_json("manifest.json") | {"policy_state": state})
        reseal(record)
    (row,) = read_table(tmp_path).rows
    assert row["seeds"] == [0, 1]
    assert "started from other weights" in dict(read_table(tmp_path).set_aside)[record.name]


def test_experiments_that_started_from_other_weights_are_not_of_one_setting(tmp_path):
    for algo, state in (("grpo", "aa"), ("rft", "aa"), ("gepa", "bb")):
        record = write_record(tmp_path, algo=algo)
        record.write_json("manifest.json", record.read_json("manifest.json") | {"policy_state": state})
        reseal(record)
    found = {experiment.algo: experiment.fingerprint for experiment in read_experiments(tmp_path)[0]}
    assert found["grpo"] == found["rft"] != found["gepa"]


def test_reasons_are_counted(tmp_path, capsys):
    for seed in range(5):
        write_record(tmp_path, seed=seed, without=["summary.json"])
    write_record(tmp_path, seed=7, without=["curve.parquet"])
    write_record(tmp_path, seed=9)
    render(read_table(tmp_path), "json", None)
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("set aside 5 x summary.json: missing (grpo-wordle-tiny-s0-e0e0e0e0e0, ")
    assert said[0].endswith(" and 2 more)")
    assert said[1].startswith("set aside 1 x curve.parquet: missing (")
    assert said[2:] == ["6 records set aside"]


def test_a_folder_of_which_nothing_can_be_used_is_a_failure(tmp_path):
    for seed in range(2):
        write_record(tmp_path, seed=seed, without=["summary.json"])
    with pytest.raises(RunFailed, match=r"none of 2 records can be used: 2 x summary\.json: missing"):
        read_table(tmp_path)


def test_records_of_another_version_have_one_reason(tmp_path):
    for seed in range(2):
        record = write_record(tmp_path, seed=seed)
        record.write_json(SEAL, record.read_json(SEAL) | {"record_version": 1})
    assert set(reasons(tmp_path).values()) == {"seal.json: record_version 1, and 2 is read; make the run again"}


def test_reading_writes_nothing(tmp_path):
    write_record(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    read_table(tmp_path)
    read_experiments(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_whose_name_is_no_text_is_set_aside(tmp_path):
    record = write_record(tmp_path, without=["summary.json"])
    record.folder.rename(tmp_path / "bad-\udcff-name")
    write_record(tmp_path, seed=1)
    table = read_table(tmp_path)
    assert (len(table.rows), len(table.set_aside)) == (1, 1)


def test_one_record_alone_can_be_read(tmp_path):
    record = write_record(tmp_path, seed=4)
    write_record(tmp_path, seed=5)
    assert [run.name for run in read_runs(tmp_path, only=record.name)[0]] == [record.name]
