"""A stranger's results folder: nothing in it leads elsewhere, unfolds without end, or brings a command down."""

from __future__ import annotations

import io
import json
import os
import pickle
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from record_factory import rewrite, set_aside, write_record
from rich.console import Console

from benchmarks.analysis.experiments import read_experiments
from benchmarks.analysis.table import read_table
from benchmarks.config.listing import listing
from benchmarks.config.schema import check_config, compose_config
from benchmarks.records.record import SEAL, open_record
from benchmarks.report.family import difference, family
from benchmarks.report.page import report
from benchmarks.report.show import show
from tasks.errors import BadInput, RunFailed


def reasons(directory: Path) -> dict[str, str]:
    return set_aside(directory)[1]


# --- links ------------------------------------------------------------------------------------------------------------

FILES = (
    "config.json",
    "manifest.json",
    "summary.json",
    "samples.parquet",
    "outcomes.parquet",
    "curve.parquet",
    "status",
    SEAL,
)


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_a_link_sets_the_record_aside_though_what_it_leads_to_is_sound(
    tmp_path: Path, file: str
) -> None:
    record = write_record(tmp_path / "runs")
    (record.folder / file).rename(tmp_path / file)
    (record.folder / file).symlink_to(tmp_path / file)
    assert "symbolic link" in reasons(tmp_path / "runs")[record.name]
    assert str(tmp_path) not in reasons(tmp_path / "runs")[record.name]


def test_a_record_that_is_a_link_is_set_aside(tmp_path: Path) -> None:
    record = write_record(tmp_path / "private")
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "shown").symlink_to(record.folder)
    assert reasons(runs) == {"shown": "it is a symbolic link; copy the record"}
    with pytest.raises(RunFailed, match="symbolic link"):
        read_experiments(runs)


@pytest.mark.parametrize("target", ["loop", "nowhere", "/", ".", "/dev/zero"])
def test_a_link_beside_the_records_or_in_one_stops_nothing(tmp_path: Path, target: str) -> None:
    record = write_record(tmp_path)
    running = write_record(tmp_path, seed=1, status="running")
    for folder in (tmp_path, record.folder, running.folder):
        (folder / "loop").symlink_to(target)
    assert [row["seeds"] for row in read_table(tmp_path).rows] == [[0]]
    report(tmp_path, tmp_path / "report.html")


def test_a_pipe_in_a_record_is_not_waited_for(tmp_path: Path) -> None:
    record = write_record(tmp_path)
    (record.folder / "summary.json").unlink()
    os.mkfifo(record.folder / "summary.json")
    assert reasons(tmp_path)[record.name] == "summary.json: it is no regular file"


def test_a_run_does_not_write_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "name").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="is a symbolic link"):
        open_record(tmp_path, "name")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_inside_a_record_that_is_a_link_is_not_entered(tmp_path: Path) -> None:
    record = write_record(tmp_path / "runs")
    (tmp_path / "secret").write_text("x")
    (record.folder / "sub").symlink_to(tmp_path)
    with pytest.raises(OSError, match="through a symbolic link"):
        record.read("sub/secret")
    for path in ("../secret", str(tmp_path / "secret")):
        with pytest.raises(OSError, match="no file of the record"):
            record.read(path)


# --- what unfolds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 60_000, "RecursionError"),
        ('{"a":' * 900 + "1" + "}" * 900, "must name"),
        ("x: !!python/object/apply:os.system ['true']", "JSONDecodeError"),
        ('{"a": "${oc.env:HOME}"}', "must name"),
    ],
)
def test_a_configuration_that_nests_or_runs_is_refused_soon(tmp_path: Path, text: str, message: str) -> None:
    record = write_record(tmp_path, status="running")
    (record.folder / "config.json").write_text(text)
    began = time.process_time()
    assert message in reasons(tmp_path)[record.name]
    assert time.process_time() - began < 3
    assert str(tmp_path) not in reasons(tmp_path)[record.name]


def test_a_seal_that_names_one_file_a_thousand_ways_is_refused(tmp_path: Path) -> None:
    record = write_record(tmp_path)
    seal = json.loads((record.folder / SEAL).read_text())
    seal["sha256"]["./samples.parquet"] = seal["sha256"]["samples.parquet"]
    (record.folder / SEAL).write_text(json.dumps(seal))
    assert "roundabout" in reasons(tmp_path)[record.name]


def test_what_a_seal_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    record = write_record(tmp_path)
    seal = json.loads((record.folder / SEAL).read_text())
    seal["sha256"]["\x1b[2J"] = "0"
    (record.folder / SEAL).write_text(json.dumps(seal))
    assert reasons(tmp_path)[record.name] == "\\x1b[2J: missing"


