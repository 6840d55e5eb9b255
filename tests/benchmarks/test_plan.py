"""`run --dry-run`: the plan and its estimate, against a real run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.config.schema import check_config, compose_config
from benchmarks.running.ledger import Ledger
from benchmarks.running.run import run
from benchmarks.sweep.launch import launch
from benchmarks.sweep.plan import estimate, extrapolate, plan
from tasks.errors import BadInput
from tasks.wordle import Wordle, WordleConfig

SMALL = ("+algo=grpo", "budget=smoke", "policy.device=cpu", "policy.threads=1")


@pytest.mark.slow
def test_the_estimate_is_near_what_a_run_takes(tmp_path: Path) -> None:
    words = [*SMALL, "budget.updates=null", "budget.rollouts=64", f"results.dir={tmp_path}"]
    config = check_config(compose_config(words))
    found = estimate(config)
    record = run(config, Console(file=open(os.devnull, "w")), "test").record  # noqa: SIM115, PTH123
    summary = record.read_json("summary.json")
    assert (found.updates, found.stopped_by) == (summary["updates"], summary["stopped_by"]) == (8, "rollouts")
    for name, key in (("tokens", "tokens_generated"), ("flops", "flops")):
        assert 1 / 1.5 < (found.spent[name] or 0) / summary[key] < 1.5
    assert 1 / 1.5 < found.peak_memory_bytes / summary["peak_memory_bytes"] < 1.5
    # CPU seconds: on a machine that others use, wall seconds say more about them.
    assert 1 / 3 < found.cpu_s / summary["cpu_s"] < 3
    assert found.evaluation["episodes"] == summary["costs"]["evaluate"]["rollouts"]
    assert 1 / 2 < found.evaluation["flops"] / summary["costs"]["evaluate"]["flops"] < 2


def test_the_first_limit_decides_how_many_updates_there_will_be() -> None:
    words = [*SMALL, "budget.updates=9", "budget.rollouts=50", "budget.tokens=350", "budget.price_per_hour=3600"]
    config = check_config(compose_config(words))
    ledger = Ledger(clock=iter(range(1000)).__next__, meters={}, prices=config.budget.prices())
    for _ in range(2):
        with ledger.phase("rollout"):
            ledger.charge("rollout", {"rollouts": 8, "generated_tokens": 80, "flops": 1000})
        ledger.close_row({"peak_host_bytes": 5.0, "peak_device_bytes": None})
    found = extrapolate(config, ledger, Wordle(WordleConfig()))
    assert (found.updates, found.stopped_by) == (5, "tokens")
    assert found.spent["rollouts"] == 40
    assert found.spent["flops"] == 5000
    assert found.spent["joules"] is None
    assert found.spent["dollars"] == found.spent["seconds"]
    # Smoke: 4 val problems at two points of the curve, 6 test problems sampled and greedy, before and after.
    assert found.evaluation["episodes"] == 2 * 4 + 2 * 6 * 2


def test_a_plan_records_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch([*SMALL, f"results.dir={tmp_path / 'runs'}"], dry_run=True) == 0
    said = capsys.readouterr().out
    for part in ("plan: grpo on wordle with tiny", "until updates is reached", "booked apart", "price unknown"):
        assert part in said
    assert not (tmp_path / "runs").exists()


def test_base_spends_nothing_on_improving() -> None:
    assert "base spends nothing of its budget" in plan(check_config(compose_config(["+algo=base", *SMALL[1:]])))


def test_a_sweep_is_not_planned() -> None:
    with pytest.raises(BadInput, match="plans one run"):
        launch([*SMALL, "seed=0,1"], many=True, dry_run=True)
