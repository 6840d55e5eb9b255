"""Campaigns: balanced whenever they are stopped, packed as memory allows, and carried on by the same command."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from benchmarks.records.record import records
from benchmarks.sweep.campaign import Job, Schedule, campaign, combinations, jobs_of, seconds, words_of
from benchmarks.sweep.campaign_defaults import DEFAULTS
from tasks.errors import BadInput

CHEAP = ("policy=tiny", "policy.device=cpu", "warmstart=none", "budget=smoke", "task=gsm_synth", "seed=0,1")
SMALL = ("evaluate.test_problems=2", "evaluate.val_problems=2", "evaluate.greedy=false", "budget.updates=1")


def test_all_algorithms_of_a_task_and_a_seed_come_before_the_next_task_and_all_tasks_before_the_next_seed() -> None:
    runs = list(combinations(words_of([])))
    loops = itertools.product(*(DEFAULTS[key].split(",") for key in ("seed", "task", "+algo")))
    assert [(words[-1], words[1], words[0]) for words in runs] == [
        (f"seed={seed}", f"task={task}", f"+algo={algo}") for seed, task, algo in loops
    ]
    assert runs[0][0] == "+algo=base", "which makes the warm start, so that the others' memory is their own"
    assert len(runs) == 7 * 3 * 3


def test_a_setting_of_one_task_is_given_to_that_task_alone() -> None:
    runs = list(combinations(words_of(["gsm8k.path=DIR", "seed=0", "+algo=base", "wordle.max_turns=4"])))
    assert [[word for word in words if word.startswith("task.")] for words in runs] == [
        ["task.words=classic", "task.max_turns=4"],
        ["task.words=classic"],
        ["task.path=DIR"],
    ]


def test_the_classic_secrets_and_all_rows_make_the_test_as_large_as_it_must_be(tmp_path: Path) -> None:
    (job,) = jobs_of(["task=wordle", "seed=0", "+algo=base", "policy=tiny", "policy.device=cpu"], tmp_path)
    assert len(job.run.task.problems("test")) >= 500
    assert job.run.config.evaluate.test_problems is None


@pytest.mark.parametrize(
    ("text", "expected"), [("9m", 540.0), ("540s", 540.0), ("1.5h", 5400.0), ("9", None), ("m", None), ("-9m", None)]
)
def test_a_slice_is_so_many_seconds_minutes_or_hours(text: str, expected: float | None) -> None:
    if expected is not None:
        assert seconds(text) == expected
        return
    with pytest.raises(BadInput, match="write a number with s, m or h"):
        seconds(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nonsense"], "cannot read 'nonsense'"),
        (["--fro=9m"], "cannot read '--fro=9m'"),
        (["results.dir=x"], "use --state DIR"),
        ([*CHEAP, "+algo=gropo"], "did you mean grpo"),
        ([*CHEAP, "gsm_synth.levles=[1]"], "did you mean task.levels"),
    ],
)
def test_a_campaign_that_cannot_be_is_refused_before_any_run_begins(
    words: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message.replace("[", r"\[")):
        jobs_of(words, tmp_path)


def test_two_campaigns_with_one_state_are_refused(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(BadInput, match="another campaign is at work"):
        campaign(CHEAP, tmp_path, None, print)


@dataclass
class Machine:
    """Runs that take a fixed time on a clock that only moves when somebody sleeps."""

    now: float = 0.0
    log: list[str] = field(default_factory=list)
    most: float = 0.0
    held: float = 0.0

    def job(self, title: str, need: float, takes: float) -> Job:
        return SimpleNamespace(title=title, need=need, takes=takes, complete=False, record=SimpleNamespace(status=None))  # type: ignore[return-value]

    def begin(self, job: Any) -> Any:
        machine, ends = self, self.now + job.takes
        self.held += job.need
        self.most = max(self.most, self.held)

        class Process:
            over = False

            def poll(self) -> int | None:
                if not self.over and machine.now >= ends:
                    self.end("complete")
                return 0 if self.over else None

            def end(self, status: str) -> None:
                self.over, job.record.status = True, status
                machine.held -= job.need

            def send_signal(self, number: int) -> None:
                machine.log.append(f"signal {number} to {job.title}")
                self.end("interrupted")

            def wait(self, timeout: float = 0) -> None:
                assert self.over

        return Process()

    def schedule(self, jobs: list[Job], free: float) -> Schedule:
        def sleep(for_s: float) -> None:
            self.now += for_s

        return Schedule(jobs, free, self.begin, self.log.append, clock=lambda: self.now, sleep=sleep)


def begun(machine: Machine) -> list[str]:
    return [line.removeprefix("begin ") for line in machine.log if line.startswith("begin ")]


def test_on_a_gpu_runs_go_side_by_side_as_memory_allows_and_none_overtakes_another() -> None:
    machine = Machine()
    jobs = [machine.job(name, need, 10) for name, need in (("a", 4), ("b", 4), ("c", 7), ("d", 1))]
    machine.schedule(jobs, free=10).carry_out(until=1e9)
    assert begun(machine) == ["a", "b", "c", "d"]
    assert machine.most == 8, "c, which needs 7, waited for a and b, and d waited behind it"
    assert machine.now < 25


def test_on_a_cpu_one_run_follows_the_other() -> None:
    machine = Machine()
    jobs = [machine.job(name, float("inf"), 10) for name in "abc"]
    machine.schedule(jobs, free=1e9).carry_out(until=1e9)
    assert begun(machine) == ["a", "b", "c"]
    assert 30 <= machine.now < 36


def test_at_the_end_of_a_slice_runs_are_told_to_stop_and_no_other_begins() -> None:
    machine = Machine()
    jobs = [machine.job(name, float("inf"), 10) for name in "abc"]
    machine.schedule(jobs, free=1e9).carry_out(until=15)
    assert begun(machine) == ["a", "b"]
    ends = [line for line in machine.log if line.startswith("end b: ")]
    assert re.fullmatch(r"end b: interrupted \(--for is over, or Ctrl-C\), to be resumed after [45]\.\d s", ends[0])
    assert sum(line.startswith("signal 15 to b") for line in machine.log) == 1
    assert machine.now < 16


def test_a_slice_without_time_begins_nothing_and_says_what_there_is_to_do(tmp_path: Path) -> None:
    said: list[str] = []
    assert campaign([*CHEAP, "+algo=base,grpo"], tmp_path, 0.0, said.append) == 0
    assert said[-1] == "campaign: 0 of 4 runs complete; the same command resumes"
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_campaign_ends_with_report_and_claims_and_repeats_nothing(tmp_path: Path) -> None:
    words = [*CHEAP, *SMALL, "+algo=base,rft", "seed=0", "task.levels=[1]", "task.max_action_tokens=24"]
    command = [sys.executable, "-m", "benchmarks", "campaign", *words, "--state", str(tmp_path)]
    first = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert first.returncode == 0, first.stderr
    assert [line for line in first.stdout.splitlines() if line.startswith("begin ")] == [
        "begin base gsm_synth seed 0",
        "begin rft gsm_synth seed 0",
    ]
    assert "UNDECIDED" in first.stdout
    assert first.stdout.splitlines()[-1] == "campaign: 2 of 2 runs complete"
    assert (tmp_path / "report.html").is_file()
    assert {record.status for record in records(tmp_path / "runs")} == {"complete"}
    again = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert "begin" not in again.stdout
    assert again.returncode == 0
