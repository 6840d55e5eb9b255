"""What models wrote on test problems, prepared for the page: cut to size, made visible, and marked up as data.

All text is untrusted. It leaves here as plain characters that print (`benchmarks.wording.visible`), in pieces that name
what they are; the page puts every piece into a text node.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.records.reading import Damaged, read
from benchmarks.records.record import Record
from benchmarks.report.gather import Setting
from benchmarks.wording import visible
from tasks.clues import LENGTH, marks
from tasks.solutions import equations
from tasks.wordle import GUESS, SYMBOL

LONGEST = 4000
"""Characters that are shown of one text."""
UNTOUCHED = "before"
"""What the samples of the policy before improving are called, beside the algorithms."""
Piece = tuple[str, str]
"""A text and what it is: `text`, `right` and `wrong` (an equation), `cut` (how much is missing)."""


def samples(setting: Setting, directory: Path, samples_each: int = 2) -> dict[str, Any]:
    """The test samples of each plotted experiment's first seed, and those of the policy before improving.

    Returns:
        `problems`: per problem id, per label, a list of samples; `from`: per label the record they come from; `turns`:
        the most turns that one of them has.
    """
    found: dict[str, dict[str, list[Any]]] = {}
    sources: dict[str, str] = {}
    for experiment in setting.plotted:
        record = Record(directory / experiment.complete[0].name)
        rows = _rows(record)
        stages = {experiment.label: "final"} if UNTOUCHED in sources else {UNTOUCHED: "base", experiment.label: "final"}
        for label, stage in stages.items():
            sources[label] = record.name
            for row in rows:
                if row["stage"] == stage and row["sample"] < samples_each:
                    found.setdefault(visible(row["problem"]), {}).setdefault(visible(label), []).append(_sample(row))
    shown = [sample for by_label in found.values() for samples in by_label.values() for sample in samples]
    turns = max((len(sample["turns"]) for sample in shown), default=0)
    return {"problems": found, "from": {visible(label): name for label, name in sources.items()}, "turns": turns}


def _rows(record: Record) -> list[dict[str, Any]]:
    try:
        return read(record, "samples.parquet", lambda: record.read_rows("samples.parquet"))
    except Damaged:
        return []  # Changed between being read and now: the next report sets it aside.


def _sample(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of samples.parquet; where turns and messages are no such JSON, what is there stands as text."""
    try:
        turns, messages = json.loads(row["turns"]), json.loads(row["messages"])
        made = [prepared(turn, row["problem"]) for turn in turns]
        asked = [_pieces(str(m["content"]), ()) for m in messages if m["role"] != "assistant"]
    except (ValueError, LookupError, TypeError, AttributeError):
        made, asked = [], [_pieces(str(row["turns"]), ())]
    return {
        "solved": bool(row["solved"]),
        "score": row["score"] if math.isfinite(row["score"]) else None,
        "length": sum(turn["length"] for turn in made),
        "ill_formed": any(_faulty(turn["rewards"]) for turn in made),
        "asked": asked,
        "turns": made,
    }


def _faulty(rewards: Mapping[str, float]) -> bool:
    """Format is judged as 1 or 0 (gsm8k), or as a fault, 0 or -1 (wordle)."""
    return rewards.get("format", 1.0) <= (0.0 if "steps" in rewards else -1.0)


def prepared(turn: Mapping[str, Any], problem: str) -> dict[str, Any]:
    """One turn: its action in pieces, tiles where a word was guessed, and the verdict.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it is not as the runner writes it.
    """
    action = str(turn["action"])
    rewards = {visible(str(name)): float(value) for name, value in turn["rewards"].items()}
    if not all(map(math.isfinite, rewards.values())):
        raise ValueError("every reward must be a finite number")
    spans = {visible(str(name)): action[start : min(end, start + 60)] for name, (start, end) in turn["spans"].items()}
    found = [(e.start, e.end, "right" if e.right else "wrong") for e in equations(action[:LONGEST])]
    return {
        "length": len(action),
        "action": _pieces(action, found if "steps" in rewards else ()),
        "tiles": tiles(action, problem, bool(turn["solved"])) if "consistent" in rewards else "",
        "rewards": rewards,
        "spans": {name: visible(text) for name, text in spans.items()},
        "feedback": visible(str(turn["feedback"])[:LONGEST]),
        "solved": bool(turn["solved"]),
    }


def tiles(action: str, problem: str, solved: bool) -> str:
    """Letter and mark in turn, `c-r+a?n-e-`; nothing where no word was guessed. A problem's id ends in its secret."""
    match = GUESS.search(action)
    guess, secret = (match.group(1).strip().lower() if match else ""), problem.rpartition("/")[2]
    if not all(len(word) == LENGTH and word.isascii() and word.isalpha() for word in (guess, secret)):
        return ""
    return "".join(letter + SYMBOL[mark] for letter, mark in zip(guess, marks(guess, secret), strict=True))


def _pieces(text: str, marked: Sequence[tuple[int, int, str]]) -> list[Piece]:
    pieces, at = [], 0
    shown = text[:LONGEST]
    for start, end, kind in marked:
        if start >= at:
            pieces += [(shown[at:start], "text"), (shown[start:end], kind)]
            at = end
    pieces.append((shown[at:], "text"))
    if len(text) > LONGEST:
        pieces.append((f"({len(text) - LONGEST:,} more characters were cut)", "cut"))
    return [(visible(piece), kind) for piece, kind in pieces if piece]
