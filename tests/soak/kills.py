"""Break runs off again and again, and count what is lost; `soak.py` calls it.

For each algorithm a whole run is the measure. The same run is then broken off and gone on with by the same command,
round by round:

    random   killed (SIGKILL) at random moments, at least `--kills` times
    calls    killed at every single fsync and rename that an attempt makes: before the call, and in another run after it
    damage   killed at random moments, and a byte of the newest state is changed each time
    full     on a file system of its own that is too small for the states, and then made larger (as root only)

Counted are updates whose `step` had returned when the process was killed and that the next attempt did not have (not in
the round `damage`, which takes the last one away itself), and the bytes of tables, costs and weights that differ from
the whole run's in the end. Attempts are forks of one process that has imported everything, so that most of their time
can be hit.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from broken_off import configured, outcome, run_on

from benchmarks.records.record import Record

GAME = ("task.max_turns=2", "task.max_action_tokens=40", "batch.problems=1", "budget.checkpoints=3")
ALGORITHMS: dict[str, tuple[str, ...]] = {
    "base": ("+algo=base",),
    "grpo": ("+algo=grpo", "budget.updates=8"),
    "dr_grpo": ("+algo=dr_grpo", "budget.updates=8"),
    "gdpo": ("+algo=gdpo", "budget.updates=8"),
    "rft": ("+algo=rft", "budget.updates=8"),
    "vector_grpo": ("+algo=vector_grpo", "algo.baseline=heads", "budget.updates=8"),
    "feedback_grpo": (
        "+algo=feedback_grpo",
        "algo.mode=refine",
        "algo.shuffled=true",
        "algo.problems_per_update=2",
        "budget.updates=8",
    ),
    "fork_grpo": ("+algo=fork_grpo", "batch.group_size=3", "budget.updates=8"),
    "gepa": ("+algo=gepa", "algo.valset_size=8", "algo.minibatch_size=3", "budget.updates=20", "budget.rollouts=9999"),
}


@dataclass
class Tally:
    """What happened to one algorithm, or to one other kind of victim."""

    name: str
    faults: dict[str, int] = field(default_factory=dict)
    """How many of each kind."""
    survived: int = 0
    """Faults in runs that went on to the end that they would have had."""
    updates_lost: int = 0
    bytes_lost: int = 0

    def count(self, kind: str, faults: int, *, survived: bool) -> None:
        """Enter the faults of one run."""
        if faults:
            self.faults[kind] = self.faults.get(kind, 0) + faults
        self.survived += faults * survived


class Attempt:
    """A fork that runs one configuration, and reports what it goes on from and every update that it has closed."""

    def __init__(self, folder: Path, words: Sequence[str], fatal_call: tuple[int, bool] | None = None) -> None:
        self.reports, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                report_to(writing)
                if fatal_call:
                    die_at(*fatal_call)
                run_on(folder, *words)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)
        self.went_on_from: int | None = None
        self.closed = 0

    def killed_after(self, seconds: float) -> bool:
        """Kill it then, unless it has ended by itself. Whether it was killed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return self._ended(status)
            time.sleep(0.005)
        os.kill(self.pid, signal.SIGKILL)
        return self.killed()

    def killed(self) -> bool:
        """Whether it was killed in the end.

        Raises:
            SystemExit: it failed.
        """
        return self._ended(os.waitpid(self.pid, 0)[1])

    def _ended(self, status: int) -> bool:
        with os.fdopen(self.reports, "rb") as stream:
            for line in map(json.loads, stream.read().splitlines()):
                self.went_on_from = line.get("from", self.went_on_from)
                self.closed = line.get("closed", self.closed)
        if os.WIFSIGNALED(status):
            return True
        if os.WEXITSTATUS(status):
            raise SystemExit("an attempt failed by itself; its traceback is above")
        return False


def report_to(pipe: int) -> None:
    """Write a line where a session begins, and where an update is closed."""
    from benchmarks.running.session import RunSession

    begin, step = RunSession.begin, RunSession.step

    def say(**about: int) -> None:
        os.write(pipe, json.dumps(about).encode() + b"\n")

    def begins(self: RunSession) -> None:
        say(**{"from": len(self.ledger.rows)})
        begin(self)

    def steps(self: RunSession, metrics: Any) -> None:
        step(self, metrics)
        say(closed=len(self.ledger.rows))

    RunSession.begin, RunSession.step = begins, steps  # type: ignore[method-assign]


