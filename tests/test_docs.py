"""docs/add-an-algorithm.md from top to bottom, as a stranger would follow it: outside the repository, as it is written.

`pip install` goes into a folder of its own instead of this environment; nothing else is changed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/add-an-algorithm.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, flags=re.DOTALL)


@dataclass
class Reader:
    """Somebody who does what the page says, block by block."""

    folder: Path
    said: dict[str, str] = field(default_factory=dict)
    """What each command printed."""

    def follow(self, language: str, block: str) -> None:
        if language == "python":
            (self.folder / block.splitlines()[0].removeprefix("# ")).write_text(block)
            return
        for line in block.splitlines():
            self.said[line] = self.run(shlex.split(line, comments=True))

    def run(self, words: list[str]) -> str:
        site = self.folder / "site"
        if words[:2] == ["pip", "install"]:
            words = ["python", "-m", *words, "--no-build-isolation", "--no-index", "--quiet", f"--target={site}"]
        assert words[0] == "python", words
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    one = Reader(tmp_path_factory.mktemp("stranger"))
    for language, block in BLOCKS:
        one.follow(language, block)
    return one


def test_every_block_of_the_page_is_one_that_this_test_runs() -> None:
    assert {language for language, _ in BLOCKS} == {"console", "python"}
    assert len(BLOCKS) >= 8
    assert PAGE.count("```") == 2 * len(BLOCKS)


@pytest.mark.slow
def test_the_page_works_from_top_to_bottom(reader: Reader) -> None:
    assert len(reader.said) == sum(len(block.splitlines()) for language, block in BLOCKS if language == "console")


@pytest.mark.slow
def test_the_installed_plugin_is_listed_with_its_package(reader: Reader) -> None:
    assert re.search(
        r"ranked +package grpo-bench-ranked 0\.1\.0 \(ranked:Ranked\)", reader.said["python -m benchmarks list"]
    )


@pytest.mark.slow
def test_the_plugin_shows_in_the_table_beside_ours(reader: Reader) -> None:
    table = reader.said["python -m benchmarks table"]
    assert re.search(r"^ranked +1 ", table, re.MULTILINE)
    assert re.search(r"^grpo +1 ", table, re.MULTILINE)
    assert re.search(r"^ranked\.Ranked +1 ", table, re.MULTILINE), "the run from the file, before it was installed"


@pytest.mark.slow
def test_the_record_says_which_plugin_it_was(reader: Reader) -> None:
    summaries = [path.parent for path in (reader.folder / "results/runs").glob("ranked-wordle-tiny-*/summary.json")]
    (record,) = summaries
    assert json.loads((record / "summary.json").read_text())["algo"] == "ranked"
    assert "package grpo-bench-ranked 0.1.0" in (record / "config.json").read_text()


def test_every_path_that_the_page_links_exists() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
