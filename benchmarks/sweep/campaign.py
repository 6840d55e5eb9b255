"""A campaign: every algorithm on every task, seed by seed, in one command that can be interrupted and resumed.

It is a sweep of ordinary runs with an order, a time limit and a scheduler: each run is a process of its own
(`python -m benchmarks run ...`) and leaves the usual record. All algorithms of a task and a seed come before the next
task, all tasks before the next seed, so that whenever it is stopped what is there can be compared. On a GPU as many
runs go side by side as fit by `policies.memory`'s formula; on a CPU one after the other.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import benchmarks
from benchmarks.records.record import Record
from benchmarks.resume.interruption import stoppable
from benchmarks.sweep.campaign_defaults import DEFAULTS
from benchmarks.sweep.runs import PlannedRun, planned
from benchmarks.wording import duration, one_line
from policies import ranks
from tasks.errors import BadInput, require

SWEPT = ("seed", "task", "+algo")
"""From the outermost to the innermost loop."""
SPAN = re.compile(r"(\d+(?:\.\d+)?)([smh])")
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
STOPPING_S = 15.0
"""Before the end of a slice, in which runs that are told to stop save what they have."""
GRACE_S = 120.0
"""After which a run that was told to stop is killed; a killed run loses the update in flight as well."""
POLL_S = 0.5
INTERRUPTED = "interrupted (--for is over, or Ctrl-C), to be resumed"
Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a campaign."""

    run: PlannedRun
    need: float
    """Bytes of device memory that it needs at most, by formula; infinite on a CPU, where runs do not share."""

    @property
    def title(self) -> str:
        """What messages call it."""
        config = self.run.config
        return f"{config.algo.name} {config.task.name} seed {config.seed}"

    @property
    def record(self) -> Record:
        """Where it is or will be."""
        return self.run.record

    @property
    def complete(self) -> bool:
        """Whether its record is complete."""
        return self.record.status == "complete"


def seconds(text: str) -> float:
    """What `9m`, `540s` or `1.5h` means.

    Raises:
        BadInput: it is none of these.
    """
    match = SPAN.fullmatch(text)
    if match is None:
        raise BadInput(f"--for {text}: write a number with s, m or h, such as 9m")
    return float(match.group(1)) * UNITS[match.group(2)]


def words_of(overrides: Sequence[str]) -> dict[str, str]:
    """The campaign's settings: the defaults with what the user says in their place.

    Raises:
        BadInput: a word that is no KEY=VALUE, or one that the campaign sets itself.
    """
    settings = dict(DEFAULTS)
    for word in overrides:
        key, found, value = word.partition("=")
        readable = bool(found) and not word.startswith("-")
        require(readable, f"cannot read {word!r}; a campaign takes KEY=VALUE and the options of `campaign --help`")
        require(key != "results.dir", "results.dir: a campaign keeps its records in its state; use --state DIR")
        settings["+algo" if key == "algo" else key] = value
    return settings


