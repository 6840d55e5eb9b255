"""A run in two processes comes to what one process comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import several_processes
import torch
from processes import ended, started
from several_processes import BROKEN, CASES, RESUMED, watched

from benchmarks.records.record import records

pytestmark = pytest.mark.slow


def launched(folder: Path, *names: str) -> list[int]:
    """Exit codes of two processes; what they said is shown where the test fails."""
    codes = []
    for code, said in ended(started(2, [several_processes.__file__, str(folder), *names])):
        print(said)
        codes.append(code)
    return codes


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where two processes left what they saw of every case, and then a run in which one of them failed."""
    folder = tmp_path_factory.mktemp("together")
    assert launched(folder, *CASES, BROKEN) == [1, 1]
    return folder


def seen(folder: Path, name: str, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / f"{name}-{rank}.pt")
    return found


def moved(run: dict[str, Any]) -> torch.Tensor:
    return torch.cat([(each - run["start"][name]).flatten() for name, each in run["weights"].items()])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_play_credit_learn_and_spend_what_one_does(name: str, together: Path, tmp_path: Path) -> None:
    alone = watched(tmp_path, CASES[name])
    first, second = (seen(together, name, rank) for rank in range(2))
    assert first["rollouts"] == second["rollouts"] == alone["rollouts"]
    assert first["costs"] == alone["costs"]
    assert first["solved"] == alone["solved"]
    assert first["proposals"] == alone["proposals"]
    assert first["instructions"] == second["instructions"] == alone["instructions"]
    for ours, theirs in zip(first["advantages"], alone["advantages"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(weights, second["weights"][key]) for key, weights in first["weights"].items())
    # Of gradients, too: Adam's step does not tell one that is twice as large.
    for ours, theirs in zip(first["losses"], alone["losses"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    ours, theirs = moved(first), moved(alone)
    assert not alone["losses"] or float(theirs.norm()) > 0, "nothing was learned: an empty comparison"
    # Adam turns rounding errors of gradients that are nearly 0 into visible steps of a few single weights.
    assert float((ours - theirs).norm()) <= 1e-2 * float(theirs.norm())


@pytest.mark.slow
def test_a_fault_in_one_process_is_on_record_and_the_same_processes_go_on_to_the_same_end(together: Path) -> None:
    (record,) = records(together / "broken")
    assert record.status == "failed"
    assert record.read("error.txt").decode() == "process 1: Killed\n"
    assert launched(together, RESUMED) == [0, 0]
    resumed, whole = seen(together, RESUMED, 0), seen(together, "grpo", 0)
    assert [each["after_update"] for each in record.read_json("manifest.json")["resumed"]] == [1]
    assert resumed["rollouts"] == whole["rollouts"][1:]
    assert resumed["costs"] == whole["costs"]
    assert all(torch.equal(weights, whole["weights"][key]) for key, weights in resumed["weights"].items())
