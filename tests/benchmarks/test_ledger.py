"""Costs are booked once, to one phase, and add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.config.budget import LIMITS, BudgetConfig, Prices
from benchmarks.running.ledger import Ledger
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


def test_a_mean_of_a_column_is_over_the_updates_that_have_it() -> None:
    ledger = Ledger(clock=Clock())
    for metrics in ({"corr/a_b": 0.5, "reward": 1.0}, {"corr/a_b": None}, {"corr/a_b": 1.0, "corr/sum_solved": 0.25}):
        ledger.close_row(metrics)
    assert ledger.means("corr/") == {"a_b": 0.75, "sum_solved": 0.25}


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


def test_every_meter_runs_for_exactly_one_phase() -> None:
    clock, joules = Clock(), Clock()
    ledger = Ledger(clock=clock, meters={"energy_j": joules})
    with ledger.phase("update"):
        joules.now += 3
        with ledger.phase("rollout"):
            joules.now += 4
    with ledger.phase("evaluate"):
        joules.now += 10
    costs = ledger.by_phase()
    assert [costs[phase]["energy_j"] for phase in ("update", "rollout", "evaluate")] == [3, 4, 10]
    assert ledger.spent()["joules"] == 7


def test_what_has_no_meter_and_no_price_is_null_and_not_zero() -> None:
    ledger = Ledger(clock=Clock(), meters={})
    with ledger.phase("rollout"):
        ledger.charge("rollout", {"flops": 10})
    ledger.close_row({})
    for name in ("cpu_s", "gpu_s", "energy_j", "dollars"):
        assert ledger.rows[0][f"rollout/{name}"] is None
    assert ledger.spent()["joules"] is None
    assert ledger.spent()["dollars"] is None


def test_a_rate_is_flops_over_seconds_and_mfu_its_share_of_the_peak() -> None:
    clock = Clock()
    ledger = Ledger(clock=clock, peak_flops_per_s=1000.0)
    with ledger.phase("rollout"):
        clock.now += 4
        ledger.charge("rollout", {"flops": 800})
    ledger.close_row({})
    assert ledger.rows[0]["rollout/flops_per_s"] == 200
    assert ledger.rows[0]["rollout/mfu"] == 0.2


def test_loading_and_writing_the_record_are_not_charged() -> None:
    clock = Clock()
    ledger = Ledger(clock=clock, prices=Prices(per_hour=3600))
    for phase, seconds in (("load", 7), ("record", 5), ("update", 2), ("other", 1)):
        with ledger.phase(phase):
            clock.now += seconds
    assert ledger.spent()["seconds"] == ledger.spent()["dollars"] == 3
    assert sum(ledger.phases().values()) == 15


def test_tokens_of_a_remote_reflector_have_a_price_and_no_flops() -> None:
    ledger = Ledger(clock=Clock(), prices=Prices(per_hour=0.0, per_remote_token=0.5))
    ledger.charge("rollout", {"generated_tokens": 30, "flops": 10})
    ledger.charge("reflect", {"reflected_tokens": 8})
    ledger.close_row({})
    assert ledger.spent()["flops"] is None
    assert ledger.spent()["tokens"] == 38
    assert ledger.spent()["dollars"] == 4
    assert ledger.rows[0]["reflect/flops"] is None
    assert ledger.rows[0]["rollout/flops"] == 10


def test_tokens_of_a_remote_reflector_without_a_price_make_the_dollars_null() -> None:
    ledger = Ledger(clock=Clock(), prices=Prices(per_hour=1.0))
    assert ledger.spent()["dollars"] == 0
    ledger.charge("reflect", {"reflected_tokens": 8})
    assert ledger.spent()["dollars"] is None


def test_a_local_reflector_is_charged_tokens_and_flops() -> None:
    ledger = Ledger(clock=Clock())
    ledger.charge("reflect", {"reflected_tokens": 8, "flops": 100})
    assert (ledger.spent()["tokens"], ledger.spent()["flops"]) == (8, 100)


def test_the_nearest_limit_decides() -> None:
    budget = BudgetConfig(name="b", flops=100, updates=10)
    spent: dict[str, float | None] = {"flops": 60.0, "updates": 9.0}
    assert budget.share(spent) == (0.9, "updates")


@pytest.mark.parametrize("limit", LIMITS)
def test_every_limit_is_one_of_the_costs(limit: str) -> None:
    budget = BudgetConfig(name="b", **{limit: 4}, price_per_hour=0.0)  # type: ignore[arg-type]
    clock = Clock()
    ledger = Ledger(clock=clock, meters={"energy_j": clock}, prices=Prices(per_hour=3600.0))
    with ledger.phase("rollout"):
        ledger.charge("rollout", {"flops": 2, "rollouts": 2, "generated_tokens": 2})
        clock.now += 2
    ledger.close_row({})
    ledger.close_row({})
    assert budget.share(ledger.spent()) == (0.5, limit)


def test_a_limit_on_what_turns_out_unmeasurable_is_not_held_to_be_kept() -> None:
    with pytest.raises(BadInput, match="cannot be measured"):
        BudgetConfig(name="b", flops=100).share({"flops": None})


@pytest.mark.parametrize("limits", [{}, {"flops": 0}, {"flops": -1.0}, {"updates": 0}, {"flops": float("nan")}])
def test_a_budget_without_a_limit_above_zero_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="budget"):
        BudgetConfig(name="b", **limits)  # type: ignore[arg-type]
