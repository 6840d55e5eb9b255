"""The table of results: one row per experiment, over its seeds, made from nothing but the records in a folder.

Costs are means per run over the complete runs of an experiment; intervals come from `benchmarks.analysis.statistics`. A
record that is damaged or contradicts itself is set aside by name, with the reason, and enters no row.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections import Counter, defaultdict
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

from benchmarks.records.index import Index, read_index
from benchmarks.records.reading import NAMES, Run
from benchmarks.wording import COSTS, one_line, percent
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
    set_aside: list[tuple[str, str]]
    """(name, reason) of the records that entered no row."""
    found: int
    """Records in the folder, used or set aside."""


def read_table(directory: Path, only: str | None = None) -> Table:
    """Read every record of a directory, or only the one with this name.

    Raises:
        BadInput: there is no such directory.
    """
    index = read_index(directory, only)
    experiments, set_aside = by_experiment(index)
    rows = [experiment_row(runs, index) for runs in experiments]
    if only is None:
        index.save()
    return Table(sorted(rows, key=rank), set_aside, len(index.runs) + len(index.set_aside))


def by_experiment(index: Index) -> tuple[list[list[Run]], list[tuple[str, str]]]:
    """The runs of each experiment, one per seed, and the records that were set aside, by name, with the reason."""
    experiments: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in index.runs:
        experiments[tuple(run.about[name] for name in NAMES)].append(run)
    set_aside = list(index.set_aside)
    kept = [_comparable(runs, set_aside) for runs in experiments.values()]
    return kept, sorted(set_aside)


def rank(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What rows are sorted by."""
    accuracy = row["accuracy_final"]
    best_first = math.inf if accuracy is None else -accuracy
    return (*(row[name] for name in SETTING), best_first, row["algo"], row["experiment"])


def _comparable(runs: Sequence[Run], set_aside: list[tuple[str, str]]) -> list[Run]:
    """One run per seed, and the same test problems for all, complete runs first; the others are set aside."""
    kept: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: (run.status != "complete", run.about["seed"], run.name)):
        same_seed = kept.get(run.about["seed"])
        first = next(iter(kept.values()), run)
        if same_seed:
            set_aside.append((run.name, f"same experiment and seed as {same_seed.name}"))
        elif run.problems and run.problems != first.problems:
            set_aside.append((run.name, f"other test problems than {first.name}, a run of the same experiment"))
        else:
            kept[run.about["seed"]] = run
    return list(kept.values())


def experiment_row(runs: Sequence[Run], index: Index) -> dict[str, Any]:
    """The row of one experiment's runs."""
    complete = [run for run in runs if run.status == "complete"]
    counts = Counter(run.status for run in runs)
    metrics = [run.about["metrics_final"] for run in complete]
    shared = [name for name in (metrics[0] if metrics else ()) if all(name in found for found in metrics)]
    costs = {key: _mean([run.about[key] for run in complete]) for key in COSTS}
    return {
        **{name: runs[0].about[name] for name in NAMES[:-1]},
        "seeds": [run.about["seed"] for run in complete or runs],
        **(_outcome(complete, index) if complete else dict.fromkeys(OUTCOME)),
        **costs,
        "peak_memory_bytes": _mean([run.about["peak_memory_bytes"] for run in complete], max),
        "energy_j": costs["energy_j"],
        "status": runs[0].status if len(counts) == 1 else ", ".join(f"{counts[key]} {key}" for key in sorted(counts)),
        "metrics_final": {name: _mean([found[name] for found in metrics]) for name in shared},
        "experiment": runs[0].about["experiment"],
    }


def _outcome(complete: Sequence[Run], index: Index) -> dict[str, Any]:
    numbers = index.recall(key := index.key("outcome", [complete]), len(OUTCOME))
    if numbers is None:
        # Only here: numpy would double the time that an empty folder takes.
        from benchmarks.analysis.statistics import accuracy_interval, paired_gain_interval

        base, final = ([run.base for run in complete], [run.final for run in complete])
        before, after = (_average([_average(row) for row in cells]) for cells in (base, final))
        gain = (after - before, *paired_gain_interval(base, final))
        accuracy = accuracy_interval(final, samples=complete[0].about["test_samples"])
        numbers = [len(complete[0].problems), before, after, *accuracy, *gain]
        index.remember(key, numbers)
    found: dict[str, Any] = dict(zip(OUTCOME, numbers, strict=True))
    if not any(run.about["rollouts"] or run.about["updates"] for run in complete):
        # Nothing was done: before and after are one policy measured twice, and no gain.
        found |= dict.fromkeys(("gain", "gain_ci_low", "gain_ci_high"))
    return found | {"n_test": int(found["n_test"])}  # The index keeps floats.


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
    for name, reason in table.set_aside:
        print(f"set aside {one_line(name)}: {reason}", file=sys.stderr)
    if table.set_aside:
        print(f"{len(table.set_aside)} of {table.found} records were set aside", file=sys.stderr)
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
