"""The table of results: one row per experiment, over its seeds, made from nothing but the records in a folder.

Costs are means per run over the complete runs of an experiment; intervals come from `benchmarks.analysis.statistics`. A
record that is damaged or contradicts itself is set aside by name, with the reason, and enters no row.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from benchmarks.analysis.experiments import Experiment, group_runs
from benchmarks.records.reading import NAMES, SetAside, read_runs, say_set_aside
from benchmarks.wording import COSTS, percent
from tasks.errors import BadInput

FORMATS = ("text", "json", "csv", "markdown")
LEFT = ("algo", "status")
"""Columns of text."""
SETTING = ("task", "policy", "budget")
OUTCOME = (
    *("n_test", "accuracy_base", "accuracy_final", "accuracy_ci_low", "accuracy_ci_high"),
    *("gain", "gain_ci_low", "gain_ci_high"),
)


@dataclass(frozen=True, slots=True)
class Table:
    """All records of a folder."""

    rows: list[dict[str, Any]]
    """One per experiment, by task, policy, budget, and accuracy from best to worst. Accuracies, gains and costs are
    null without a complete run; `seeds` are those of the complete runs or, where there is none, of all runs."""
    set_aside: SetAside
    """(name, reason) of the records that entered no row."""


def read_table(directory: Path, only: str | None = None) -> Table:
    """Read every record of a directory, or only the one with this name.

    Raises:
        BadInput: there is no such directory.
        RunFailed: no record there can be read.
    """
    runs, aside = read_runs(directory, only)
    rows = [experiment_row(experiment) for experiment in group_runs(runs, aside)]
    return Table(sorted(rows, key=rank), sorted(aside))


def rank(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What rows are sorted by."""
    accuracy = row["accuracy_final"]
    best_first = math.inf if accuracy is None else -accuracy
    return (*(row[name] for name in SETTING), best_first, row["algo"], row["experiment"])


def experiment_row(experiment: Experiment) -> dict[str, Any]:
    """The row of one experiment's runs."""
    runs, complete = experiment.all_runs, experiment.complete
    counts = Counter(run.status for run in runs)
    metrics = [run.summary["metrics_final"] for run in complete]
    shared = [name for name in (metrics[0] if metrics else ()) if all(name in found for found in metrics)]
    costs = {key: _mean([run.summary[key] for run in complete]) for key in COSTS}
    return {
        **{name: runs[0].summary[name] for name in NAMES[:-1]},
        "seeds": [run.seed for run in complete or runs],
        **(_outcome(experiment) if complete else dict.fromkeys(OUTCOME)),
        **costs,
        "peak_memory_bytes": _mean([run.summary["peak_memory_bytes"] for run in complete], max),
        "energy_j": costs["energy_j"],
        "status": runs[0].status if len(counts) == 1 else ", ".join(f"{counts[key]} {key}" for key in sorted(counts)),
        "metrics_final": {name: _mean([found[name] for found in metrics]) for name in shared},
        "experiment": experiment.id,
    }


def _outcome(experiment: Experiment) -> dict[str, float]:
    from benchmarks.analysis.statistics import accuracy_interval, paired_gain_interval

    base, final = ([run.base for run in experiment.complete], [run.final for run in experiment.complete])
    before, after = (_average([_average(row) for row in cells]) for cells in (base, final))
    gain = (after - before, *paired_gain_interval(base, final))
    numbers = [len(experiment.first.problems), before, after, *accuracy_interval(final), *gain]
    return dict(zip(OUTCOME, numbers, strict=True))


def _average(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _mean(values: Sequence[float | None], combine: Callable[[Sequence[float]], float] = _average) -> float | None:
    """Null unless every run measured it: a mean over some of the runs would look like one over all."""
    measured = [value for value in values if value is not None]
    return combine(measured) if measured and len(measured) == len(values) else None


def render(table: Table, fmt: str, console: Console) -> None:
    """Print a table: text to the console; json (one object a row), csv and markdown to stdout, for other programs.

    The records that were set aside are named on stderr.

    Raises:
        BadInput: no such format.
    """
    if fmt not in FORMATS:
        raise BadInput(f"format {fmt!r}: there are {', '.join(FORMATS)}")
    say_set_aside(table.set_aside)
    if not table.rows:
        line = f"there are no {'readable ' if table.set_aside else ''}records yet; python -m benchmarks run makes one"
        print(line, file=sys.stderr if fmt in ("json", "csv") else sys.stdout)
    elif fmt == "json":
        print("\n".join(json.dumps(row, allow_nan=False) for row in table.rows))
    elif fmt == "csv":
        _print_csv(table.rows)
    elif fmt == "markdown":
        print(markdown(table.rows), end="")
    else:
        _print_text(table.rows, console)


def _print_csv(rows: Sequence[dict[str, Any]]) -> None:
    flat = []
    for row in rows:
        metrics = {f"metric/{name}": value for name, value in row["metrics_final"].items()}
        flat.append({**row, "seeds": " ".join(map(str, row["seeds"])), **metrics})
    columns = [key for key in dict.fromkeys(key for row in flat for key in row) if key != "metrics_final"]
    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)


