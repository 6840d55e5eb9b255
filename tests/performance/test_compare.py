"""compare.py fails past 15%, and judges by what is comparable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import compare
import pytest
from bench import lines, summed_up


def case(ours: float, theirs: float, measured_at: int = 0) -> dict[str, Any]:
    """A case with one round."""
    sides = {name: {"wall_s": 3 * cpu_s, "cpu_s": cpu_s} for name, cpu_s in (("ours", ours), ("theirs", theirs))}
    about = {"about": "", "unit": "game", "targets": {"theirs": 0.8}, "device": "cpu"}
    return summed_up([about | {"sides": sides}]) | {"measured_at": measured_at}


def test_a_ratio_is_the_median_of_those_within_rounds() -> None:
    about = {"about": "", "unit": "game", "targets": {"b": 0.8}, "device": "cpu"}
    rounds = [{"a": 1.0, "b": 2.0}, {"a": 9.0, "b": 10.0}, {"a": 3.0, "b": 5.0}]
    found = summed_up(
        [about | {"sides": {side: {"wall_s": s, "cpu_s": s} for side, s in each.items()}} for each in rounds]
    )
    assert found["ratios"]["b"]["wall_s"] == 0.6
    assert "ours/it: 0.600 wall" in lines("x", found)[-1]


@pytest.mark.parametrize(("now", "code"), [(1.14, False), (1.16, True)])
def test_a_comparison_fails_past_fifteen_percent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: float, code: bool
) -> None:
    for name, ours, at in (("new", now, 2), ("old", 1.0, 1), ("ancient", 0.1, 0)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"cases": {"games": case(ours, 2.0, at)}}))
    monkeypatch.setattr(compare, "STORE", tmp_path)
    monkeypatch.setattr("sys.argv", ["compare.py"])
    with pytest.raises(SystemExit) as ended:
        compare.main()
    assert ended.value.code is code


def test_a_slower_machine_is_no_regression() -> None:
    old, new = {"cases": {"games": case(1.0, 2.0)}}, {"cases": {"games": case(7.0, 14.0)}}
    assert compare.compared(old, new) == [("games: to theirs", 0.5, 0.5)]
