"""What a record says of how an algorithm learnt: credit per token of some training rollouts, and a family of prompts.

Both come from tables that algorithms keep in the record (`Session.keep`); both hold text that models wrote.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from benchmarks.records.reading import Damaged, read
from benchmarks.records.record import Record
from benchmarks.report.family import FAMILY, family, proposals
from benchmarks.report.samples import LONGEST
from benchmarks.wording import one_line, visible

CREDIT = {"first": "credit_first.parquet", "last": "credit_last.parquet"}
"""Written by `algorithms.credit_samples`: some rollouts of the first and of the last update."""


def credit(record: Record) -> dict[str, Any]:
    """The rollouts of the first and the last update, token by token; empty where the record has none.

    Returns:
        By `first` and `last`: `update`, and `rollouts`, each with its problem, score and turns; a turn has `tokens`,
        pairs of a text and its advantage (None where the token is not trained in this rollout). `fault` where a table
        is no such table.
    """
    found: dict[str, Any] = {}
    for when, file in CREDIT.items():
        if not (record.folder / file).is_file():
            continue
        try:
            found[when] = read(record, file, lambda file=file: _rollouts(record.read_rows(file)))  # type: ignore[misc]
        except Damaged as damage:
            found["fault"] = one_line(str(damage))
    return found


def _rollouts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    rollouts: dict[int, dict[str, Any]] = {}
    for row in rows:
        about = {"problem": visible(row["problem"]), "solved": bool(row["solved"]), "score": finite(row["score"])}
        rollout = rollouts.setdefault(row["rollout"], {**about, "turns": []})
        rollout["turns"].append({"tokens": _tokens(row), "rewards": _rewards(row["rewards"])})
    return {"update": int(rows[0]["update"]), "rollouts": list(rollouts.values())}


def _tokens(row: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    action, start = str(row["action"]), 0
    tokens: list[tuple[str, float | None]] = []
    # A table's cell has no list, but its JSON.
    for end, advantage in zip(json.loads(row["ends"]), json.loads(row["advantages"]), strict=True):
        if start >= LONGEST:
            tokens.append((f"({len(action) - start:,} more characters were cut)", None))
            break
        piece = action[start : min(end, LONGEST)]
        # An end token writes nothing, and is trained all the same.
        tokens.append((visible(piece) or "∎", None if advantage is None else round(finite(advantage), 3)))
        start = end
    return tokens


def _rewards(text: str) -> dict[str, float]:
    return {visible(str(name)): finite(value) for name, value in json.loads(text).items()}


def finite(value: float) -> float:
    """A number that JSON has a word for.

    Raises:
        ValueError: there is none.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} where a finite number must be")
    return float(value)


def family_tree(record: Record) -> list[dict[str, Any]]:
    """The family of instructions that a run tried, line by line; empty where the record has none.

    Returns:
        Per line its `depth` in the tree, `line`, and `changes`: lines that begin with `- `, `+ ` or two blanks.
    """
    if not (record.folder / FAMILY).is_file():
        return []
    try:
        sheet = read(record, FAMILY, lambda: family(proposals(record.read_rows(FAMILY))))
    except Damaged as damage:
        sheet = [(str(damage), "")]
    lines = []
    for line, text in sheet:
        bare = line.lstrip(" ")
        cut = f"\n  ({len(text) - LONGEST:,} more characters were cut)" if len(text) > LONGEST else ""
        changes = visible(text[:LONGEST]) + cut if text else ""
        lines.append({"depth": (len(line) - len(bare)) // 2, "line": one_line(bare), "changes": changes.split("\n")})
    return lines