def combinations(settings: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """The overrides of every run, in the order in which they are to be made."""
    tasks = settings["task"].split(",")
    own: dict[str, list[str]] = {task: [] for task in (*DEFAULTS["task"].split(","), *tasks)}
    shared: list[str] = []
    for key, value in settings.items():
        group, _, rest = key.partition(".")
        if group in own and rest:
            own[group].append(f"task.{rest}={value}")
        elif key not in SWEPT:
            shared.append(f"{key}={value}")
    for seed in settings["seed"].split(","):
        for task in tasks:
            for algo in settings["+algo"].split(","):
                yield (f"+algo={algo}", f"task={task}", *own[task], *shared, f"seed={seed}")


def jobs_of(overrides: Sequence[str], state: Path) -> list[Job]:
    """Every run of a campaign, checked before any is begun.

    Raises:
        BadInput: something in the configuration of one of them cannot be.
    """
    runs = planned([(*words, f"results.dir={state / 'runs'}") for words in combinations(words_of(overrides))])
    return [Job(run, _need(run)) for run in runs]


def _need(run: PlannedRun) -> float:
    from benchmarks.running.preflight import memory_need

    if run.config.device.type != "cuda":
        return float("inf")
    return memory_need(run.config, run.config.source, run.task).most


def device_memory(jobs: Sequence[Job]) -> float:
    """Bytes that are free on the campaign's device."""
    from policies.memory import free_memory

    return free_memory(jobs[0].run.config.device)[0]


def start(job: Job, state: Path) -> subprocess.Popen[bytes]:
    """Begin a run, or resume it; its output goes into a file of its own."""
    log = state / "logs" / f"{job.record.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    # Our packages and not what lies under their names in the working directory.
    here = str(Path(benchmarks.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    with log.open("ab") as stream:
        command = [sys.executable, "-P", "-m", "benchmarks", "run", *job.run.words]
        environment = {**os.environ, "PYTHONPATH": path}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment)


@dataclass(slots=True)
class Schedule:
    """Which runs are made now, and which come next."""

    waiting: list[Job]
    free: float
    """Bytes that the runs may share."""
    begin: Callable[[Job], Any]
    """Starts a run; what it returns is like `subprocess.Popen`."""
    say: Say
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def carry_out(self, until: float) -> None:
        """Make runs until all are done or the clock shows `until`; then tell the running ones to stop, and wait.

        No run overtakes another: one that does not fit beside the running ones waits, and so does all behind it.
        """
        running: list[tuple[Job, Any, float]] = []
        try:
            while (self.waiting or running) and self.clock() < until:
                running = [entry for entry in running if not self._over(*entry)]
                while self.waiting and self._fits(self.waiting[0], running):
                    job = self.waiting.pop(0)
                    self.say(f"begin {job.title}")
                    running.append((job, self.begin(job), self.clock()))
                self.sleep(POLL_S)
        finally:
            for _, process, _ in running:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
            for job, process, began in running:
                try:
                    process.wait(GRACE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                self._over(job, process, began)

    def _fits(self, job: Job, running: Sequence[tuple[Job, Any, float]]) -> bool:
        return not running or job.need + sum(other.need for other, _, _ in running) <= self.free

    def _over(self, job: Job, process: Any, began: float) -> bool:
        if process.poll() is None:
            return False
        self.say(f"end {job.title}: {ending(job.record, process)} after {duration(self.clock() - began)}")
        return True


def ending(record: Record, process: Any) -> str:
    """How a run's process ended, and why."""
    status = record.status
    if status == "failed":
        return f"failed ({error_of(record)})"
    if status in ("complete", "interrupted"):
        return status if status == "complete" else INTERRUPTED
    cut = "killed" if process.returncode == -signal.SIGKILL else "ended without a word"
    return f"{cut}, to be resumed; its output is in logs/{record.name}.txt"


def error_of(record: Record) -> str:
    """The last line of a failed run's error."""
    try:
        lines = (record.folder / "error.txt").read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return "no reason on record"
    return one_line(next((line for line in reversed(lines) if line.strip()), ""))[:200]


def campaign(overrides: Sequence[str], state: Path, allowed: float | None, say: Say, *, dry_run: bool = False) -> int:
    """Carry a campaign on for so many seconds, or to its end, and write the report and the claims of what is there.

    Args:
        overrides: its words.
        state: folder of records, logs and report.
        allowed: seconds; None: as long as it takes.
        say: takes a line for the user.
        dry_run: list the runs with their states and stop.

    Returns:
        Exit code: 0, or 1 where a run failed.

    Raises:
        BadInput: something in its configuration cannot be, or another process is at it.
    """
    from filelock import FileLock, Timeout

    require(not ranks.started_together(), "a campaign starts processes of its own; start it without the launcher")
    began = time.monotonic()
    until = float("inf") if allowed is None else began + allowed - STOPPING_S
    if dry_run:
        jobs = jobs_of(overrides, state)
        for job in jobs:
            say(f"{job.record.status or 'not begun':12} {job.title}")
        say(_standing(jobs, state))
        return 0
    state.mkdir(parents=True, exist_ok=True)
    try:
        # SIGTERM counts as Ctrl-C: whoever ends the campaign must not leave its runs behind.
        with FileLock(state / ".lock", timeout=0), stoppable():
            jobs = jobs_of(overrides, state)
            left = [job for job in jobs if not job.complete]
            say(_standing(jobs, state))
            if left:
                schedule = Schedule(left.copy(), device_memory(left), lambda job: start(job, state), say)
                schedule.carry_out(until)
            return conclude(jobs, state, say)
    except Timeout:
        raise BadInput(f"--state {state}: another campaign is at work there; wait, or use another state") from None


def _standing(jobs: Sequence[Job], state: Path) -> str:
    config = jobs[0].run.config
    policy = f"policy {config.policy.name} ({config.source.label}), budget {config.budget.name}"
    return f"campaign: {sum(job.complete for job in jobs)} of {len(jobs)} runs complete; {policy}; state in {state}"


def conclude(jobs: Sequence[Job], state: Path, say: Say) -> int:
    """Report and claims of what is complete, and what is left. Exit code 1 where a run failed."""
    from rich.console import Console

    from benchmarks.analysis.claims import answer, load_claims, render
    from benchmarks.analysis.experiments import read_experiments
    from benchmarks.records.reading import say_set_aside
    from benchmarks.report.page import report

    complete = [job for job in jobs if job.complete]
    failed = [job for job in jobs if job.record.status == "failed"]
    if complete:
        config = jobs[0].run.config
        experiments, aside = read_experiments(state / "runs")
        say_set_aside(aside)
        answers = [answer(claim, experiments, config.policy.name, config.budget.name) for claim in load_claims()]
        render(answers, "text", Console())
        say(report(state / "runs", state / "report.html"))
    for job in failed:
        say(f"failed: {job.title} ({error_of(job.record)}); {job.record.folder / 'error.txt'}")
    left = len(jobs) - len(complete)
    say(f"campaign: {len(complete)} of {len(jobs)} runs complete{'; the same command resumes' if left else ''}")
    return int(bool(failed))
