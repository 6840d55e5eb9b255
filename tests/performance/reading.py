"""How long `table` and `report` take with many records: a few minutes for 10,000 runs.

Made-up records, sealed and sound: seven algorithms on three tasks at three budgets, five seeds each, and
as many learning rates as it takes; 100 test problems with two samples. The disk cache is warm. Wall time is what a user
waits, CPU time that of all processes together. First paint is that of a headless Chromium, the best of three.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from browsing import CHROMIUM
from record_factory import write_study

ROOT = Path(__file__).resolve().parents[2]


def timed(words: list[str]) -> tuple[float, float, float]:
    """Wall and CPU seconds of a command, and the most memory that one of its processes had, in MiB.

    Raises:
        SystemExit: it failed.
    """
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks", *words], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(words)}: failed")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def first_paint_s(page: Path) -> float | None:
    """Seconds until something is seen; None without Playwright or Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if CHROMIUM is None:
        return None
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        paints = []
        for _ in range(3):
            tab = browser.new_page()
            tab.goto(page.as_uri())
            paints.append(tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000)
            tab.close()
        browser.close()
    return float(min(paints))


def main() -> None:
    """Print a line a command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[200, 10_000])
    parser.add_argument("--folder", type=Path, help="where the records are written and kept; without: a scratch folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for count in given.runs:
            place = (given.folder or Path(scratch)) / f"runs-{count}"
            if not place.exists():
                write_study(place, count)
            page = place.parent / f"report-{count}.html"
            for command in (["table"], ["report", "--out", str(page)]):
                for _ in range(3):
                    wall, cpu, memory = timed([*command, "--runs", str(place)])
                    about = f"wall {wall:6.2f} s   CPU {cpu:6.2f} s   memory {memory:5.0f} MiB"
                    print(f"{count:6} runs   {command[0]:6}   {about}", flush=True)
            paint = first_paint_s(page)
            size = f"{page.stat().st_size / 2**20:.1f} MiB"
            print(f"{count:6} runs   page {size}, first paint {'not measured' if paint is None else f'{paint:.2f} s'}")


if __name__ == "__main__":
    main()
