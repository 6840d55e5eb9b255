"""One record: finding it, reading it with care, and its test samples as a referee's sheet.

What a model wrote is untrusted. It is printed as plain text, never as markup; characters that do not print (terminal
escapes, text that runs backwards, lone surrogates) appear as Python escapes; and every line of it stands behind a bar
in the margin, so that no text can pass itself off as a line of the sheet.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.text import Text

from benchmarks.record import RECORD_VERSION, Record, records
from tasks.errors import BadInput

T = TypeVar("T")
NAMES = ("algo", "task", "policy", "budget", "experiment")
UNCHECKED = ("task_version", "stopped_by", "updates", "metrics_base", "tokens_prompt", "evaluate_wall_s", "phases")
WHICH = ("all", "solved", "unsolved")
BAR = "  │ "
LONGEST, QUOTE = 4000, 60
"""Characters that are shown of one text, and of a span that is quoted beside its component."""


class Damaged(ValueError):
    """A record that cannot be used; the text is the reason."""


def percent(share: float) -> str:
    """0.314 as `31.4 %`."""
    return f"{100 * share:.1f} %"


def scientific(amount: float) -> str:
    """3.21e+12 as `3.2e12`."""
    mantissa, exponent = f"{amount:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    size, unit = (1, "s") if seconds < 120 else (60, "min") if seconds < 7200 else (3600, "h")
    return f"{seconds / size:.1f} {unit}"


def memory(amount: float) -> str:
    """Bytes as MiB or GiB."""
    return f"{amount / 2**20:.0f} MiB" if amount < 2**30 else f"{amount / 2**30:.1f} GiB"


COSTS: dict[str, Callable[[float], str]] = {
    **dict.fromkeys(("rollouts", "tokens_generated", "tokens_trained"), "{:,.0f}".format),
    "flops": scientific,
    "wall_s": duration,
    "rollouts_per_s": "{:,.1f}".format,
    "tokens_per_s": "{:,.0f}".format,
    "peak_memory_bytes": memory,
    "energy_j": "{:,.0f} J".format,
}
"""What a run costs, as summary.json names it, and how a person reads it."""


def visible(text: str) -> str:
    """Text in which every character but the line break prints; the others are Python escapes, such as \\x1b."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """Visible text whose line breaks are escapes too."""
    return visible(text).replace("\n", "\\n")


def find_record(directory: Path, wanted: str) -> Record:
    """The record with this name, with the only name that starts so, or (`last`) the one started most recently.

    Raises:
        BadInput: none or several such records; or a path, which could lead out of the directory.
    """
    if not wanted or wanted in (".", "..") or any(mark in wanted for mark in "/\\\0"):
        raise BadInput(f"{wanted!r}: give the name of a record in {directory}, or the start of one, not a path")
    # Names are only compared with what is there: nothing that the user gave becomes part of a path.
    found = {record.name: record for record in records(directory)}
    if not found:
        raise BadInput(f"{directory}: there are no records yet; python -m benchmarks run +algo=grpo makes one")
    if wanted == "last":
        return max(found.values(), key=_started)
    starting = [wanted] if wanted in found else [name for name in found if name.startswith(wanted)]
    if len(starting) == 1:
        return found[starting[0]]
    near = starting or difflib.get_close_matches(wanted, found, n=3, cutoff=0.3) or list(found)
    what = f"{len(starting)} records start so" if starting else "no such record"
    raise BadInput(f"{wanted!r}: {what} in {directory}; there is {_some(near)}")


def _some(names: Sequence[str], most: int = 5) -> str:
    return one_line(", ".join(names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def _started(record: Record) -> tuple[datetime, str]:
    """When a run started; a run that does not say so counts as the oldest."""
    try:
        when = datetime.fromisoformat(record.read_json("manifest.json")["started"])
    except (OSError, ValueError, LookupError, TypeError):
        when = datetime.min
    return (when if when.tzinfo else when.replace(tzinfo=UTC)), record.name


def read(record: Record, file: str, load: Callable[[], T]) -> T:
    """What `load` makes of a file of the record.

    Raises:
        Damaged: there is no such file, or it cannot be read.
    """
    if not (record.folder / file).is_file():
        raise Damaged(f"{file}: missing")
    try:
        return load()
    # A damaged file makes JSON, YAML and Arrow raise nearly anything; all of it means the same.
    except Exception as error:
        raise Damaged(one_line(f"{file}: {type(error).__name__}: {error}"[:300])) from None


def read_summary(record: Record) -> dict[str, Any]:
    """The summary of a complete run, checked.

    Raises:
        Damaged: absent, unreadable, of another record version, or with a missing or impossible value.
    """
    summary = read(record, "summary.json", lambda: record.read_json("summary.json"))
    if not isinstance(summary, dict) or summary.get("record_version") != RECORD_VERSION:
        raise Damaged(f"summary.json: must be an object with record_version {RECORD_VERSION}")
    checks: dict[str, Callable[[Any], bool]] = {
        **dict.fromkeys(NAMES, _is_name),
        **dict.fromkeys(("seed", "n_test", "test_samples"), lambda value: type(value) is int and value >= 0),
        **dict.fromkeys(("accuracy_base", "accuracy_final"), lambda value: _is_number(value, 0, 1)),
        **dict.fromkeys(COSTS, lambda value: value is None or _is_number(value, 0)),  # Not measurable: null.
        "metrics_final": lambda value: type(value) is dict and all(map(_is_name, value)),
        **dict.fromkeys(UNCHECKED, lambda value: True),
    }
    missing = [key for key in checks if key not in summary]
    if missing:
        raise Damaged(f"summary.json: lacks {', '.join(missing)}")
    wrong = [key for key, fits in checks.items() if not fits(summary[key])]
    wrong += [] if "metrics_final" in wrong else [k for k, v in summary["metrics_final"].items() if not _is_number(v)]
    if wrong:
        raise Damaged(f"summary.json: impossible value of {', '.join(wrong)}")
    return summary


def read_plan(record: Record) -> dict[str, Any]:
    """What a run was to be, from config.yaml and manifest.json: per entry of `NAMES` a string, and `seed`, an integer.

    Raises:
        Damaged: either file is absent, unreadable, or lacks one of them.
    """
    from omegaconf import OmegaConf

    path = record.folder / "config.yaml"
    config: Any = read(record, "config.yaml", lambda: OmegaConf.to_container(OmegaConf.load(path), resolve=False))
    manifest: Any = read(record, "manifest.json", lambda: record.read_json("manifest.json"))
    try:
        plan = {name: config[name]["name"] for name in NAMES[:-1]}
        plan |= {"experiment": manifest["experiment"], "seed": config["seed"]}
    except (LookupError, TypeError):
        plan = {}
    if not plan or not all(_is_name(plan[name]) for name in NAMES) or type(plan["seed"]) is not int:
        raise Damaged(f"config.yaml and manifest.json: must name {', '.join(NAMES)} and seed")
    return plan


def _is_name(value: object) -> bool:
    """Names end up on terminals and in CSV files: nothing that does not print may hide in one."""
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


def _is_number(value: object, low: float = -sys.float_info.max, high: float = sys.float_info.max) -> bool:
    """Finite, and short enough for a float: NaN fails the comparison, as does an integer of 400 digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


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

    Args:
        record: whose samples.
        console: where to.
        stage: `base`, the untouched policy, or `final`.
        which: `all`, `solved` or `unsolved` samples.
        limit: samples at most.
        problem: only this problem's samples.

    Raises:
        BadInput: no samples in the record, or none that were asked for, or an argument out of range.
    """
    if which not in WHICH or limit < 1:
        raise BadInput(f"which={which!r} must be one of {', '.join(WHICH)}, and limit={limit} at least 1")
    rows = _read_samples(record, lambda: [_typed(row) for row in record.read_rows("samples.parquet")])
    stages = sorted({row["stage"] for row in rows})
    rows = [row for row in rows if row["stage"] == stage]
    if not rows:
        raise BadInput(f"{one_line(record.name)}: no samples of stage {stage!r}; there is {_some(stages)}")
    if problem is not None:
        ids = list(dict.fromkeys(row["problem"] for row in rows))
        if problem not in ids:
            near = difflib.get_close_matches(problem, ids, n=3, cutoff=0.3) or ids
            raise BadInput(f"{one_line(record.name)}: no test problem {problem!r}; there is {_some(near)}")
        rows = [row for row in rows if row["problem"] == problem]
    chosen = [row for row in rows if which == "all" or row["solved"] == (which == "solved")]
    # All of it is read before anything is printed: half a sheet would look like a whole one.
    sheets = _read_samples(record, lambda: [_sheet(row) for row in chosen[:limit]])
    for line in _header(record):
        _say(console, line)
    _say(console, f"{len(sheets)} of {len(chosen)} {stage} samples{'' if which == 'all' else f', {which}'}")
    for sheet in sheets:
        console.print()
        for line, text in sheet:
            _say(console, line)
            _quote(console, text)


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
    return lines


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


def _say(console: Console, line: str) -> None:
    console.print(Text(one_line(line)))


def _quote(console: Console, text: str) -> None:
    for line in visible(text[:LONGEST]).split("\n") if text else ():
        for piece in Text(line).wrap(console, max(console.width - len(BAR), 20), overflow="fold"):
            console.print(Text.assemble((BAR, "dim"), piece))
    if len(text) > LONGEST:
        _say(console, f"  ({len(text) - LONGEST:,} more characters were cut)")
