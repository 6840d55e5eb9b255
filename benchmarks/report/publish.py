"""What records say, small enough to be committed: tables, claims, the page with two of its pictures, and the records.

Of each record everything but its episodes' texts and its policy: every reader but `show` takes it as whole.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from rich.console import Console

from benchmarks.analysis.claims import answer, load_claims, render
from benchmarks.analysis.experiments import read_experiments
from benchmarks.analysis.table import read_table
from benchmarks.analysis.table import render as render_table
from benchmarks.records.record import SAMPLES, records
from benchmarks.report.page import report
from benchmarks.report.pictures import pictures
from tasks.errors import BadInput

PICTURES = ("gains", "progress")


def publish(runs: Path, policy: str, budget: str, out: Path) -> Path:
    """Write what the records of a folder say into OUT/POLICY-BUDGET.

    Args:
        runs: folder of records.
        policy: that the claims and the pictures are about.
        budget: the same.
        out: where the folder goes.

    Returns:
        The folder.

    Raises:
        BadInput: no such records, nothing to draw with, or a folder that cannot be written.
    """
    experiments, _ = read_experiments(runs)
    table, folder = read_table(runs), out / f"{policy}-{budget}"
    texts = {}
    for form, name in (("csv", "table.csv"), ("markdown", "table.md")):
        with redirect_stdout(io.StringIO()) as text:
            render_table(table, form, Console())
        texts[name] = text.getvalue()
    claims = Console(file=io.StringIO(), width=120)
    render([answer(claim, experiments, policy, budget) for claim in load_claims()], "text", claims)
    texts["claims.txt"] = claims.file.getvalue()  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as drawn:
        pictures(runs, Path(drawn))
        try:
            (folder / "records").mkdir(parents=True, exist_ok=True)
            for name, content in texts.items():
                (folder / name).write_text(content, encoding="utf-8")
            for name in PICTURES:
                shutil.copy(Path(drawn) / f"{policy}-{budget}-{name}.svg", folder / f"{name}.svg")
            for record in records(runs):
                (folder / "records" / record.name).mkdir(exist_ok=True)
                for path in record.folder.iterdir():
                    if path.is_file() and path.name not in SAMPLES and not path.name.startswith("."):
                        shutil.copy(path, folder / "records" / record.name / path.name)
        except OSError as error:
            raise BadInput(f"--out {out}: {error.strerror or error} ({error.filename})") from None
    report(runs, folder / "report.html")
    return folder
