"""What the page shows of training: advantages token by token, and families of instructions."""

from __future__ import annotations

import json

import pytest
from record_factory import HOSTILE, MARKUP, write_record

from benchmarks.report.training import credit, family_tree


def strip(**changes):
    row = {"update": 1, "rollout": 3, "problem": "wordle/crane", "solved": True, "score": 1.25, "turn": 0}
    row |= {"action": "<guess>crane</guess>", "rewards": json.dumps({"solved": 1.0})}
    return {**row, "ends": [7, 12, 20, 20], "advantages": [0.0, 0.51234, -1.0, None], **changes}


def keep(folder, **changes):
    record = write_record(folder)
    record.keep("credit_last.parquet", [strip(**changes), strip(**changes, turn=1)])
    record.write_status("complete")
    return record


def test_every_token_has_its_text_and_its_advantage(tmp_path):
    found = credit(keep(tmp_path))
    assert list(found) == ["last"]
    assert found["last"]["update"] == 1
    (rollout,) = found["last"]["rollouts"]
    assert (rollout["problem"], rollout["solved"], rollout["score"]) == ("wordle/crane", True, 1.25)
    assert len(rollout["turns"]) == 2
    tokens = rollout["turns"][0]["tokens"]
    # The last token ends the action and writes nothing; it is not trained here.
    assert tokens == [("<guess>", 0.0), ("crane", 0.512), ("</guess>", -1.0), ("∎", None)]


def test_a_record_without_such_tables_has_nothing_to_show(tmp_path):
    record = write_record(tmp_path)
    assert credit(record) == {}
    assert family_tree(record) == []


@pytest.mark.parametrize(
    "changes", [{"advantages": [float("nan")] * 4}, {"rewards": "[1]"}, {"rewards": '{"a": NaN}'}, {"ends": [1]}]
)
def test_a_table_that_makes_no_sense_is_named_and_shows_nothing(tmp_path, changes):
    found = credit(keep(tmp_path, **changes))
    assert list(found) == ["fault"]
    assert found["fault"].startswith("credit_last.parquet: ")


@pytest.mark.parametrize("text", [*HOSTILE.values(), *MARKUP.values()], ids=[*HOSTILE, *MARKUP])
def test_tokens_and_instructions_of_any_text_print(tmp_path, text):
    text = text.encode("utf-8", "replace").decode()
    found = credit(keep(tmp_path / "credit", action=text, ends=[1, len(text), len(text), len(text)]))
    shown = [token for token, _ in found["last"]["rollouts"][0]["turns"][0]["tokens"]]
    assert all(c.isprintable() or c == "\n" for c in "".join(shown))
    record = write_record(tmp_path / "family")
    seed = {"candidate": 0, "parents": [], "kept": True, "best": False, "why": "", "text": "Play.", "score": 0.1}
    child = {**seed, "candidate": 1, "parents": [0], "best": True, "text": f"Play. {text}", "score": 0.2}
    refused = {**seed, "candidate": None, "parents": [0], "kept": False, "text": None, "why": text, "score": None}
    record.keep("proposals.parquet", [seed, child, refused])
    lines = family_tree(record)
    assert [each["depth"] for each in lines[:3]] == [0, 0, 1]
    assert all(c.isprintable() for each in lines for part in (each["line"], *each["changes"]) for c in part)
    assert any(line.startswith("+ ") for line in lines[2]["changes"])
