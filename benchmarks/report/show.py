"""A run's test samples as a referee's sheet.

What a model wrote is untrusted. It is printed as plain text, never as markup; characters that do not print (terminal
escapes, text that runs backwards, lone surrogates) appear as Python escapes; and every line of it stands behind a bar
in the margin, so that no text can pass itself off as a line of the sheet.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from benchmarks.records.reading import NAMES, Damaged, T, check_seal, read, read_plan, read_summary, some
from benchmarks.records.record import Record
from benchmarks.report.family import FAMILY, family, proposals
from benchmarks.wording import COSTS, one_line, percent, visible
from tasks.errors import BadInput

WHICH = ("all", "solved", "unsolved")
BAR = "  │ "
LONGEST, QUOTE = 4000, 60
"""Characters that are shown of one text, and of a span that is quoted beside its component."""


def show(
    record: Record,
    console: Console,
    *,
    stage: str = "final",
    which: str = "all",
    limit: int = 5,
    problem: str | None = None,
) -> None:
    """Print a run's test samples, turn by turn, with the verdicts component by component.

    Before them, where the record has one: the family tree of the instructions that the run tried.

    Args:
        record: whose samples.
        console: where to.
        stage: `base`, the untouched policy, or `final`.
        which: `all`, `solved` or `unsolved` samples.
        limit: samples at most.
        problem: only this problem's samples.

    Raises:
        BadInput: no samples in the record, or none that were asked for, an argument out of range, or a complete record
            that was changed since.
    """
    if which not in WHICH or limit < 1:
        raise BadInput(f"which={which!r} must be one of {', '.join(WHICH)}, and limit={limit} at least 1")
    if record.status == "complete":
        try:
            check_seal(record)
        except Damaged as damage:
            raise BadInput(f"{one_line(record.name)}: {damage}") from None
    rows = _read_samples(record, lambda: [_typed(row) for row in record.read_rows("samples.parquet")])
    stages = sorted({row["stage"] for row in rows})
    rows = [row for row in rows if row["stage"] == stage]
    if not rows:
        raise BadInput(f"{one_line(record.name)}: no samples of stage {stage!r}; there is {some(stages)}")
    if problem is not None:
        ids = list(dict.fromkeys(row["problem"] for row in rows))
        if problem not in ids:
            near = difflib.get_close_matches(problem, ids, n=3, cutoff=0.3) or ids
            raise BadInput(f"{one_line(record.name)}: no test problem {problem!r}; there is {some(near)}")
        rows = [row for row in rows if row["problem"] == problem]
    chosen = [row for row in rows if which == "all" or row["solved"] == (which == "solved")]
    # All of it is read before anything is printed: half a sheet would look like a whole one.
    sheets = _read_samples(record, lambda: [_sheet(row) for row in chosen[:limit]])
    for line in _header(record):
        _say(console, line)
    if (record.folder / FAMILY).is_file():
        _print(console, _family(record))
        console.print()
    _say(console, f"{len(sheets)} of {len(chosen)} {stage} samples{'' if which == 'all' else f', {which}'}")
    for sheet in sheets:
        console.print()
        _print(console, sheet)


def _read_samples(record: Record, load: Callable[[], T]) -> T:
    try:
        return read(record, "samples.parquet", load)
    except Damaged as damage:
        why = f"({damage}); a run writes them when it completes, and this one is {record.status}"
        raise BadInput(f"{one_line(record.name)}: no test samples to show {why}") from None


def _typed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "stage": str(row["stage"]), "problem": str(row["problem"]), "solved": bool(row["solved"])}


def _header(record: Record) -> list[str]:
    try:
        found = read_summary(record) if record.status == "complete" else read_plan(record)
    except Damaged as damage:
        return [record.name, f"{record.status}; {damage}"]
    plan = " · ".join(found[name] for name in NAMES[:-1])
    lines = [record.name, f"{record.status}: {plan} · seed {found['seed']}"]
    if "accuracy_final" in found:
        accuracy = f"accuracy {percent(found['accuracy_base'])} → {percent(found['accuracy_final'])}"
        accuracy += f" ({found['n_test']} problems × {found['test_samples']} samples)"
        lines.append(f"{accuracy}, stopped by {found['stopped_by']}")
        lines.append(", ".join(f"{key} {write(found[key])}" for key, write in COSTS.items() if found[key] is not None))
        correlations = ", ".join(f"{name} {value:.2f}" for name, value in found["reward_correlations"].items())
        if correlations:
            lines.append(f"rewards, correlation within groups: {correlations}")
    return lines


def _family(record: Record) -> list[tuple[str, str]]:
    try:
        return read(record, FAMILY, lambda: family(proposals(record.read_rows(FAMILY))))
    except Damaged as damage:
        return [(str(damage), "")]


def _sheet(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """One sample as pairs: a line of the sheet, and the untrusted text that stands below it."""
    outcome = "solved" if row["solved"] else "not solved"
    sheet = [(f"{row['problem']}, sample {row['sample']}: {outcome}, score {row['score']:.3f}", "")]
    turns = iter(list(enumerate(json.loads(row["turns"]), 1)))
    for message in json.loads(row["messages"]):
        if message["role"] == "assistant":
            sheet += _turn(*next(turns))
        else:
            sheet.append(("environment", str(message["content"])))
    if list(turns):
        raise ValueError("more turns than messages of the player")
    return sheet


def _turn(number: int, turn: Mapping[str, Any]) -> list[tuple[str, str]]:
    action = str(turn["action"])
    lines = [(f"turn {number}: {len(action):,} characters{', solved' if turn['solved'] else ''}", action)]
    for name, value in turn["rewards"].items():
        start, end = turn["spans"].get(name, (0, 0))
        span = one_line(action[start : min(end, start + LONGEST)])
        quoted = f"  “{span if len(span) <= QUOTE else span[:QUOTE] + '…'}”" if span else ""
        lines.append((f"  {name:<12} {value:6.3f}{quoted}", ""))
    return [*lines, ("  feedback" if turn["feedback"] else "  no feedback", str(turn["feedback"]))]


def _print(console: Console, sheet: Sequence[tuple[str, str]]) -> None:
    for line, text in sheet:
        _say(console, line)
        _quote(console, text)


def _say(console: Console, line: str) -> None:
    console.print(Text(one_line(line)))


def _quote(console: Console, text: str) -> None:
    for line in visible(text[:LONGEST]).split("\n") if text else ():
        for piece in Text(line).wrap(console, max(console.width - len(BAR), 20), overflow="fold"):
            console.print(Text.assemble((BAR, "dim"), piece))
    if len(text) > LONGEST:
        _say(console, f"  ({len(text) - LONGEST:,} more characters were cut)")
