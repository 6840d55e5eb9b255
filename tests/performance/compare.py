"""Two measured commits side by side: `python tests/performance/compare.py [OLD NEW]`.

Without arguments the two last measured ones of results/performance/. Only ratios within a commit are compared, since
those were taken interleaved. Exit code 1 where one got worse by more than 15%, judged by CPU seconds on a CPU and by
wall seconds on a GPU.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

STORE = Path(__file__).resolve().parents[2] / "results" / "performance"
WORSE = 1.15


def compared(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Name, old ratio and new ratio of every comparison that both have."""
    rows = []
    for name, case in new["cases"].items():
        before = old["cases"].get(name)
        if before is None:
            continue
        kind = "cpu_s" if case["device"] == "cpu" else "wall_s"
        for side, ratio in case["ratios"].items():
            if side in before["ratios"]:
                rows.append((f"{name}: to {side}", before["ratios"][side][kind], ratio[kind]))
    return rows


def last_two() -> list[Path]:
    """The two files whose figures are the latest."""

    def age(file: Path) -> float:
        cases = json.loads(file.read_text(encoding="utf-8"))["cases"].values()
        return max((case["measured_at"] for case in cases), default=0)

    return sorted(STORE.glob("*.json"), key=age)[-2:]


def main() -> None:
    """Print the table; fail on a regression."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    files = parser.parse_args().files or last_two()
    if len(files) != 2:
        raise SystemExit(f"two measured commits are needed, there are {len(files)}: run make bench on each")
    old, new = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    rows = compared(old, new)
    print(f"{'time of ours over':44}{files[0].stem:>16}{files[1].stem:>16}{'new/old':>9}")
    for name, before, after in rows:
        mark = "  worse" if after / before > WORSE else ""
        print(f"{name:44}{before:16.3f}{after:16.3f}{after / before:9.2f}{mark}")
    raise SystemExit(any(after / before > WORSE for _, before, after in rows))


if __name__ == "__main__":
    main()
