"""The family tree of the instructions that a run tried, and what the winner changed.

It is read from `proposals.parquet`, which an algorithm may keep in the record (see `Session.keep`): one row a proposal,
the seed's first, with the columns `candidate` (its number, null where it was not kept), `parents` (numbers of
candidates), `kept`, `best`, `why`, `text` (the instructions, null where none came of it) and `score` (null where it was
not measured).

What a model proposed is untrusted: it is returned apart from the lines of the sheet, for `show` to print with care.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

FAMILY = "proposals.parquet"
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^a-z\s])")
LONGEST = 20_000
"""Characters of instructions that are compared, and"""
MOST_SENTENCES = 200
"""their sentences: the time for it grows with their square."""
MOST_PROPOSALS = 1000


def proposals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows as `family` takes them, from rows as a record holds them: a table's cell has no list, but its JSON.

    Raises:
        ValueError, TypeError, KeyError: `parents` is no JSON, or is absent.
    """
    return [{**row, "parents": json.loads(row["parents"])} for row in rows]


def family(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The sheet: pairs of a line and the untrusted text that stands below it.

    Raises:
        ValueError: rows that are no family: no seed or no single winner, a child older than its parent, or too many.
        KeyError: a column is missing.
    """
    if len(rows) > MOST_PROPOSALS:
        raise ValueError(f"{len(rows):,} proposals are too many to draw; {MOST_PROPOSALS} are drawn at most")
    kept = [row for row in rows if row["kept"]]
    if [row["candidate"] for row in kept] != list(range(len(kept))) or sum(bool(row["best"]) for row in kept) != 1:
        raise ValueError("candidates must be numbered from 0, and one of them be the best")
    if any(not 0 <= parent < number for number, row in enumerate(kept) for parent in row["parents"]):
        raise ValueError("a parent must be older than its child")
    best = next(row for row in kept if row["best"])
    children: dict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(kept[1:], 1):
        children[row["parents"][0]].append(number)
    dropped = Counter(row["parents"][0] for row in rows if not row["kept"])
    sheet = [(f"family: {len(rows) - 1} proposals, {len(kept) - 1} kept; the best is {best['candidate']}", "")]
    waiting = [(0, 0)]
    while waiting:
        number, depth = waiting.pop()
        row = kept[number]
        sheet.append(("  " * depth + _about(row, dropped[number]), _changes(kept, row)))
        waiting += [(child, depth + 1) for child in reversed(children[number])]
    sheet += [(f"not kept: {count} × {why}", "") for why, count in _reasons(rows)]
    against = difference(str(kept[0]["text"]), str(best["text"]))
    return [*sheet, ("the best instructions against the first ones", against)]


def difference(old: str, new: str) -> str:
    """Sentence by sentence: `- ` is gone, `+ ` is new, and two blanks stayed."""
    before, after = (sentences(text[:LONGEST])[:MOST_SENTENCES] for text in (old, new))
    lines = []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            lines += [f"  {part}" for part in before[i:j]]
        else:
            lines += [f"- {part}" for part in before[i:j]] + [f"+ {part}" for part in after[k:m]]
    return "\n".join(lines)


def sentences(text: str) -> list[str]:
    """A text's sentences and lines, one after the other."""
    return [part for line in text.split("\n") for part in SENTENCE_END.split(line) if part.strip()]


def _about(row: Mapping[str, Any], dropped: int) -> str:
    others = "".join(f" and {parent}" for parent in row["parents"][1:])
    score = "" if row["score"] is None else f", score {row['score']:.3f}"
    fate = f"; {dropped} of its proposals not kept" if dropped else ""
    best = ", the best" if row["best"] else ""
    return f"{row['candidate']}{f' (merged with{others[4:]})' if others else ''}{score}{best}{fate}"


def _changes(kept: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> str:
    """What differs from the first parent."""
    if not row["parents"]:
        return ""
    lines = difference(str(kept[row["parents"][0]]["text"]), str(row["text"])).split("\n")
    return "\n".join(line for line in lines if not line.startswith("  "))


def _reasons(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    return Counter(str(row["why"]) for row in rows if not row["kept"]).most_common(5)
