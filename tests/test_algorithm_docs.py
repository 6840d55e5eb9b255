"""Each algorithm has a page of one screen that names its knobs, all of them and no others, as its preset has them."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from benchmarks.config import CONF, options
from benchmarks.plugins import load_class

DOCS = CONF.parent / "docs" / "algorithms"
KNOB = re.compile(r"^\| `(\w+)` \| `([^`]*)` \| \S.* \|$", re.MULTILINE)
SETTING = re.compile(r"^(\w+): (.*)$", re.MULTILINE)
SCREEN = 60
"""Lines."""


def page(name: str) -> str:
    path = DOCS / f"{name}.md"
    assert path.is_file(), f"{name} has no page: write {path.relative_to(CONF.parent)}"
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", options("algo"))
def test_a_page_names_every_knob_and_no_other(name: str) -> None:
    rows = re.findall(r"^\| `(\w+)`", page(name), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == {field.name for field in fields(load_class("algorithms", name).Config)} - {"name"}


@pytest.mark.parametrize("name", options("algo"))
def test_a_page_states_the_values_of_the_preset(name: str) -> None:
    preset = dict(SETTING.findall((CONF / "algo" / f"{name}.yaml").read_text(encoding="utf-8")))
    assert preset.pop("name") == name
    assert dict(KNOB.findall(page(name))) == preset


@pytest.mark.parametrize("name", options("algo"))
def test_a_page_is_one_screen_and_says_what_it_is_when_to_use_it_and_how_it_fails(name: str) -> None:
    text = page(name)
    assert re.findall(r"^#+ .*", text, re.MULTILINE) == [f"# {name}", "## Use it", "## Knobs", "## Known failures"]
    assert text.count("\n") <= SCREEN


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_a_page_belongs_to_an_algorithm_and_links_to_what_is_there(path: Path) -> None:
    assert path.stem in options("algo")
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