def test_long_instructions_of_equal_sentences_are_compared_soon() -> None:
    began = time.process_time()
    difference("a\n" * 10_000, "a\n" * 9_999 + "b")
    assert time.process_time() - began < 2


def test_a_family_of_too_many_is_named_and_not_drawn() -> None:
    row = {"kept": False, "candidate": None, "best": None, "parents": [0], "text": None, "score": None, "why": "x"}
    with pytest.raises(ValueError, match="too many to draw"):
        family([row] * 1001)


# --- what is believed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"updates": "many"},
        {"dollars": "cheap"},
        {"phases": {"rollout": None}},
        {"metrics_base": [1]},
        {"stopped_by": {"a": 1}},
        {"task_version": "\x1b[2J"},
    ],
)
def test_a_summary_with_an_impossible_value_is_set_aside(tmp_path: Path, changes: dict[str, object]) -> None:
    record = write_record(tmp_path, **changes)  # type: ignore[arg-type]
    assert "impossible value" in reasons(tmp_path)[record.name]


def test_a_complete_run_without_a_curve_is_set_aside(tmp_path: Path) -> None:
    record = write_record(tmp_path)
    record.write_rows("curve.parquet", [])
    record.write_status("complete")
    assert "no row" in reasons(tmp_path)[record.name]


def test_a_metric_that_is_no_number_is_named(tmp_path: Path) -> None:
    record = write_record(tmp_path)
    rewrite(record, "outcomes.parquet", [{**row, "metric/luck": "x"} for row in record.read_rows("outcomes.parquet")])
    (experiment,), _ = read_experiments(tmp_path)
    with pytest.raises(BadInput, match="no finite number"):
        experiment.matrix("luck", [0])


class Planted:
    """A pickle that leaves a mark where it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, int]]:
        return os.open, (str(self.mark), os.O_CREAT | os.O_WRONLY)


@pytest.mark.parametrize("file", [*FILES, "ledger.parquet", "proposals.parquet", "model.pt", "state.pkl"])
def test_a_pickle_in_a_results_folder_is_never_opened(tmp_path: Path, file: str) -> None:
    runs, mark = tmp_path / "runs", tmp_path / "opened"
    record = write_record(runs)
    content = pickle.dumps(Planted(mark))
    (record.folder / file).write_bytes(content)
    write_record(runs, seed=1)
    read_table(runs)
    read_experiments(runs)
    report(runs, tmp_path / "report.html")
    with suppress(BadInput):
        show(record, Console(file=io.StringIO()))
    assert not mark.exists()
    os.close(pickle.loads(content))
    assert mark.exists(), "or the test would prove nothing"


def test_a_record_of_megabytes_of_hostile_text_can_be_shown(tmp_path: Path) -> None:
    record = write_record(tmp_path, actions=["\x1b[2J" * 100_000])
    show(record, Console(file=io.StringIO()))
    report(tmp_path, tmp_path / "report.html")


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "", ".", "..", "a" * 81, "a b", "a\nb", "é", "-rf"])
def test_no_name_leads_out_of_the_results_folder(name: str) -> None:
    config = compose_config(["+algo=base"])
    for group in ("policy", "budget"):
        changed = config.copy()
        changed[group].name = name
        with pytest.raises(BadInput, match=rf"{group}\.name=.* must be letters"):
            check_config(changed)


@pytest.mark.parametrize(
    "words",
    [
        *(["~task"], ["~results.dir", "~force", "seed=x"], ["results=tiny"], ["batch=3"], ["+policy@task=-1"]),
        *(["task.name=???"], ["results=${a:b}"], ["+files.algo=true"], ["+files.algo={a:1}"], ["seed=${seed}"]),
        *(["results.dir=" + "a" * 5000], ["~results=9" + "9" * 5000], ["results.dir='~nobody-here/x'"], ["task=[]"]),
    ],
)
def test_a_word_that_makes_no_sense_is_one_line(words: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        check_config(compose_config(["+algo=base", *words]))
    assert "\n" not in str(caught.value)


def test_listing_a_folder_of_strange_python_files_runs_and_breaks_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "a.py").write_text(f"open({str(mark)!r}, 'w')\nclass Mine(Algorithm): pass\n")
    (tmp_path / "deep.py").write_text("(" * 100_000)
    (tmp_path / "deeper.py").write_text("-" * 100_000 + "1")
    (tmp_path / "nul.py").write_bytes(b"\0")
    (tmp_path / "loop.py").symlink_to("loop.py")
    os.mkfifo(tmp_path / "pipe.py")
    assert "a.py:Mine" in listing(tmp_path)
    assert not mark.exists()
