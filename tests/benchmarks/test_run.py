"""Whole runs: what they leave behind, and what happens when they are repeated, broken off or made again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.config import RunConfig, check_config, compose_config
from benchmarks.record import Record, records
from benchmarks.run import run
from benchmarks.table import read_table

SMALL = ("+algo=grpo", "budget=smoke", "policy.device=cpu", "policy.threads=1")


def configured(folder: Path, *words: str) -> RunConfig:
    return check_config(compose_config([*SMALL, f"results.dir={folder}", *words]))


def small_run(folder: Path, *words: str) -> Record:
    return run(configured(folder, *words), Console(file=open(os.devnull, "w")), "test").record  # noqa: PTH123


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return small_run(tmp_path_factory.mktemp("runs"))


def test_a_complete_record_holds_every_part(finished: Record) -> None:
    names = {path.name for path in finished.folder.iterdir()}
    assert names == {
        "config.yaml", "manifest.json", "ledger.parquet", "curve.parquet", "samples.parquet", "summary.json", "status"
    }  # fmt: skip
    assert finished.status == "complete"


def test_the_summary_agrees_with_ledger_and_samples(finished: Record) -> None:
    summary = finished.read_json("summary.json")
    rows = finished.read_rows("ledger.parquet")
    samples = finished.read_rows("samples.parquet")
    assert summary["updates"] == len(rows) == 2
    assert summary["stopped_by"] == "updates"
    assert summary["rollouts"] == sum(row["rollout/rollouts"] for row in rows) == 16
    assert summary["tokens_trained"] == summary["tokens_generated"] > 0
    final = [row["solved"] for row in samples if row["stage"] == "final"]
    assert len(final) == summary["n_test"] * summary["test_samples"] == 6
    assert summary["accuracy_final"] == sum(final) / len(final)
    assert {row["problem"] for row in samples if row["stage"] == "base"} == {
        row["problem"] for row in samples if row["stage"] == "final"
    }


def test_costs_of_evaluation_stand_apart(finished: Record) -> None:
    summary = finished.read_json("summary.json")
    assert summary["evaluate_wall_s"] == pytest.approx(summary["phases"]["evaluate"])
    assert summary["wall_s"] == pytest.approx(
        sum(seconds for phase, seconds in summary["phases"].items() if phase != "evaluate")
    )


def test_the_curve_starts_at_cost_zero_and_ends_at_the_budget(finished: Record) -> None:
    curve = finished.read_rows("curve.parquet")
    assert curve[0]["spent/flops"] == 0
    assert curve[-1]["spent/updates"] == 2


def test_test_problems_are_played_only_after_improving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from policies.language_model import LanguageModel

    seen: list[set[str]] = []
    original = LanguageModel.play

    def play(self: LanguageModel, task: object, problems: list[object], *rest: object) -> object:
        seen.append({problem.split for problem in problems})  # type: ignore[attr-defined]
        return original(self, task, problems, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(LanguageModel, "play", play)
    small_run(tmp_path)
    assert seen == [{"val"}, {"train"}, {"train"}, {"val"}, {"test"}, {"test"}]


def test_a_complete_run_is_not_run_again_unless_forced(finished: Record) -> None:
    before = (finished.folder / "summary.json").stat().st_mtime_ns
    again = run(configured(finished.folder.parent), Console(file=open(os.devnull, "w")), "test")  # noqa: SIM115, PTH123
    assert not again.ran
    assert (finished.folder / "summary.json").stat().st_mtime_ns == before


def test_the_same_seed_makes_the_same_record_bit_for_bit(finished: Record, tmp_path: Path) -> None:
    again = small_run(tmp_path)
    assert again.name == finished.name
    assert again.read_rows("samples.parquet") == finished.read_rows("samples.parquet")
    seconds = ("wall_s", "spent/seconds")
    for file in ("ledger.parquet", "curve.parquet"):
        one, other = (
            [{k: v for k, v in row.items() if not k.endswith(seconds)} for row in record.read_rows(file)]
            for record in (again, finished)
        )
        assert json.dumps(one) == json.dumps(other)


def test_another_seed_is_another_run_of_the_same_experiment(finished: Record) -> None:
    other = small_run(finished.folder.parent, "seed=1")
    assert other.name != finished.name
    assert other.read_json("manifest.json")["experiment"] == finished.read_json("manifest.json")["experiment"]
    table = read_table(finished.folder.parent)
    assert [row["seeds"] for row in table.rows] == [[0, 1]]
    assert not table.set_aside


def test_an_algorithm_that_raises_leaves_a_failed_record_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from algorithms.grpo import GRPO

    def credit(*_: object) -> None:
        raise ZeroDivisionError("no credit today")

    monkeypatch.setattr(GRPO, "credit", credit)
    with pytest.raises(ZeroDivisionError):
        small_run(tmp_path)
    (record,) = records(tmp_path)
    assert record.status == "failed"
    assert "no credit today" in (record.folder / "error.txt").read_text()
    assert len(record.read_rows("curve.parquet")) == 1


def test_ctrl_c_leaves_an_interrupted_record_with_what_was_measured(tmp_path: Path) -> None:
    words = [*SMALL, "budget.updates=500", f"results.dir={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "benchmarks", "run", *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    for line in process.stdout:
        if "  update 1  " in line:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    (record,) = records(tmp_path)
    assert record.status == "interrupted"
    assert record.read_rows("curve.parquet")[0]["spent/updates"] == 0
    assert len(record.read_rows("ledger.parquet")) >= 1


def test_a_sweep_runs_every_combination_and_skips_what_is_complete(tmp_path: Path) -> None:
    words = ["run", "-m", *SMALL, "budget.updates=1", "seed=0,1", f"results.dir={tmp_path}"]
    first = subprocess.run([sys.executable, "-m", "benchmarks", *words], capture_output=True, text=True, timeout=300)
    assert first.returncode == 0, first.stderr
    assert sorted(record.read_json("summary.json")["seed"] for record in records(tmp_path)) == [0, 1]
    second = subprocess.run([sys.executable, "-m", "benchmarks", *words], capture_output=True, text=True, timeout=300)
    assert second.stdout.count("is complete already") == 2