def die_at(number: int, after: bool) -> None:
    """Kill this process at its n-th fsync or rename, before the call or after it."""
    calls = 0

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            mine = calls == number
            if mine and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            found = call(*args, **kwargs)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return wrapped

    for name in ("fsync", "replace", "rename"):
        setattr(os, name, deadly(getattr(os, name)))


class Soak:
    """All rounds of one algorithm."""

    def __init__(self, algorithm: str, folder: Path, seed: int) -> None:
        self.words = (*GAME, *ALGORITHMS[algorithm])
        self.folder, self.tally = folder, Tally(algorithm)
        self.rng = random.Random(f"{seed} {algorithm}")
        began = time.monotonic()
        whole = Attempt(folder / "whole", self.words)
        whole.killed()
        self.took_s, self.updates = time.monotonic() - began, whole.closed
        self.measure = outcome(self.record(folder / "whole"))

    def record(self, place: Path) -> Record:
        """The record of the run in a folder."""
        config = configured(place, *self.words)
        return Record(place / config.run_name(config.task_class(config.task).fingerprint()))

    def all_rounds(self, kills: int) -> Tally:
        """Break off what there is to break off."""
        while self.tally.faults.get("killed at random", 0) < kills:
            self.break_off("killed at random", lambda attempt: attempt.killed_after(self.moment()))
        for after in (False, True):
            self.break_off("killed at fsync or rename", Attempt.killed, lambda number, after=after: (number, after))
        self.damage()
        self.fill_disk()
        return self.tally

    def moment(self) -> float:
        """A random moment of an attempt, in seconds from its start."""
        return self.rng.uniform(0, 0.6 * self.took_s)

    def break_off(
        self,
        kind: str,
        killed: Callable[[Attempt], bool],
        fatal: Callable[[int], tuple[int, bool] | None] = lambda number: None,
    ) -> None:
        """One run, in as many attempts as it takes."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        kills = closed = lost = 0
        while True:
            attempt = Attempt(place, self.words, fatal(kills + 1))
            ended = not killed(attempt)
            if attempt.went_on_from is not None:
                lost += max(0, closed - attempt.went_on_from)
            closed = max(closed, attempt.closed)
            if ended:
                break
            kills += 1
        self.tally.updates_lost += lost
        self.tally.count(kind, kills, survived=self.same(place) and not lost)

    def damage(self, times: int = 5) -> None:
        """One run, killed at random, whose newest state is damaged each time."""
        place, damaged = Path(tempfile.mkdtemp(dir=self.folder)), 0
        while damaged < times and Attempt(place, self.words).killed_after(self.took_s * 0.3 + self.moment()):
            states = sorted(
                (self.record(place).folder / "state").glob("*.safetensors"), key=lambda p: p.stat().st_mtime
            )
            if states:
                content = bytearray(states[-1].read_bytes())
                content[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)
                states[-1].write_bytes(content)
                damaged += 1
        Attempt(place, self.words).killed()
        self.tally.count("newest state damaged", damaged, survived=self.same(place))

    def fill_disk(self) -> None:
        """One run on a file system of 20 MB, which its states do not fit on, and then of 200."""
        if os.geteuid() or not self.updates or self.tally.name == "gepa":
            return
        place = Path(tempfile.mkdtemp(dir=self.folder))
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", place], capture_output=True).returncode:
            return
        try:
            small = Attempt(place, self.words)
            try:
                small.killed()
            except SystemExit:
                said = (self.record(place).folder / "error.txt").read_text()
                if "No space left on device; the state after update" not in said:
                    raise
            subprocess.run(["mount", "-o", "remount,size=200m", place], check=True)
            Attempt(place, self.words).killed()
            self.tally.count("disk full", 1, survived=self.same(place))
        finally:
            subprocess.run(["umount", place], check=True)

    def same(self, place: Path) -> bool:
        """Whether a run that has ended is the one that nothing disturbed."""
        record = self.record(place)
        lost, wrong = difference(record, self.measure)
        self.tally.bytes_lost += lost
        if wrong:
            print(f"{self.tally.name}: {place} is different in {', '.join(wrong)}", file=sys.stderr, flush=True)
        else:
            shutil.rmtree(record.folder)
        return not wrong


def difference(record: Record, measure: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Bytes of a record that are not as they should be, and in what."""
    found = outcome(record)
    wrong = [key for key in {*found, *measure} if found.get(key) != measure.get(key)]
    lost = sum(max(len(repr(found.get(key))), len(repr(measure.get(key)))) for key in wrong)
    left = [path.name for path in record.folder.iterdir() if path.name == "state" or path.name.startswith(".")]
    return lost, [*wrong, *left]
