"""The family tree of instructions, from the record of a real run and from hostile ones."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_factory import HOSTILE, write_record
from rich.console import Console

from benchmarks.config.schema import check_config, compose_config
from benchmarks.records.record import Record
from benchmarks.report.family import FAMILY, LONGEST, difference, family, sentences
from benchmarks.report.show import show
from benchmarks.running.run import run

SEED = "Play Wordle. Marks: + right place, ? elsewhere."


def proposal(candidate: int | None, parents: Sequence[int], text: str | None, **values: Any) -> dict[str, Any]:
    kept = candidate is not None
    score = 0.5 if kept else None
    row = {"candidate": candidate, "parents": list(parents), "kept": kept, "best": False if kept else None}
    return {**row, "why": "not above the parent's", "text": text, "score": score, **values}


ROWS = [
    proposal(0, [], SEED, score=0.25),
    proposal(None, [0], f"{SEED} Guess."),
    proposal(1, [0], f"{SEED} Keep."),
    proposal(2, [0], f"{SEED} Use."),
    proposal(None, [1], None, why="out of ideas"),
    proposal(3, [1, 2], f"{SEED} Keep. Use.", best=True, score=0.75),
]


def sheet_of(record: Record) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    show(record, console, limit=1)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def kept(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Record:
    record = write_record(folder, algo="gepa")
    record.keep(FAMILY, rows)
    return record


def test_the_tree_shows_who_came_of_whom_and_what_changed() -> None:
    assert family(ROWS) == [
        ("family: 5 proposals, 3 kept; the best is 3", ""),
        ("0, score 0.250; 1 of its proposals not kept", ""),
        ("  1, score 0.500; 1 of its proposals not kept", "+ Keep."),
        ("    3 (merged with 2), score 0.750, the best", "+ Use."),
        ("  2, score 0.500", "+ Use."),
        ("not kept: 1 × not above the parent's", ""),
        ("not kept: 1 × out of ideas", ""),
        ("the best instructions against the first ones", f"  Play Wordle.\n  {SEED[13:]}\n+ Keep.\n+ Use."),
    ]


def test_show_prints_the_family_before_the_samples(tmp_path: Path) -> None:
    sheet = sheet_of(kept(tmp_path, ROWS))
    assert sheet.index("family: 5 proposals") < sheet.index("  │ + Keep.\n") < sheet.index("1 of 4 final samples")
    assert "family" not in sheet_of(write_record(tmp_path, algo="grpo"))


def test_a_mark_inside_a_sentence_does_not_end_it() -> None:
    rule = "Use every letter marked ? again, elsewhere."
    assert sentences(f"Play. {rule}\n\nWell! 3 tries.") == ["Play.", rule, "Well!", "3 tries."]


@given(st.text(max_size=200), st.text(max_size=200))
def test_the_difference_leads_from_one_text_to_the_other(old: str, new: str) -> None:
    lines = difference(old, new).split("\n") if sentences(old) + sentences(new) else []
    assert [line[2:] for line in lines if line[0] in " -"] == sentences(old)
    assert [line[2:] for line in lines if line[0] in " +"] == sentences(new)


def test_long_instructions_are_compared_in_bounded_time() -> None:
    assert len(difference("a\n" * 10**6, "b\n" * 10**6)) <= 4 * LONGEST


@pytest.mark.parametrize("name", HOSTILE)
def test_no_instructions_steer_the_terminal_or_pass_as_a_line_of_the_sheet(tmp_path: Path, name: str) -> None:
    text = HOSTILE[name].encode(errors="replace").decode() + "\n[red]turn 1: solved[/red]\n9, score 1.000, the best"
    rows = [ROWS[0], proposal(1, [0], text, best=True), proposal(None, [0], None, why=text)]
    sheet = sheet_of(kept(tmp_path, rows))
    assert all(char == "\n" or char.isprintable() for char in sheet)
    assert "  │ + [red]turn 1: solved[/red]\n" in sheet
    assert not any(line.startswith(("9, score", "[red]")) for line in sheet.split("\n"))


NO_FAMILY = {
    "none at all": [],
    "no best": [proposal(0, [], SEED)],
    "two best": [proposal(0, [], SEED, best=True), proposal(1, [0], SEED, best=True)],
    "its own parent": [proposal(0, [], SEED, best=True), proposal(1, [1], SEED)],
    "a parent to come": [proposal(0, [], SEED, best=True), proposal(1, [2], SEED), proposal(2, [1], SEED)],
    "an orphan": [proposal(0, [], SEED, best=True), proposal(1, [], SEED)],
    "a hole in the numbers": [proposal(0, [], SEED, best=True), proposal(2, [0], SEED)],
    "another table": [{"a": 1}],
}


@pytest.mark.parametrize("name", NO_FAMILY)
def test_what_is_no_family_is_named_and_the_samples_are_shown_all_the_same(tmp_path: Path, name: str) -> None:
    sheet = sheet_of(kept(tmp_path, NO_FAMILY[name]))
    assert "proposals.parquet: " in sheet
    assert "1 of 4 final samples" in sheet


@pytest.mark.parametrize(
    "file", ["ledger.parquet", "../x.parquet", "x.txt", "X.parquet", ".parquet", "a/b.parquet", ""]
)
def test_an_algorithm_keeps_nothing_under_the_records_own_names_or_elsewhere(tmp_path: Path, file: str) -> None:
    with pytest.raises(ValueError, match=r"use NAME\.parquet"):
        write_record(tmp_path).keep(file, [{"a": 1}])


def test_what_was_kept_goes_with_the_rest_when_a_run_starts_anew(tmp_path: Path) -> None:
    record = kept(tmp_path, ROWS)
    record.clear()
    assert sorted(path.name for path in record.folder.iterdir()) == ["config.json", "manifest.json", "status"]


def test_a_whole_run_of_gepa_leaves_its_family_and_can_be_shown(tmp_path: Path) -> None:
    words = [
        "+algo=gepa",
        "budget=smoke",
        "budget.updates=4",
        "task=gsm_synth",
        "policy.device=cpu",
        "policy.threads=1",
    ]
    words += ["algo.valset_size=16", "algo.minibatch_size=8", f"results.dir={tmp_path}"]
    with Path(os.devnull).open("w") as nowhere:
        record = run(check_config(compose_config(words)), Console(file=nowhere), "test").record
    rows = record.read_rows(FAMILY)
    assert record.status == "complete"
    assert [row["iteration"] for row in rows] == [0, 1, 2, 3]
    assert record.read_json("summary.json")["updates"] == 4
    ledger = record.read_rows("ledger.parquet")
    assert ledger[0]["rollout/rollouts"] == 16
    assert all(row["rollout/rollouts"] in (8, 16, 32) for row in ledger[1:])
    sheet = sheet_of(record)
    assert "family: 3 proposals" in sheet
    assert "  │   Solve the problem.\n" in sheet
