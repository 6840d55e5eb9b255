"""Whole runs: what they leave behind, and what happens when they are repeated, broken off or made again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.analysis.table import read_table
from benchmarks.config.schema import RunConfig, check_config, compose_config
from benchmarks.records.record import Record, records
from benchmarks.resume.lock import holder
from benchmarks.resume.state import StateStore
from benchmarks.running.ledger import APART, VARIABLE
from benchmarks.running.run import run

SMALL = ("+algo=grpo", "budget=smoke", "policy.device=cpu", "policy.threads=1")


def configured(folder: Path, *words: str) -> RunConfig:
    return check_config(compose_config([*SMALL, f"results.dir={folder}", *words]))


def small_run(folder: Path, *words: str) -> Record:
    return run(configured(folder, *words), Console(file=open(os.devnull, "w")), "test").record  # noqa: PTH123


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, float]:
    """A run, and the wall seconds that it took."""
    config = configured(tmp_path_factory.mktemp("runs"))
    began = time.perf_counter()
    record = run(config, Console(file=open(os.devnull, "w")), "test").record  # noqa: SIM115, PTH123
    return record, time.perf_counter() - began


@pytest.fixture(scope="module")
def finished(timed: tuple[Record, float]) -> Record:
    return timed[0]


def test_a_complete_record_holds_every_part(finished: Record) -> None:
    names = {path.name for path in finished.folder.iterdir()}
    assert names == {
        "config.json", "manifest.json", "ledger.parquet", "curve.parquet", "samples.parquet", "greedy.parquet",
        "outcomes.parquet", "credit_first.parquet", "credit_last.parquet", "summary.json", "seal.json", "status",
        "policy",
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
        sum(seconds for phase, seconds in summary["phases"].items() if phase not in APART)
    )


def test_phases_sum_to_the_wall_time_of_the_run(timed: tuple[Record, float]) -> None:
    record, wall_s = timed
    assert sum(record.read_json("summary.json")["phases"].values()) == pytest.approx(wall_s, rel=0.02)


def test_the_rows_of_the_ledger_sum_to_the_summary(finished: Record) -> None:
    summary, rows = finished.read_json("summary.json"), finished.read_rows("ledger.parquet")
    for phase in ("rollout", "update"):
        assert sum(row[f"{phase}/flops"] for row in rows) == summary["costs"][phase]["flops"]
        for row in rows:
            assert row[f"{phase}/mfu"] == pytest.approx(
                row[f"{phase}/flops"] / row[f"{phase}/wall_s"] / summary["peak_flops_per_s"]
            )
            assert 0 < row[f"{phase}/mfu"] < 1
            assert row[f"{phase}/cpu_s"] > 0
    assert summary["flops"] == sum(summary["costs"][phase]["flops"] for phase in ("rollout", "update"))


def test_on_a_processor_without_prices_gpu_seconds_device_memory_and_dollars_are_null(finished: Record) -> None:
    summary, (row, *_) = finished.read_json("summary.json"), finished.read_rows("ledger.parquet")
    assert [summary[name] for name in ("gpu_s", "peak_device_bytes", "dollars")] == [None] * 3
    assert [row[name] for name in ("update/gpu_s", "peak_device_bytes", "update/dollars")] == [None] * 3
    assert summary["peak_memory_bytes"] == summary["peak_host_bytes"] >= row["peak_host_bytes"] > 2**26


def test_greedy_answers_stand_in_a_file_of_their_own(finished: Record) -> None:
    summary = finished.read_json("summary.json")
    rows = finished.read_rows("greedy.parquet")
    problems = [row["problem"] for row in finished.read_rows("samples.parquet") if row["stage"] == "final"]
    for stage in ("base", "final"):
        own = [row for row in rows if row["stage"] == stage]
        assert [row["problem"] for row in own] == list(dict.fromkeys(problems))
        assert summary[f"greedy_{stage}"]["solved"] == sum(row["solved"] for row in own) / len(own)
        assert summary[f"greedy_{stage}"]["guesses"] == pytest.approx(
            sum(row["metric/guesses"] for row in own) / len(own)
        )


def test_the_curve_has_its_points_at_equal_shares_of_the_budget(tmp_path: Path) -> None:
    record = small_run(tmp_path, "budget.updates=4", "budget.checkpoints=2", "evaluate.greedy=false")
    assert [row["spent/updates"] for row in record.read_rows("curve.parquet")] == [0, 2, 4]
    assert not (record.folder / "greedy.parquet").exists()
    assert record.read_json("summary.json")["greedy_final"] is None


def test_a_run_stops_in_the_update_that_reaches_the_first_limit(tmp_path: Path) -> None:
    words = ("budget.updates=9", "budget.rollouts=17", "budget.dollars=1e9", "budget.price_per_hour=1")
    record = small_run(tmp_path, *words, "evaluate.greedy=false")
    summary = record.read_json("summary.json")
    assert (summary["updates"], summary["rollouts"], summary["stopped_by"]) == (3, 24, "rollouts")
    assert summary["dollars"] == pytest.approx(summary["wall_s"] / 3600)


def test_energy_is_booked_by_phase_and_can_be_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meter(_: object) -> Callable[[], float]:
        started = time.perf_counter()
        return lambda: 2 * (time.perf_counter() - started)

    monkeypatch.setattr("benchmarks.running.energy.energy_meter", meter)
    monkeypatch.setattr("benchmarks.running.machine.energy_meter", meter)
    summary = small_run(tmp_path, "budget.updates=9", "budget.joules=1e-3").read_json("summary.json")
    assert (summary["updates"], summary["stopped_by"]) == (1, "joules")
    assert summary["energy_j"] == pytest.approx(2 * summary["wall_s"], rel=0.1)
    # Load is the phase in which the meter starts.
    for phase in ("rollout", "update", "evaluate"):
        # What the environments took was moved out of rollout in seconds only.
        seconds = summary["phases"][phase] + (summary["phases"]["score"] if phase == "rollout" else 0)
        assert summary["costs"][phase]["energy_j"] == pytest.approx(2 * seconds, rel=0.05)
    assert summary["costs"]["load"]["energy_j"] >= 0


def test_keeping_the_ledger_takes_at_most_a_hundredth_of_an_update(timed: tuple[Record, float]) -> None:
    from benchmarks.running.ledger import Ledger

    record, _ = timed
    ledger = Ledger()
    began = time.process_time()
    for _ in range(200):
        with ledger.phase("rollout"):
            ledger.charge("rollout", {"flops": 1})
        ledger.close_row({})
        ledger.spent()
    an_update = (time.process_time() - began) / 200
    costs = record.read_json("summary.json")["costs"]
    assert an_update < 0.01 * (costs["update"]["cpu_s"] + costs["rollout"]["cpu_s"]) / 2


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
    assert seen == [{"val"}, {"train"}, {"train"}, {"val"}, {"test"}, {"test"}, {"test"}, {"test"}]


def test_a_complete_run_is_not_run_again_unless_forced(finished: Record) -> None:
    before = (finished.folder / "summary.json").stat().st_mtime_ns
    again = run(configured(finished.folder.parent), Console(file=open(os.devnull, "w")), "test")  # noqa: SIM115, PTH123
    assert not again.ran
    assert (finished.folder / "summary.json").stat().st_mtime_ns == before


def test_the_same_seed_makes_the_same_record_bit_for_bit(finished: Record, tmp_path: Path) -> None:
    again = small_run(tmp_path)
    assert again.name == finished.name
    assert again.read_rows("samples.parquet") == finished.read_rows("samples.parquet")
    assert again.read_rows("greedy.parquet") == finished.read_rows("greedy.parquet")
    seconds = (*VARIABLE, "spent/seconds", "spent/device_seconds")
    for file in ("ledger.parquet", "curve.parquet"):
        one, other = (
            [{k: v for k, v in row.items() if not k.endswith(seconds)} for row in record.read_rows(file)]
            for record in (again, finished)
        )
        assert json.dumps(one) == json.dumps(other)


def test_the_improved_policy_stays_in_the_record_and_plays_as_it_did(finished: Record, tmp_path: Path) -> None:
    summary = finished.read_json("summary.json")
    words = ["+algo=base", *SMALL[1:], f"results.dir={tmp_path}"]
    kept = check_config(compose_config([*words, "policy=path", f"policy.path={finished.folder / 'policy'}"]))
    found = run(kept, Console(quiet=True), "test").record.read_json("summary.json")
    assert found["policy_state"] == summary["policy_state"]
    assert found["accuracy_base"] == summary["accuracy_final"]
    without = run(check_config(compose_config([*words, "results.keep_policy=false"])), Console(quiet=True), "test")
    assert not (without.record.folder / "policy").exists()


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


@pytest.mark.slow
def test_being_stopped_twice_leaves_an_interrupted_record_with_what_was_measured(tmp_path: Path) -> None:
    words = [*SMALL, "budget.updates=500", f"results.dir={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "benchmarks", "run", *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    for line in process.stdout:
        if "  update 1  " in line:
            break
    process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    (record,) = records(tmp_path)
    assert record.status == "interrupted"
    assert record.read_rows("curve.parquet")[0]["spent/updates"] == 0
    assert len(record.read_rows("ledger.parquet")) >= 1
    assert StateStore(record.folder).newest()
    assert holder(tmp_path, record.name) is None


@pytest.mark.slow
def test_a_sweep_runs_every_combination_and_skips_what_is_complete(tmp_path: Path) -> None:
    words = ["run", "-m", *SMALL, "budget.updates=1", "seed=0,1", f"results.dir={tmp_path}"]
    first = subprocess.run([sys.executable, "-m", "benchmarks", *words], capture_output=True, text=True, timeout=300)
    assert first.returncode == 0, first.stderr
    assert sorted(record.read_json("summary.json")["seed"] for record in records(tmp_path)) == [0, 1]
    second = subprocess.run([sys.executable, "-m", "benchmarks", *words], capture_output=True, text=True, timeout=300)
    assert second.stdout.count("is complete already") == 2


@pytest.mark.slow
def test_a_sweep_in_several_processes_goes_on_past_a_run_that_fails_and_says_so(tmp_path: Path) -> None:
    words = [
        "run",
        "-m",
        "+algo=base,fork_grpo",
        "task=wordle",
        "budget=smoke",
        "evaluate.test_problems=2",
        "evaluate.val_problems=2",
        "launcher=joblib",
        "hydra.launcher.n_jobs=2",
        f"results.dir={tmp_path}",
    ]
    done = subprocess.run([sys.executable, "-m", "benchmarks", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "sweep: 1 of 2 runs complete" in done.stderr
    assert "failed: +algo=fork_grpo" in done.stderr
    assert {record.name.partition("-")[0]: record.status for record in records(tmp_path)} == {
        "base": "complete",
        "fork_grpo": "failed",
    }
