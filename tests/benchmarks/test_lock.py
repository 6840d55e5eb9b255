"""Who may work on a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.resume.lock import EXPIRED_S, FOLDER, Held, held, holder
from tasks.errors import RunFailed

HOLD = """
import sys, time
from pathlib import Path
from benchmarks.resume.lock import held
with held(Path(sys.argv[1]), "run"):
    print("held", flush=True)
    time.sleep(60)
"""


def other_host(folder: Path, silent_s: float) -> None:
    """A lock that another host has left, or holds."""
    file = folder / FOLDER / "run"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"host": "another", "pid": 7, "token": "x"}))
    when = time.time() - silent_s
    os.utime(file, (when, when))


def test_a_run_that_another_process_holds_is_not_to_be_had_until_that_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(Held, match=f"process {process.pid} on "), held(tmp_path, "run"):
            pass
        assert str(process.pid) in (holder(tmp_path, "run") or "")
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / FOLDER / "run").exists()
    with held(tmp_path, "run"):
        pass
    assert holder(tmp_path, "run") is None


def test_nothing_of_a_lock_is_left_behind(tmp_path: Path) -> None:
    with held(tmp_path, "run"), held(tmp_path, "another run"):
        pass
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_lock_of_another_host_counts_until_it_has_been_silent_for_ten_minutes(tmp_path: Path) -> None:
    other_host(tmp_path, EXPIRED_S - 60)
    with pytest.raises(Held, match="process 7 on another"), held(tmp_path, "run"):
        pass
    other_host(tmp_path, EXPIRED_S + 60)
    with held(tmp_path, "run"):
        pass


def test_who_stood_still_until_another_host_took_the_run_must_not_go_on(tmp_path: Path) -> None:
    with held(tmp_path, "run") as lock:
        lock.must_be_held()
        other_host(tmp_path, 0)
        with pytest.raises(RunFailed, match="process 7 on another has taken this run"):
            lock.must_be_held()


@pytest.mark.parametrize("content", ["", "junk", "[]", "{}", '{"host": 1}'])
def test_a_lock_that_says_nothing_sensible_does_not_hold_for_ever(tmp_path: Path, content: str) -> None:
    other_host(tmp_path, EXPIRED_S + 60)
    file = tmp_path / FOLDER / "run"
    when = file.stat().st_mtime
    file.write_text(content)
    os.utime(file, (when, when))
    with held(tmp_path, "run"):
        pass
