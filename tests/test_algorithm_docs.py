"""Each algorithm has a page with its settings, as the dataclass has them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from settings_tables import with_table

from benchmarks.config.describe import markdown
from benchmarks.config.presets import CONF, options

DOCS = CONF.parent / "docs" / "algorithms"


def page(name: str) -> str:
    path = DOCS / f"{name}.md"
    assert path.is_file(), f"{name} has no page: write {path.relative_to(CONF.parent)}"
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", options("algo"))
def test_a_page_has_the_settings_of_the_dataclass_with_their_defaults_and_meanings(name: str) -> None:
    text = page(name)
    assert text == with_table(name, text), "python supply/settings_tables.py writes the tables anew"
    has_settings = markdown(name).count("\n") > 1
    assert text.count("<!-- settings -->\n| setting | default | meaning |\n") == has_settings


@pytest.mark.parametrize("name", options("algo"))
def test_a_page_says_when_to_use_it_and_how_it_fails(name: str) -> None:
    text = page(name)
    assert text.startswith(f"# {name}\n")
    assert "**When to use it.**" in text
    assert "**Known failures**" in text


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_a_page_belongs_to_an_algorithm_and_links_to_what_is_there(path: Path) -> None:
    assert path.stem in options("algo")
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
