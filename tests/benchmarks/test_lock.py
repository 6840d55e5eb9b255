"""Who may work on a run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.resume.lock import EXPIRED_S, FOLDER, Held, held, holder
from tasks.errors import BadInput, RunFailed

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
    file = folder / FOLDER / "run.json"
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
    assert (tmp_path / FOLDER / "run.json").exists()
    with held(tmp_path, "run"):
        pass
    assert holder(tmp_path, "run") is None


def test_who_has_let_a_run_go_says_nothing_any_more(tmp_path: Path) -> None:
    with held(tmp_path, "run"), held(tmp_path, "another run"):
        assert len(list((tmp_path / FOLDER).glob("*.json"))) == 2
    assert list((tmp_path / FOLDER).glob("*.json")) == []


def test_locks_that_are_links_are_written_to_by_nobody(tmp_path: Path) -> None:
    treasure = tmp_path / "treasure"
    treasure.write_text("gold")
    folder = tmp_path / "runs"
    (folder / FOLDER).mkdir(parents=True)
    (folder / FOLDER / "a.lock").symlink_to(treasure)
    with pytest.raises(BadInput, match=r"a\.lock cannot be locked"), held(folder, "a"):
        pass
    (folder / FOLDER / "b.json").symlink_to(treasure)
    with held(folder, "b"):
        pass
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / FOLDER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="is a symbolic link"), held(tmp_path / "other", "c"):
        pass
    assert treasure.read_text() == "gold"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_lock_that_was_removed_is_named_and_its_release_is_no_failure(tmp_path: Path) -> None:
    with held(tmp_path, "run") as lock:
        shutil.rmtree(tmp_path / FOLDER)
        with pytest.raises(RunFailed, match="was removed"):
            lock.must_be_held()


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
    file = tmp_path / FOLDER / "run.json"
    when = file.stat().st_mtime
    file.write_text(content)
    os.utime(file, (when, when))
    with held(tmp_path, "run"):
        pass
