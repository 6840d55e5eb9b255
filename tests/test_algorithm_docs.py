"""Each algorithm has a page of one screen that names its settings, all of them and no others."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from benchmarks.config.plugins import load_class
from benchmarks.config.schema import CONF, options

DOCS = CONF.parent / "docs" / "algorithms"
TABLE = re.compile(r"^\| setting \|.*\n\|[-| ]+\n((?:\|.*\n?)+)", re.MULTILINE)
SCREEN = 70
"""Lines."""


def page(name: str) -> str:
    path = DOCS / f"{name}.md"
    assert path.is_file(), f"{name} has no page: write {path.relative_to(CONF.parent)}"
    return path.read_text(encoding="utf-8")


def settings(text: str) -> list[tuple[str, str]]:
    """The settings in a page's tables, each with the cell after it; `part.*` stands for a setting with parts."""
    rows = [row.split(" | ") for table in TABLE.findall(text) for row in table.splitlines()]
    return [(name, row[1]) for row in rows for name in re.findall(r"`(\w+)(?:\.\*)?`", row[0])]


@pytest.mark.parametrize("name", options("algo"))
def test_a_page_names_every_setting_and_no_other(name: str) -> None:
    named = [setting for setting, _ in settings(page(name))]
    assert len(named) == len(set(named))
    assert set(named) | {"name"} == {field.name for field in fields(load_class("algorithms", name).Config)}


@pytest.mark.parametrize("name", options("algo"))
def test_where_a_page_states_the_preset_it_is_right(name: str) -> None:
    text = page(name)
    preset = dict(re.findall(r"^(\w+): (.*)$", (CONF / "algo" / f"{name}.yaml").read_text("utf-8"), re.MULTILINE))
    if "| setting | preset |" in text:
        assert {setting: value.strip("`") for setting, value in settings(text)} | {"name": name} == preset


@pytest.mark.parametrize("name", options("algo"))
def test_a_page_is_one_screen_and_says_when_to_use_it_and_how_it_fails(name: str) -> None:
    text = page(name)
    assert text.startswith(f"# {name}\n")
    assert "**When to use it.**" in text
    assert "**Known failures**" in text
    assert text.count("\n") <= SCREEN


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_a_page_belongs_to_an_algorithm_and_links_to_what_is_there(path: Path) -> None:
    assert path.stem in options("algo")
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
