"""What results/published holds: every table and claim is what the committed records say, read by the product itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.cli import app

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "results/published"
FOLDERS = sorted(PUBLISHED.iterdir()) if PUBLISHED.is_dir() else []
"""A folder for each policy and budget, named after them."""

each = pytest.mark.parametrize("published", FOLDERS, ids=lambda path: path.name)


@each
@pytest.mark.parametrize(("form", "ending"), [("csv", "csv"), ("markdown", "md")])
def test_the_table_is_what_the_records_say(published: Path, form: str, ending: str) -> None:
    said = CliRunner().invoke(app, ["table", "--runs", str(published / "records"), "--format", form])
    assert said.exit_code == 0
    assert said.output == (published / f"table.{ending}").read_text()


@each
def test_every_record_says_which_code_weights_and_seed_made_it(published: Path) -> None:
    commits = set()
    for folder in (published / "records").iterdir():
        about = json.loads((folder / "manifest.json").read_text())
        assert re.fullmatch(r"[0-9a-f]{40}", about["git_commit"])
        commits.add(about["git_commit"])
        assert about["git_dirty"] is False
        assert about["policy_state"]
        assert not re.search(r"/(tmp|work|root|home)/", (folder / "manifest.json").read_text())
    assert len(commits) == 1


@each
def test_the_readme_quotes_the_table(published: Path) -> None:
    rows = (published / "table.md").read_text().splitlines()[2:]
    quoted = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| ") and "%" in line]
    assert f"](results/published/{published.name})" in (ROOT / "README.md").read_text()
    assert set(quoted) <= {*rows, *(line for line in quoted if "[95" in line)}
