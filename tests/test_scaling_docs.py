"""docs/scaling.md: its commands are carried out at budget=smoke where this machine can, and its numbers are true."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from record_factory import write_record
from test_launchers import FAKE_SLURM

from benchmarks.config.presets import presets
from benchmarks.config.schema import check_config, compose_config
from benchmarks.sweep.launch import about_runs, combinations, master_of
from benchmarks.sweep.launchers import refuse_missing
from tasks.errors import BadInput

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE, flags=re.DOTALL)
LOOP = next(block for block in BLOCKS if block.startswith("for "))
COPY = next(block for block in BLOCKS if "cp -r" in block)
ELSEWHERE = [block for block in BLOCKS if "torchrun" in block or "s3://" in block]
"""What test_several_processes.py and test_store*.py carry out."""
RUNS = [shlex.split(block)[3:] for block in BLOCKS if block.startswith("python -m benchmarks run")]
SMALLER = ("budget=smoke", "evaluate.test_problems=2", "evaluate.val_problems=2", "evaluate.greedy=false")


def inner(block: str) -> list[str]:
    """The command in a loop over `first`, for its first value."""
    (line,) = (line for line in block.splitlines() if "python" in line)
    return shlex.split(line.replace("$((first + 100))", "100").replace("$first", "0"))[3:]


def launcher(words: list[str]) -> str:
    return next((word.partition("=")[2] for word in words if word.startswith("launcher=")), "none")


def test_every_console_block_of_the_page_is_one_that_these_tests_are_about() -> None:
    assert len(RUNS) + len([LOOP, COPY]) + len(ELSEWHERE) == len(BLOCKS)
    assert len(ELSEWHERE) == 2
    assert [launcher(words) for words in RUNS] == ["none", "joblib", "ray", "slurm_local", "slurm"]
    assert launcher(inner(LOOP)) == "slurm"


@pytest.mark.parametrize("words", [*RUNS, inner(LOOP)], ids=launcher)
def test_every_run_of_the_page_is_one_that_the_program_takes(words: list[str]) -> None:
    overrides = about_runs([word for word in words[1:] if word not in ("--dry-run", "-m")])
    every = combinations(master_of([word for word in overrides if not word.startswith("hydra.")], None)[1])
    for each in (every[0], every[-1]):
        check_config(compose_config(each))
    counts = {"none": 1, "joblib": 6, "ray": 15, "slurm_local": 2, "slurm": 1000 if "range" in str(words) else 30}
    assert len(every) == counts[launcher(words)]


def test_the_commands_for_several_processes_and_for_stores_are_ones_that_the_program_takes() -> None:
    commands = [line for block in ELSEWHERE for line in block.splitlines() if "benchmarks run" in line]
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(command, comments=True)
        # s3fs may not be there, without which a bucket is refused.
        about = [word for word in words if "=" in word and not word.startswith("results.dir=s3:")]
        check_config(compose_config(combinations(master_of(about, None)[1])[0]))
        if "--config_file" in words:
            assert (ROOT / words[words.index("--config_file") + 1]).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("words", RUNS, ids=launcher)
def test_a_sweep_of_the_page_works_with_fewer_and_smaller_runs(words: list[str], tmp_path: Path) -> None:
    if "gpu=1500m_80gb" in words:
        pytest.skip("needs eight GPUs, Ray and a model hub; that the program takes it is tested above")
    try:
        for word in words:
            if word.startswith("launcher=") and word != "launcher=slurm":
                refuse_missing(word)
    except BadInput as missing:
        pytest.skip(str(missing))
    smaller = {"+algo": "+algo=base", "task": "task=wordle", "seed": "seed=0,1"} if "-m" in words else {}
    words = [smaller.get(word.partition("=")[0], word) for word in words if not word.startswith("budget=")]
    path = os.pathsep.join([str(FAKE_SLURM), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words, *SMALLER, "task.max_turns=1", f"results.dir={tmp_path}"],
        env={**os.environ, "PATH": path, "FAKE_SLURM": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert ("sweep: 2 of 2 runs complete" in done.stderr) == ("-m" in words)


def test_the_folders_of_two_workers_are_read_as_the_page_says(tmp_path: Path) -> None:
    for seed, worker in enumerate(("worker-a", "worker-b")):
        write_record(tmp_path / worker, seed=seed)
    python = f'python() {{ PYTHONPATH="{ROOT}" "{sys.executable}" "$@"; }}\n'
    done = subprocess.run(["bash", "-ec", python + COPY], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^grpo +2 ", done.stdout, re.MULTILINE), done.stdout


def test_the_page_names_every_launcher_and_what_installs_it() -> None:
    for name in presets("launcher"):
        assert re.search(rf"^\| {name} \|", PAGE, re.MULTILINE)
    for extra in re.findall(r"grpo-bench\[(\w+)\]", PAGE):
        assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text()


def test_every_path_that_the_page_links_exists() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
