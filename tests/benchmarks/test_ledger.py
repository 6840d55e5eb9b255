"""Costs are booked once, to one phase, and add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.budget import BudgetConfig
from benchmarks.ledger import Ledger
from tasks.errors import BadInput


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_inside_a_nested_phase_is_not_booked_to_the_outer_one() -> None:
    clock = Clock()
    ledger = Ledger(clock=clock)
    with ledger.phase("update"):
        clock.now += 2
        with ledger.phase("rollout"):
            clock.now += 5
        clock.now += 1
    assert ledger.totals["update/wall_s"] == 3
    assert ledger.totals["rollout/wall_s"] == 5


@given(st.lists(st.tuples(st.sampled_from(["rollout", "update", "evaluate"]), st.floats(0, 10)), max_size=20))
def test_phases_sum_to_the_wall_time(pieces: list[tuple[str, float]]) -> None:
    clock = Clock()
    ledger = Ledger(clock=clock)
    with ledger.phase("update"):
        for name, seconds in pieces:
            with ledger.phase(name):
                clock.now += seconds
            clock.now += 0.5
    booked = ledger.total("wall_s") + ledger.total("wall_s", evaluation=True)
    assert booked == pytest.approx(clock.now)


def test_moving_time_between_phases_keeps_the_sum() -> None:
    ledger = Ledger(clock=Clock())
    ledger.totals["rollout/wall_s"] = 4.0
    ledger.move("rollout", "score", 1.5)
    assert (ledger.totals["rollout/wall_s"], ledger.totals["score/wall_s"]) == (2.5, 1.5)


def test_a_row_holds_what_was_booked_since_the_last() -> None:
    ledger = Ledger(clock=Clock())
    ledger.charge("rollout", {"rollouts": 8})
    ledger.close_row({"reward": 1.0})
    ledger.charge("rollout", {"rollouts": 3})
    ledger.close_row({})
    assert [row["rollout/rollouts"] for row in ledger.rows] == [8, 3]
    assert ledger.rows[0]["reward"] == 1.0


def test_evaluation_is_never_charged_to_the_algorithm() -> None:
    ledger = Ledger(clock=Clock())
    ledger.charge("rollout", {"rollouts": 8, "flops": 10})
    ledger.charge("evaluate", {"rollouts": 100, "flops": 1000})
    assert ledger.spent()["rollouts"] == 8
    assert ledger.spent()["flops"] == 10
    assert ledger.total("rollouts", evaluation=True) == 100


@pytest.mark.parametrize(
    ("phase", "amounts"), [("rest", {"flops": 1}), ("update", {"joy": 1}), ("update", {"flops": -1})]
)
def test_what_cannot_be_booked_is_refused(phase: str, amounts: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="cannot book"):
        Ledger().charge(phase, amounts)


def test_the_nearest_limit_decides() -> None:
    budget = BudgetConfig(name="b", flops=100, updates=10)
    spent = {"flops": 60.0, "rollouts": 0.0, "tokens": 0.0, "updates": 9.0, "seconds": 0.0}
    assert budget.share(spent) == (0.9, "updates")


@pytest.mark.parametrize("limits", [{}, {"flops": 0}, {"flops": -1.0}, {"updates": 0}, {"flops": float("nan")}])
def test_a_budget_without_a_limit_above_zero_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="budget"):
        BudgetConfig(name="b", **limits)  # type: ignore[arg-type]
