"""A campaign: every algorithm on every task, seed by seed, in one command that may be broken off and goes on.

It is a sweep of ordinary runs with an order, a time limit and a scheduler: each run is a process of its own
(`python -m benchmarks run ...`) and leaves the usual record. All algorithms of a task and a seed come before the next
task, all tasks before the next seed, so that whenever it is stopped what is there can be compared. On a GPU as many
runs go side by side as fit by `policies.memory`'s formula; on a CPU one after the other.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.config.schema import RunConfig, check_config, compose_config
from benchmarks.records.record import Record
from benchmarks.resume.interruption import stoppable
from benchmarks.wording import duration
from policies import ranks
from policies.source import find_source
from tasks.api import Task
from tasks.errors import BadInput, require

DEFAULTS = {
    "+algo": "base,grpo,gdpo,rft,vector_grpo,feedback_grpo,gepa",
    "task": "wordle,wordle_turn,gsm8k",
    "seed": "0,1,2",
    "policy": "smollm2_135m",
    "warmstart": "sft",
    "budget": "campaign",
    "results.keep_policy": "false",
    "wordle.words": "classic",
    "wordle_turn.words": "classic",
}
"""What a campaign consists of unless its words say otherwise; `TASK.KEY=VALUE` is a setting of that task alone."""
SWEPT = ("seed", "task", "+algo")
"""From the outermost to the innermost loop. `base` stands first: it makes the warm start of its task."""
SPAN = re.compile(r"(\d+(?:\.\d+)?)([smh])")
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
STOPPING_S = 15.0
"""Before the end of a slice, in which runs that are told to stop save what they have."""
GRACE_S = 120.0
"""After which a run that was told to stop is killed; a killed run loses the update in flight as well."""
POLL_S = 0.5
Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a campaign."""

    words: tuple[str, ...]
    """Its overrides."""
    config: RunConfig
    record: Record
    need: float
    """Bytes of device memory that it needs at most, by formula; all there is on a CPU."""

    @property
    def title(self) -> str:
        """How the campaign speaks of it."""
        return f"{self.config.algo.name} {self.config.task.name} seed {self.config.seed}"

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
        require(readable, f"cannot read {word!r}; a campaign takes KEY=VALUE, --for and --state")
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
    tasks: dict[str, tuple[Task, str]] = {}
    jobs = []
    for words in combinations(words_of(overrides)):
        words = (*words, f"results.dir={state / 'runs'}")
        config = check_config(compose_config(words))
        key = repr(config.resolved["task"])
        if key not in tasks:
            task: Task = config.task_class(config.task)
            tasks[key] = (task, task.fingerprint())
        task, fingerprint = tasks[key]
        record = Record(config.results / config.run_name(fingerprint))
        jobs.append(Job(words, config, record, _need(config, task)))
    return jobs


def _need(config: RunConfig, task: Task) -> float:
    from benchmarks.running.preflight import memory_need
    from policies.devices import choose_device

    if choose_device(config.policy.device).type != "cuda":
        return float("inf")
    return memory_need(config, find_source(config.policy), task).most


def device_memory(jobs: Sequence[Job]) -> float:
    """Bytes that are free on the campaign's device."""
    from policies.devices import choose_device
    from policies.memory import free_memory

    return free_memory(choose_device(jobs[0].config.policy.device))[0]


def start(job: Job, state: Path) -> subprocess.Popen[bytes]:
    """Begin a run, or go on with it; what it says goes into a file of its own."""
    log = state / "logs" / f"{job.record.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        command = [sys.executable, "-m", "benchmarks", "run", *job.words]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)


@dataclass(slots=True)
class Schedule:
    """Which runs go on now, and which come next."""

    waiting: list[Job]
    free: float
    """Bytes that the runs may share."""
    begin: Callable[[Job], Any]
    """Starts a run; what it returns is like `subprocess.Popen`."""
    say: Say
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def carry_out(self, until: float) -> None:
        """Make runs until all are done or the clock shows `until`; then tell those that go on to stop, and wait.

        No run overtakes another: one that does not fit beside those that go on waits, and so does all behind it.
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
        status = job.record.status
        fate = "to be continued" if status in ("running", "interrupted") else status or "not begun"
        self.say(f"end {job.title}: {fate} after {duration(self.clock() - began)}")
        return True


def campaign(overrides: Sequence[str], state: Path, allowed: float | None, say: Say) -> int:
    """Carry a campaign on for so many seconds, or to its end, and write the report and the claims of what is there.

    Returns:
        Exit code: 0, or 1 where a run failed.

    Raises:
        BadInput: something in its configuration cannot be, or another process is at it.
    """
    from filelock import FileLock, Timeout

    require(not ranks.started_together(), "a campaign starts processes of its own; start it without the launcher")
    began = time.monotonic()
    until = float("inf") if allowed is None else began + allowed - STOPPING_S
    state.mkdir(parents=True, exist_ok=True)
    try:
        # SIGTERM counts as Ctrl-C: whoever ends the campaign must not leave its runs behind.
        with FileLock(state / ".lock", timeout=0), stoppable():
            jobs = jobs_of(overrides, state)
            left = [job for job in jobs if not job.complete]
            say(f"campaign: {len(jobs) - len(left)} of {len(jobs)} runs complete; state in {state}")
            if left:
                schedule = Schedule(left.copy(), device_memory(left), lambda job: start(job, state), say)
                schedule.carry_out(until)
            return conclude(jobs, state, say)
    except Timeout:
        raise BadInput(f"--state {state}: another campaign is at work there; wait, or use another state") from None


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
        config = jobs[0].config
        experiments, aside = read_experiments(state / "runs")
        say_set_aside(aside)
        answers = [answer(claim, experiments, config.policy.name, config.budget.name) for claim in load_claims()]
        render(answers, "text", Console())
        say(report(state / "runs", state / "report.html"))
    for job in failed:
        say(f"failed: {job.title}; its reason is in {job.record.folder / 'error.txt'}")
    left = len(jobs) - len(complete)
    say(f"campaign: {len(complete)} of {len(jobs)} runs complete{'; the same command goes on' if left else ''}")
    return int(bool(failed))
