"""Write the tables of settings in docs/algorithms/ anew from the dataclasses: `python supply/settings_tables.py`.

A page has one table, between two comments; tests/test_algorithm_docs.py holds it to the dataclass.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.config.describe import markdown

DOCS = Path(__file__).resolve().parents[1] / "docs" / "algorithms"
BLOCK = re.compile(r"<!-- settings -->\n.*?<!-- end of settings -->\n", re.DOTALL)


def with_table(name: str, page: str) -> str:
    """A page with its algorithm's table as it should be."""
    block = f"<!-- settings -->\n{markdown(name)}\n<!-- end of settings -->\n"
    return BLOCK.sub(lambda _: block, page)


def main() -> None:
    """Rewrite every page."""
    for path in sorted(DOCS.glob("*.md")):
        path.write_text(with_table(path.stem, path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
