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
from typing import Any, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from benchmarks.analysis.experiments import Experiment, group_runs
from benchmarks.records.reading import NAMES, SetAside, read_runs, say_set_aside
from benchmarks.wording import COSTS
from tasks.errors import BadInput

FORMATS = ("text", "json", "csv", "markdown")
LEFT = ("algo", "status")
"""Columns of text."""
LEFT_OUT = ("n", "base")
"""Not in text, which must fit 120 columns: the title has the one, and accuracy less gain is the other."""
SETTING = ("task", "policy", "budget")
OUTCOME = (
    *("n_test", "accuracy_base", "accuracy_final", "accuracy_ci_low", "accuracy_ci_high"),
    *("gain", "gain_ci_low", "gain_ci_high"),
)
AT_TSTAR = ("gain_tstar", "gain_tstar_ci_low", "gain_tstar_ci_high")
CAPABILITY = (
    *(f"{name}_{stage}" for name in ("accuracy_tstar", "tstar", "accuracy_greedy") for stage in ("base", "final")),
    *(f"pass_at_{k}_{stage}" for k in (1, 4, 8) for stage in ("base", "final")),
    *("train_gap_base", "train_gap_final", "kl_per_token", "forgotten"),
)
"""Of the summary (benchmarks/running/capability.py): means over complete runs, null unless every run has it."""
SHARPENING = "sharpening?"
LEGEND = (
    f"{SHARPENING} a gain at temperature 1 that is not shown at T*, the temperature that is best on val for each "
    "policy: lowering the temperature of the starting policy may give as much"
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
    costs = {key: _mean([run.summary[key] for run in complete]) for key in COSTS}
    return {
        **{name: runs[0].summary[name] for name in NAMES[:-1]},
        "seeds": [run.seed for run in complete or runs],
        **(_outcome(experiment) if complete else dict.fromkeys((*OUTCOME, *AT_TSTAR, "sharpening"))),
        **{key: _mean([run.summary.get(key) for run in complete]) for key in CAPABILITY},
        **costs,
        "peak_memory_bytes": _mean([run.summary["peak_memory_bytes"] for run in complete], max),
        "energy_j": costs["energy_j"],
        "status": runs[0].status if len(counts) == 1 else ", ".join(f"{counts[key]} {key}" for key in sorted(counts)),
        "metrics_final": means_of_shared([run.summary["metrics_final"] for run in complete]),
        "reward_correlations": means_of_shared([run.summary["reward_correlations"] for run in complete]),
        "experiment": experiment.id,
    }


def means_of_shared(tables: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Means of the numbers that every run has, by their names."""
    shared = [name for name in (tables[0] if tables else ()) if all(name in table for table in tables)]
    return {name: _mean([table[name] for table in tables]) for name in shared}


def _outcome(experiment: Experiment) -> dict[str, Any]:
    from benchmarks.analysis.statistics import accuracy_interval, paired_gain_interval

    complete = experiment.complete

    def gain(base: Sequence[list[float]], final: Sequence[list[float]]) -> tuple[float, ...]:
        before, after = (_average([_average(row) for row in cells]) for cells in (base, final))
        return (after - before, *paired_gain_interval(base, final))

    base, final = [run.base for run in complete], [run.final for run in complete]
    accuracies = (_average([_average(row) for row in cells]) for cells in (base, final))
    interval = accuracy_interval(final, samples=experiment.first.summary["test_samples"])
    numbers = [len(experiment.first.problems), *accuracies, *interval, *gain(base, final)]
    found: dict[str, Any] = dict.fromkeys(AT_TSTAR) | dict(zip(OUTCOME, numbers, strict=True))
    base, final = ([run.tstar[stage] for run in complete] for stage in (0, 1))
    if all(base) and all(final):
        found |= dict(zip(AT_TSTAR, gain(base, final), strict=True))
    if not any(run.summary["rollouts"] or run.summary["updates"] for run in complete):
        # Nothing was done: before and after are one policy measured twice, and no gain.
        found |= dict.fromkeys(("gain", "gain_ci_low", "gain_ci_high", *AT_TSTAR))
    named = {name: found[name] for name in (*OUTCOME, *AT_TSTAR)}
    return named | {"sharpening": sharpens(found["gain_ci_low"], found["gain_tstar_ci_low"])}


def sharpens(gain_low: float | None, gain_tstar_low: float | None) -> bool | None:
    """Whether a gain at temperature 1 is not shown at T*, by the lower ends of their intervals; None without both."""
    return None if gain_low is None or gain_tstar_low is None else gain_low > 0 >= gain_tstar_low


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
        correlations = {f"corr/{name}": value for name, value in row["reward_correlations"].items()}
        flat.append({**row, "seeds": " ".join(map(str, row["seeds"])), **metrics, **correlations})
    tables = ("metrics_final", "reward_correlations")
    columns = [key for key in dict.fromkeys(key for row in flat for key in row) if key not in tables]
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
    legend = ["", LEGEND] if any(row["sharpening"] for row in rows) else []
    return "\n".join([*head, *body, *legend]) + "\n"


def _print_text(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """One block per setting, so that the algorithms that may be compared stand under each other."""
    if not console.is_terminal:
        # A file or a pipe has no width of its own; rich would take it for 80 columns.
        console = Console(file=console.file, width=max(console.width, 120))
    for setting, block in groupby(rows, key=lambda row: " · ".join(row[name] for name in SETTING)):
        of_setting = list(block)
        counts = sorted({row["n_test"] for row in of_setting} - {None})
        setting += f": {' or '.join(map(str, counts))} test problems, in percent" if counts else ""
        lines = [{name: line[name] for name in line if name not in LEFT_OUT} for line in _cells(of_setting)]
        widths = [max(map(cell_len, (name, *(line[name] for line in lines)))) for name in lines[0]]
        if sum(widths) + len(widths) - 1 <= console.width:
            _print_lines(setting, lines, widths, console)
        else:
            _print_folded(setting, lines, console)
    if any(row["sharpening"] for row in rows):
        console.print(Text(LEGEND), soft_wrap=True)


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
        if name == "status" or (name in LEFT and console.width < 110):
            grid.add_column(name, overflow="fold", min_width=8)
        else:
            # Where it is narrow, a number in two lines is better than a number cut short.
            side: Literal["left", "right"] = "left" if name in LEFT else "right"
            grid.add_column(name, justify=side, overflow="fold", no_wrap=console.width >= 110)
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
            "base": _shown(_percent, row["accuracy_base"]),
            "gain [95 %]": _shown(gain_cell, row["gain"], row["gain_ci_low"], row["gain_ci_high"]),
            "gain at T* [95 %]": _shown(gain_cell, *(row[name] for name in AT_TSTAR)),
            "FLOPs": _shown(COSTS["flops"], row["flops"]),
            "time": _shown(COSTS["wall_s"], row["wall_s"]),
            "memory": _shown(COSTS["peak_memory_bytes"], row["peak_memory_bytes"]),
            "status": _status(row),
        }
        for row in rows
    ]


def _status(row: Mapping[str, Any]) -> str:
    if not row["sharpening"]:
        return str(row["status"])
    return SHARPENING if row["status"] == "complete" else f"{row['status']}, {SHARPENING}"


def _shown(write: Callable[..., str], *values: Any) -> str:
    return "–" if None in values else write(*values)


def _accuracy(value: float, low: float, high: float) -> str:
    return f"{_percent(value)} [{_percent(low)}, {_percent(high)}]"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def gain_cell(value: float, low: float, high: float) -> str:
    """A gain and its interval, in points."""
    return f"{100 * value:+z.1f} [{100 * low:+z.1f}, {100 * high:+z.1f}]"