def shown_cells(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """What people read of each row, with the names of its setting first."""
    return [{name: row[name] for name in SETTING} | cells for row, cells in zip(rows, _cells(rows), strict=True)]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """At least one row as a Markdown table."""
    lines = shown_cells(rows)
    head = [f"| {' | '.join(lines[0])} |", f"|{' --- |' * len(lines[0])}"]
    body = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line.values())} |" for line in lines]
    return "\n".join([*head, *body]) + "\n"


def _print_text(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """One block per setting, so that the algorithms that may be compared stand under each other."""
    if not console.is_terminal:
        # A file or a pipe has no width of its own; rich would take it for 80 columns.
        console = Console(file=console.file, width=max(console.width, 120))
    for setting, block in groupby(rows, key=lambda row: " · ".join(row[name] for name in SETTING)):
        lines = _cells(list(block))
        widths = [max(map(cell_len, (name, *(line[name] for line in lines)))) for name in lines[0]]
        if sum(widths) + len(widths) - 1 <= console.width:
            _print_lines(setting, lines, widths, console)
        else:
            _print_folded(setting, lines, console)


def _print_lines(setting: str, lines: Sequence[dict[str, str]], widths: Sequence[int], console: Console) -> None:
    """A line a row. What fits needs no more than this, and rich's table takes a second for a thousand rows."""
    left = [name in LEFT for name in lines[0]]

    def line(cells: Iterable[str]) -> str:
        filled = zip(cells, widths, left, strict=True)
        return " ".join(
            cell + " " * (w - cell_len(cell)) if to_left else " " * (w - cell_len(cell)) + cell
            for cell, w, to_left in filled
        )

    console.print(Text(setting, style="italic"), Text(line(lines[0]), style="bold"), sep="\n", soft_wrap=True)
    body = ["─" * (sum(widths) + len(widths) - 1), *(line(row.values()) for row in lines), "", ""]
    console.print(Text("\n".join(body)), soft_wrap=True, end="")


def _print_folded(setting: str, lines: Sequence[dict[str, str]], console: Console) -> None:
    """A table whose cells take several lines where the console is too narrow for it."""
    grid = RichTable(title=Text(setting), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for name in lines[0]:
        if name in LEFT:
            grid.add_column(name, overflow="fold", min_width=8)
        else:
            # Where it is narrow, a number in two lines is better than a number cut short.
            grid.add_column(name, justify="right", overflow="fold", no_wrap=console.width >= 110)
    for line in lines:
        grid.add_row(*map(Text, line.values()))
    console.print(grid, "")


def _cells(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """What people read of each row; the experiment's hash only where the names alone do not tell two rows apart."""
    twins = max(Counter(tuple(row[name] for name in NAMES[:-1]) for row in rows).values()) > 1
    return [
        {
            "algo": row["algo"],
            **({"exp.": row["experiment"][:6]} if twins else {}),
            "seeds": str(len(row["seeds"])),
            "n": _shown(str, row["n_test"]),
            "accuracy [95 %]": _shown(_accuracy, *(row[f"accuracy_{key}"] for key in ("final", "ci_low", "ci_high"))),
            "base": _shown(percent, row["accuracy_base"]),
            "gain [95 %]": _shown(_gain, row["gain"], row["gain_ci_low"], row["gain_ci_high"]),
            "FLOPs": _shown(COSTS["flops"], row["flops"]),
            "time": _shown(COSTS["wall_s"], row["wall_s"]),
            "memory": _shown(COSTS["peak_memory_bytes"], row["peak_memory_bytes"]),
            "status": row["status"],
        }
        for row in rows
    ]


def _shown(write: Callable[..., str], *values: Any) -> str:
    return "–" if None in values else write(*values)


def _accuracy(value: float, low: float, high: float) -> str:
    return f"{percent(value)} [{100 * low:.1f}, {100 * high:.1f}]"


def _gain(value: float, low: float, high: float) -> str:
    return f"{100 * value:+z.1f} [{100 * low:+z.1f}, {100 * high:+z.1f}]"
