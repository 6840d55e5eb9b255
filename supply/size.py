"""The targets of the house, counted: lines by package and room, the longest files, and circles of imports.

Run by hand (`python supply/size.py`). Exit code 1 where a target is missed.
"""

from __future__ import annotations

import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

PACKAGES = ("tasks", "policies", "algorithms", "benchmarks")
MOST = {"product": 15_000, "benchmarks": 8_500}
"""Lines of Python that there may be."""
LONG = 300


def lines(root: Path) -> dict[Path, int]:
    """Lines of every product file."""
    files = (file for package in PACKAGES for file in (root / package).rglob("*.py"))
    return {file.relative_to(root): len(file.read_text().splitlines()) for file in files}


def circle() -> list[str]:
    """One circle of imports between product modules; empty where there is none."""
    graph = grimp.build_graph(*PACKAGES)
    sorter = TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules})
    try:
        sorter.prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def main() -> int:
    """Print the counts; whether a target is missed."""
    found = lines(Path(__file__).resolve().parents[1])
    totals: Counter[str] = Counter()
    for file, count in found.items():
        totals["product"] += count
        totals[file.parts[0]] += count
        if len(file.parts) > 2:
            totals["/".join(file.parts[:2])] += count
    for name, count in sorted(totals.items()):
        print(f"{name:24} {count:6}" + (f"  of at most {MOST[name]}" if name in MOST else ""))
    for file, count in sorted(found.items(), key=lambda pair: -pair[1])[:5]:
        print(f"{file!s:48} {count:6}")
    cycle = circle()
    print("circle of imports: " + (" -> ".join(cycle) or "none"))
    return int(bool(cycle) or any(totals[name] > most for name, most in MOST.items()))


if __name__ == "__main__":
    sys.exit(main())
