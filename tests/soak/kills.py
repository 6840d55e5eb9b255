"""Kill runs again and again, and say what was lost: `make soak`, or `python tests/soak/kills.py [--algorithms a,b]`.

For each algorithm a whole run is the measure. The same run is then killed (SIGKILL) at random moments, gone on with by
the same command, killed again, and so on; and in a second round at every single fsync and rename that an attempt makes,
once before and once after the call. What is counted: updates whose `step` had returned when the process was killed and
that the next attempt did not have (lost), and runs whose tables, costs or weights differ from the whole run's.

Attempts are forks of one process that has imported everything, so that most of their time can be hit by a kill.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from broken_off import configured, outcome, run_on

from benchmarks.record import Record

GAME = ("task.max_turns=2", "task.max_action_tokens=40", "budget.checkpoints=3")
ALGORITHMS: dict[str, tuple[str, ...]] = {
    "base": ("+algo=base",),
    "grpo": ("+algo=grpo", "budget.updates=10"),
    "dr_grpo": ("+algo=dr_grpo", "budget.updates=10"),
    "gdpo": ("+algo=gdpo", "budget.updates=10"),
    "rft": ("+algo=rft", "budget.updates=10"),
    "vector_grpo": ("+algo=vector_grpo", "algo.baseline=heads", "budget.updates=10"),
    "feedback_grpo": ("+algo=feedback_grpo", "algo.mode=refine", "algo.shuffled=true", "budget.updates=10"),
    "fork_grpo": ("+algo=fork_grpo", "batch.group_size=3", "budget.updates=10"),
    "gepa": ("+algo=gepa", "algo.valset_size=8", "algo.minibatch_size=3", "budget.updates=25", "budget.rollouts=9999"),
}
CALLS = ("fsync", "replace")


@dataclass
class Tally:
    """What happened to one algorithm."""

    algorithm: str
    random_kills: int = 0
    call_kills: int = 0
    runs: int = 0
    lost: int = 0
    different: int = 0
    seconds: float = 0.0


class Attempt:
    """A fork that runs one configuration; it reports every update that it has closed, and what it went on from."""

    def __init__(self, folder: Path, words: Sequence[str], fatal_call: tuple[int, bool] | None = None) -> None:
        reading, writing = os.pipe()
        self.reports = reading
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            code = 1
            try:
                report_to(writing)
                if fatal_call:
                    die_at(*fatal_call)
                run_on(folder, *words)
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)

    def kill_after(self, seconds: float) -> bool:
        """Whether it was still alive then."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return self._ended(status)
            time.sleep(0.002)
        os.kill(self.pid, signal.SIGKILL)
        return self._ended(os.waitpid(self.pid, 0)[1])

    def wait(self) -> bool:
        """Whether it was killed."""
        return self._ended(os.waitpid(self.pid, 0)[1])

    def _ended(self, status: int) -> bool:
        with os.fdopen(self.reports, "rb") as stream:
            lines = [json.loads(line) for line in stream.read().splitlines()]
        self.went_on_from = next((line["from"] for line in lines if "from" in line), None)
        self.closed = max((line["closed"] for line in lines if "closed" in line), default=0)
        if os.WIFSIGNALED(status):
            return True
        if os.WEXITSTATUS(status):
            raise SystemExit("an attempt failed by itself; its traceback is above")
        return False


def report_to(pipe: int) -> None:
    """Write a line where a session has been made, and where an update is closed."""
    from benchmarks.session import RunSession

    begin, step = RunSession.begin, RunSession.step

    def say(about: dict[str, Any]) -> None:
        os.write(pipe, json.dumps(about).encode() + b"\n")

    def begins(self: RunSession) -> None:
        say({"from": len(self.ledger.rows)})
        begin(self)

    def steps(self: RunSession, metrics: Any) -> None:
        step(self, metrics)
        say({"closed": len(self.ledger.rows)})

    RunSession.begin, RunSession.step = begins, steps  # type: ignore[method-assign]


def die_at(number: int, after: bool) -> None:
    """Kill this process at its n-th fsync or rename, before or after the call."""
    calls = 0

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            mine = calls
            if mine == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            found = call(*args, **kwargs)
            if mine == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return wrapped

    for name in CALLS:
        setattr(os, name, deadly(getattr(os, name)))


