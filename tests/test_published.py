"""What results/published says, and what the README says of it, against the records' own summaries."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
TINY, *OTHERS = sorted((ROOT / "results/published").iterdir(), key=lambda path: path.name != "tiny-quick")
"""A folder for each policy and budget, named after them."""
RESULTS = (ROOT / "README.md").read_text().split("\n## Results")[1].split("\n## ")[0]
PICTURE = re.compile(r"!\[[^\]]+\]\((results/published/[^)]+\.svg)\)")

each = pytest.mark.parametrize("published", [TINY, *OTHERS], ids=lambda path: path.name)


def rows_of(published: Path) -> list[dict[str, Any]]:
    """The table's rows."""
    with (published / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def own(published: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with the folder's policy and budget; growth with the horizon, say, was measured with another."""
    found = [row for row in rows if f"{row['policy']}-{row['budget']}" == published.name]
    assert found
    return found


def told(published: Path) -> str:
    """The part of the README's results that is about a folder."""
    (part,) = [part for part in RESULTS.split("\n### ") if f"](results/published/{published.name})" in part]
    return part


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


@each
def test_every_accuracy_in_the_table_is_the_mean_of_its_records(published: Path) -> None:
    found = defaultdict(list)
    for path in (published / "records").glob("*/summary.json"):
        summary = json.loads(path.read_text())
        found[summary["experiment"]].append(summary["accuracy_final"])
    rows = rows_of(published)
    assert {row["experiment"] for row in rows} == set(found)
    for row in rows:
        values = found[row["experiment"]]
        assert float(row["accuracy_final"]) == pytest.approx(sum(values) / len(values), abs=1e-9)


@each
def test_every_record_says_which_code_weights_and_seed_made_it(published: Path) -> None:
    commits = set()
    for folder in (published / "records").iterdir():
        about = json.loads((folder / "manifest.json").read_text())
        assert re.fullmatch(r"[0-9a-f]{40}", about["git_commit"])
        commits.add(about["git_commit"])
        assert about["git_dirty"] is False
        assert about["policy_state"]
        assert "samples.parquet" in json.loads((folder / "seal.json").read_text())["sha256"]
        assert not re.search(r"/(tmp|work|root|home)/", (folder / "manifest.json").read_text())
    assert len(commits) == 1


@each
def test_the_readme_quotes_the_table(published: Path) -> None:
    lines = (published / "table.md").read_text().splitlines()
    head = cells(lines[0])
    rows = own(published, [dict(zip(head, cells(line), strict=True)) for line in lines[2:]])
    wanted = {(row["task"], row["algo"], row["accuracy [95 %]"], row["gain [95 %]"], row["seeds"]) for row in rows}
    quoted = [
        cells(line)
        for line in told(published).splitlines()
        if line.startswith("| ") and "%" in line and "[95" not in line
    ]
    assert {(task.strip("`"), algo) for task, algo, *_ in quoted} == {(row["task"], row["algo"]) for row in rows}
    for task, algo, accuracy, gain, seeds in quoted:
        assert (task.strip("`"), algo, accuracy, gain, seeds) in wanted


@each
def test_pictures_are_small_and_show_every_algorithm_on_every_task(published: Path) -> None:
    rows = own(published, rows_of(published))
    names = {row["algo"] for row in rows} | {row["task"] for row in rows}
    for picture in ("gains.svg", "progress.svg"):
        content = (published / picture).read_text(encoding="utf-8")
        assert len(content) < 150_000
        shown = {text.strip() for text in ElementTree.fromstring(content).itertext()}
        assert names <= shown


def test_the_readme_shows_both_pictures_of_tiny() -> None:
    pictures = [f"{TINY.relative_to(ROOT)}/{name}.svg" for name in ("gains", "progress")]
    assert PICTURE.findall(told(TINY)) == pictures


def test_the_readme_quotes_the_claims() -> None:
    verdicts = re.findall(r"^([A-Z]+) +(\w+):", (TINY / "claims.txt").read_text(), flags=re.MULTILINE)
    assert len(verdicts) == 6
    for verdict, claim in verdicts:
        assert f"| {claim} | {verdict.lower()} |" in told(TINY)


@each
def test_the_parts_of_the_reward_that_a_folder_tells_are_means_of_its_records(published: Path) -> None:
    lines = [line for line in (published / "README.md").read_text().splitlines() if line.startswith("| ")]
    if not lines:
        pytest.skip("it tells none")
    head, rows = cells(lines[0]), [cells(line) for line in lines[2:]]
    assert {row[0] for row in rows} == {row["algo"] for row in rows_of(published)}
    for algo, *numbers, updates, seeds in rows:
        found = [json.loads(path.read_text()) for path in (published / "records").glob(f"{algo}-*/summary.json")]
        assert int(seeds) == len(found)
        assert float(updates) == pytest.approx(sum(summary["updates"] for summary in found) / len(found), abs=0.051)
        for part, number in zip(head[1:-2], numbers, strict=True):
            mean = sum(summary["metrics_final"][part] for summary in found) / len(found)
            assert float(number) == pytest.approx(100 * mean, abs=0.051)
