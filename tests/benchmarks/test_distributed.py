"""What is different about a run that several processes make together, looked at in one of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from broken_off import configured

from benchmarks.records.record import Record
from benchmarks.resume.state import StateStore
from benchmarks.running.distributed import reason, refuse_undividable
from benchmarks.running.ledger import Ledger
from benchmarks.sweep.campaign import campaign
from benchmarks.sweep.launch import launch
from policies import ranks
from tasks.errors import BadInput, RunFailed


@pytest.fixture
def third_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this were the last of three processes."""
    monkeypatch.setattr(ranks, "_here", ranks.Place(rank=2, count=3, local=2))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("+algo=grpo",), r"2 problems x \d rollouts do not divide among 3 processes"),
        (("+algo=fork_grpo", "task.max_turns=2", "batch.group_size=4"), "2 problems x 16 rollouts do not divide"),
        (("+algo=grpo", "batch.problems=3", "policy.sampler=hf"), "policy.sampler=hf has one random stream"),
        (("+algo=grpo", "batch.problems=3", "budget.on_oom=halve"), "budget.on_oom=halve: a run in 3 processes cannot"),
        (("+algo=base", "policy.device=cuda:1"), "policy.device=cuda:1: a run in 3 processes gives each one its own"),
        (("+algo=gepa", "algo.reflector=endpoint", "algo.endpoint.model=m"), "algo.reflector=endpoint: a run in 3"),
    ],
)
@pytest.mark.usefixtures("third_of_three")
def test_what_cannot_be_divided_is_refused_in_a_line(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    config = configured(tmp_path, *words)
    with pytest.raises(BadInput, match=message):
        refuse_undividable(config, config.task_class(config.task))


@pytest.mark.parametrize("words", [("+algo=grpo", "batch.problems=3"), ("+algo=gepa",), ("+algo=base",)])
@pytest.mark.usefixtures("third_of_three")
def test_what_can_be_divided_is_not_refused(words: tuple[str, ...], tmp_path: Path) -> None:
    config = configured(tmp_path, *words)
    refuse_undividable(config, config.task_class(config.task))


@pytest.mark.parametrize("how", ["many", "dry_run"])
@pytest.mark.usefixtures("third_of_three")
def test_sweeps_and_plans_are_made_in_one_process(how: str) -> None:
    with pytest.raises(BadInput, match="work in one process"):
        launch(["+algo=grpo"], **{how: True})


def test_a_campaign_does_not_start_below_a_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ranks.STARTED_WITH:
        monkeypatch.setenv(name, "2")
    with pytest.raises(BadInput, match="start it without the launcher"):
        campaign([], tmp_path / "state", None, print)
    assert not (tmp_path / "state").exists()


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    record, states = Record(tmp_path / "run", writable=False), StateStore(tmp_path / "run", writable=False)
    Record(tmp_path / "run").folder.mkdir()
    record.keep("credit_first.parquet", [{"update": 1}])
    record.write_json("summary.json", {})
    record.write_status("complete")
    record.clear()
    record.keep_policy(lambda folder: folder.mkdir())
    states.save(1, {}, {}, [])
    assert list((tmp_path / "run").iterdir()) == []


def test_meters_of_other_processes_are_added_and_their_clocks_are_not() -> None:
    first, second = (Ledger(clock=iter(range(100)).__next__, meters={"cpu_s": iter(range(100)).__next__}) for _ in "ab")
    for ledger in (first, second):
        with ledger.phase("rollout"):
            pass
        ledger.charge("rollout", {"rollouts": 8})
    first.merge(second.drain())
    costs = first.by_phase()["rollout"]
    assert (costs["wall_s"], costs["cpu_s"], costs["rollouts"]) == (1, 2, 8)
    first.merge(second.drain())
    assert first.by_phase()["rollout"]["cpu_s"] == 2, "nothing is lent twice"


def test_the_end_of_another_process_is_the_reason_and_a_fault_of_ones_own_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranks, "ended_by", lambda: "process 1: ValueError: a fault")
    felt = reason(RuntimeError("Connection closed by peer"))
    assert isinstance(felt, RunFailed)
    assert str(felt) == "process 1: ValueError: a fault"
    for own in (BadInput("mine"), RunFailed("mine"), ValueError("mine"), MemoryError()):
        assert reason(own) is own
    monkeypatch.setattr(ranks, "ended_by", lambda: ranks.INTERRUPTED)
    assert isinstance(reason(RuntimeError("Connection closed by peer")), KeyboardInterrupt)
