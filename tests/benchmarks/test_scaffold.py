"""`new algo NAME` writes a project that works as it is, and refuses what could not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.checking.scaffold import new_algorithm
from tasks.errors import BadInput


def python(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_test_of_a_new_algorithm_passes_as_written(tmp_path: Path) -> None:
    made = python("benchmarks", "new", "algo", "leave_one_out", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    assert sorted(made.stdout.split()) == [
        "leave_one_out/leave_one_out.py",
        "leave_one_out/pyproject.toml",
        "leave_one_out/tests/test_leave_one_out.py",
    ]
    tested = python("pytest", "-q", folder=tmp_path / "leave_one_out")
    assert tested.returncode == 0, tested.stdout
    assert "2 passed" in tested.stdout


@pytest.mark.slow
def test_its_test_fails_when_the_algorithm_is_broken(tmp_path: Path) -> None:
    module, *_ = new_algorithm("leave_one_out", tmp_path)
    module.write_text(module.read_text().replace(".flatten()", ""))
    tested = python("pytest", "-q", folder=tmp_path / "leave_one_out")
    assert tested.returncode == 1
    assert "advantages: credit returned shape (2, 4)" in tested.stdout


def test_a_new_algorithm_is_clean_to_the_linter(tmp_path: Path) -> None:
    new_algorithm("leave_one_out", tmp_path)
    for command in (["check", "--select", "E,F,W,I,B,UP,SIM"], ["format", "--check"]):
        done = python("ruff", *command, "--isolated", "--line-length", "120", ".", folder=tmp_path / "leave_one_out")
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["", "Mine", "my-algo", "1st", "../x", "a b", "class", "grpo", "torch", "x" * 41])
def test_a_bad_or_taken_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        new_algorithm(name, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    module, *_ = new_algorithm("leave_one_out", tmp_path)
    module.write_text("# mine now\n")
    with pytest.raises(BadInput, match="already"):
        new_algorithm("leave_one_out", tmp_path)
    assert module.read_text() == "# mine now\n"


@pytest.mark.parametrize("words", [["task", "mine"], ["algo", "My-Algo"], ["algo", "fine", "--dir", "/proc/nowhere"]])
def test_a_wrong_request_is_one_line_and_exit_code_2(words: list[str], tmp_path: Path) -> None:
    done = python("benchmarks", "new", *words, folder=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
