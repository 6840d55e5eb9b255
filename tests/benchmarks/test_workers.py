"""A sweep in several processes that is ended: its runs are put on record as interrupted, and nobody works on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from broken_off import SMALL
from idle import __file__ as IDLE

from benchmarks.records.record import records
from benchmarks.resume.lock import holders
from benchmarks.resume.state import StateStore

pytestmark = pytest.mark.slow
PATIENCE_S = 240.0
"""For what takes seconds on a quiet machine."""
SWEEP = (*SMALL, f"+algo={IDLE}:Idle", "budget.updates=100000", "seed=0,1,2", "task.max_turns=1")
INTERRUPTED = {"0": "interrupted", "1": "interrupted"}
"""By seed; the third run was not begun."""


def by_seed(folder: Path) -> dict[str, str | None]:
    return {record.name.split("-s")[-1].partition("-")[0]: record.status for record in records(folder)}


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def updates_saved(folder: Path) -> int:
    """Runs that have saved an update."""
    return sum(log.stat().st_size > 0 for log in folder.glob("*/state/log.jsonl"))


@contextmanager
def two_at_work(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A sweep of three runs, two of which go on and have saved an update, and the processes below it."""
    command = [sys.executable, "-m", "benchmarks", "run", "-m", *SWEEP, *words, f"results.dir={folder}"]
    launching = ["launcher=joblib", "hydra.launcher.n_jobs=2"]
    process = subprocess.Popen([*command, *launching], stderr=subprocess.PIPE, text=True, start_new_session=True)
    below: list[psutil.Process] = []
    try:
        until(lambda: process.poll() is not None or updates_saved(folder) == 2)
        below = psutil.Process(process.pid).children(recursive=True)
        assert holders(folder) <= {each.pid for each in below}
        yield process, below
    finally:
        for each in (process, *below):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.communicate()


def gone(processes: list[psutil.Process]) -> bool:
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


@pytest.mark.parametrize("tell", [lambda pid: os.killpg(pid, signal.SIGINT), lambda pid: os.kill(pid, signal.SIGTERM)])
def test_ctrl_c_and_sigterm_end_every_run_in_good_order(tell: Callable[[int], None], tmp_path: Path) -> None:
    with two_at_work(tmp_path) as (process, below):
        tell(process.pid)
        said = process.communicate(timeout=PATIENCE_S)[1]
        assert process.returncode == 130
        assert by_seed(tmp_path) == INTERRUPTED
        assert "stopping 2 runs" in said
        assert "sweep: 0 of 3 runs complete" in said
        assert said.count("\ninterrupted: ") == 2
        assert said.count("\nnot run: ") == 1
        assert "Traceback" not in said
        until(lambda: gone(below))
    assert all(StateStore(record.folder).newest() for record in records(tmp_path))


def test_a_second_ctrl_c_does_not_wait_for_workers_that_do_not_listen(tmp_path: Path) -> None:
    with two_at_work(tmp_path, "algo.deaf=true") as (process, below):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(2)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=PATIENCE_S)[1]
        assert process.returncode == 130
        assert by_seed(tmp_path) == {"0": "running", "1": "running"}
        assert "the same command resumes" in said
        until(lambda: gone(below))


def test_a_worker_that_is_killed_ends_the_sweep_and_the_sweep_says_what_is_left(tmp_path: Path) -> None:
    with two_at_work(tmp_path) as (process, below):
        os.kill(min(holders(tmp_path)), signal.SIGKILL)
        said = process.communicate(timeout=PATIENCE_S)[1]
        assert process.returncode == 1
        assert "sweep: 0 of 3 runs complete" in said
        assert "SIGKILL" in said
        until(lambda: gone(below))


def test_the_workers_of_a_sweep_that_was_killed_end_their_runs_and_themselves(tmp_path: Path) -> None:
    with two_at_work(tmp_path) as (process, below):
        process.kill()
        until(lambda: gone(below))
    assert by_seed(tmp_path) == INTERRUPTED