def soak(algorithm: str, kills: int, folder: Path, seed: int) -> Tally:
    """Both rounds of one algorithm."""
    began = time.monotonic()
    words = (*GAME, *ALGORITHMS[algorithm])
    tally, rng = Tally(algorithm), random.Random(f"{seed} {algorithm}")
    whole = Attempt(folder / "whole", words)
    started = time.monotonic()
    whole.wait()
    took = time.monotonic() - started
    measure = outcome(record_of(folder / "whole", words))

    def at_random(_: int) -> Callable[[Attempt], bool]:
        return lambda attempt: attempt.kill_after(rng.uniform(0, 0.6 * took))

    while tally.random_kills < kills:
        tally.random_kills += break_off(folder, words, tally, measure, lambda _: None, at_random)
    for after in (False, True):
        tally.call_kills += break_off(
            folder, words, tally, measure, lambda n, after=after: (n, after), lambda _: Attempt.wait
        )
    tally.seconds = time.monotonic() - began
    return tally


def break_off(
    folder: Path,
    words: Sequence[str],
    tally: Tally,
    measure: dict[str, Any],
    fatal: Callable[[int], tuple[int, bool] | None],
    ending: Callable[[int], Callable[[Attempt], bool]],
) -> int:
    """One run in as many attempts as it takes. Returns the kills."""
    place = Path(tempfile.mkdtemp(dir=folder))
    closed = number = 0
    while True:
        number += 1
        attempt = Attempt(place, words, fatal(number))
        killed = ending(number)(attempt)
        if attempt.went_on_from is not None:
            tally.lost += max(0, closed - attempt.went_on_from)
        closed = max(closed, attempt.closed)
        if not killed:
            break
    tally.runs += 1
    found = outcome(record_of(place, words))
    if found != measure:
        tally.different += 1
        print(f"{tally.algorithm}: {place} differs in {[key for key in measure if found.get(key) != measure[key]]}")
    elif list((record_of(place, words).folder).glob(".*")) or (record_of(place, words).folder / "state").exists():
        tally.different += 1
        print(f"{tally.algorithm}: {place} left files behind")
    else:
        shutil.rmtree(place)
    return number - 1


def record_of(folder: Path, words: Sequence[str]) -> Record:
    """The record of a configuration."""
    config = configured(folder, *words)
    return Record(folder / config.run_name(config.task_class(config.task).fingerprint()))


def main() -> int:
    """Returns 1 where anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--algorithms", default=",".join(ALGORITHMS))
    parser.add_argument("--kills", type=int, default=20, help="at random moments, at least")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    for module in ("gepa.api", "algorithms.trainer_state", "algorithms.trainer", "benchmarks.table"):
        importlib.import_module(module)
    import torch

    torch.set_num_threads(1)
    names = given.algorithms.split(",")
    with tempfile.TemporaryDirectory(prefix="grpo-bench-soak-") as folder:
        jobs = [(name, given.kills, Path(folder) / name, given.seed) for name in names]
        for _, _, place, _ in jobs:
            place.mkdir()
        # Not a pool: its workers may not have children.
        tallies = []
        with multiprocessing.get_context("fork").Manager() as manager:
            queue, results = manager.Queue(), manager.Queue()
            for job in jobs:
                queue.put(job)
            workers = [
                multiprocessing.get_context("fork").Process(target=work, args=(queue, results))
                for _ in range(given.processes)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            while not results.empty():
                tallies.append(results.get())
    tallies.sort(key=lambda tally: names.index(tally.algorithm))
    print(
        f"{'algorithm':14} {'random kills':>12} {'at fsync/rename':>15} {'runs':>5} {'updates lost':>12} {'differ':>6}"
    )
    for each in tallies:
        print(
            f"{each.algorithm:14} {each.random_kills:12} {each.call_kills:15} {each.runs:5} {each.lost:12} "
            f"{each.different:6}   {each.seconds:.0f} s"
        )
    whole = len(tallies) == len(names) and not any(each.lost or each.different for each in tallies)
    return 0 if whole else 1


def work(queue: Any, results: Any) -> None:
    """Soak one algorithm after the other."""
    while not queue.empty():
        results.put(soak(*queue.get()))


if __name__ == "__main__":
    sys.exit(main())
