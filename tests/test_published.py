"""What results/published says, and what the README says of it, against the records' own summaries."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "results/published/tiny-quick"
SUMMARIES = [json.loads(path.read_text()) for path in sorted((PUBLISHED / "records").glob("*/summary.json"))]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_every_accuracy_in_the_table_is_the_mean_of_its_records() -> None:
    found = defaultdict(list)
    for summary in SUMMARIES:
        found[summary["experiment"]].append(summary["accuracy_final"])
    with (PUBLISHED / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["experiment"] for row in rows} == set(found)
    for row in rows:
        values = found[row["experiment"]]
        assert float(row["accuracy_final"]) == pytest.approx(sum(values) / len(values), abs=1e-9)


def test_every_record_says_which_code_weights_and_seed_made_it() -> None:
    for folder in sorted((PUBLISHED / "records").iterdir()):
        about = json.loads((folder / "manifest.json").read_text())
        assert re.fullmatch(r"[0-9a-f]{40}", about["git_commit"])
        assert about["git_dirty"] is False
        assert about["policy_state"]
        assert "samples.parquet" in json.loads((folder / "seal.json").read_text())["sha256"]
        assert not re.search(r"/(tmp|work|root|home)/", (folder / "manifest.json").read_text())


def test_the_readme_quotes_the_table() -> None:
    lines = (PUBLISHED / "table.md").read_text().splitlines()
    head = cells(lines[0])
    rows = [dict(zip(head, cells(line), strict=True)) for line in lines[2:]]
    wanted = {(row["task"], row["algo"], row["accuracy [95 %]"], row["gain [95 %]"], row["seeds"]) for row in rows}
    readme = (ROOT / "README.md").read_text().split("## Results")[1].split("\n## ")[0]
    quoted = [
        cells(line) for line in readme.splitlines() if line.startswith("| ") and "%" in line and "[95" not in line
    ]
    assert len(quoted) >= 24
    for task, algo, accuracy, gain, seeds in quoted:
        assert (task.strip("`"), algo, accuracy, gain, seeds) in wanted


def test_the_readmes_pictures_are_small_and_show_every_algorithm_on_every_task() -> None:
    with (PUBLISHED / "table.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["policy"], row["budget"]) == ("tiny", "quick")]
    names = {row["algo"] for row in rows} | {row["task"] for row in rows}
    readme = (ROOT / "README.md").read_text()
    pictures = re.findall(r"!\[[^\]]+\]\((results/published/tiny-quick/[a-z]+\.svg)\)", readme)
    assert len(pictures) == 2
    for picture in pictures:
        content = (ROOT / picture).read_text(encoding="utf-8")
        assert len(content) < 150_000
        shown = {text.strip() for text in ElementTree.fromstring(content).itertext()}
        assert names <= shown


def test_the_readme_quotes_the_claims() -> None:
    said = (PUBLISHED / "claims.txt").read_text()
    readme = (ROOT / "README.md").read_text().split("## Results")[1].split("\n## ")[0]
    verdicts = re.findall(r"^([A-Z]+) +(\w+):", said, flags=re.MULTILINE)
    assert len(verdicts) == 6
    for verdict, claim in verdicts:
        assert f"| {claim} | {verdict.lower()} |" in readme
