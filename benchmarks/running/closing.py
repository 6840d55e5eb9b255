"""The end of a run: the final and the starting policy are evaluated, and the record is closed.

Only here, after the algorithm is done, are test problems played.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.config.plugins import find, load
from benchmarks.running.capability import Capability, action_logprobs, measure_capability
from benchmarks.running.distributed import ended_alike
from benchmarks.running.start_evaluation import Shelf, StartEvaluation
from benchmarks.running.starting import load_start
from benchmarks.running.summary import summary
from policies.source import Source
from tasks.api import Task
from tasks.errors import require

if TYPE_CHECKING:
    from benchmarks.config.schema import RunConfig
    from benchmarks.running.session import RunSession

COSTS = ("wall_s", "cpu_s", "rollouts", "prompt_tokens", "generated_tokens", "flops")
"""What is told of the evaluation that a run reused."""


def find_other_task(config: RunConfig) -> Task | None:
    """The task on which forgetting is measured.

    Raises:
        BadInput: there is no such task, or it is the run's own.
    """
    name = config.evaluate.other_task
    if name is None:
        return None
    require(name != config.task.name, f"evaluate.other_task={name}: name another task than the run's own")
    found = load(find("tasks", name))
    task: Task = found(found.Config())
    return task


def close(config: RunConfig, session: RunSession, source: Source, manifest: Mapping[str, Any], shelf: Shelf) -> None:
    """Evaluate the final and the starting policy and end the record."""
    session.open()
    ended_alike(session)
    if session.curve[-1]["spent/updates"] != len(session.ledger.rows):
        session.checkpoint()
    other = find_other_task(config)
    state = session.policy.state_hash()
    final: Capability | None = None
    after: list[float] = []
    if state != manifest["policy_state"]:
        final = measure_capability(session, session.policy, "final", other)
        if config.evaluate.kl:
            after = action_logprobs(session, session.policy, final.rollouts)
    if config.results.keep_policy:
        with session.ledger.phase("record"):
            session.record.keep_policy(session.policy.save)
    restore_start(config, session, source, manifest)
    before = action_logprobs(session, session.policy, final.rollouts) if final and after else []
    base, reused = evaluate_start(session, shelf, other)
    final = final or base.restaged("final")  # Equal hashes play equally.
    measured = {
        "n_test": len(config.evaluate.problems(session.task, "test")),
        "policy_state": state,
        **gains(base, final),
        "kl_per_token": (sum(after) - sum(before)) / max(len(after), 1) if config.evaluate.kl else None,
        "kl_tokens": len(after) if config.evaluate.kl else None,
        "reused_evaluation": reused,
    }
    with session.ledger.phase("record"):
        for file in final.tables:
            if rows := base.tables[file] + final.tables[file]:
                session.record.write_rows(file, rows)
        session.add_up()
        session.save()
        # In this phase, so that no cost of the algorithm moves while it is summed up.
        session.record.write_json("summary.json", summary(session, manifest, measured))
    session.record.write_status("complete")


def restore_start(config: RunConfig, session: RunSession, source: Source, manifest: Mapping[str, Any]) -> None:
    """Give the session the starting policy in place of the final one, so that never more than one is in memory."""
    from benchmarks.running.out_of_memory import free_memory

    with session.ledger.phase("load"):
        session.policy.instructions = session.start_instructions
        if session.policy.state_hash() == manifest["policy_state"]:
            return  # Only its instructions had changed.
        session.policy.model = None
        free_memory()
        session.policy = load_start(config, source, session.task)


def evaluate_start(session: RunSession, shelf: Shelf, other: Task | None) -> tuple[Capability, dict[str, Any] | None]:
    """The starting policy's evaluation: another run's where there is one, or made now and left for others.

    Returns:
        It, and its key with what it cost the run that made it; None if that is this one.
    """
    with shelf.locked():
        known = shelf.read()
        if known and known.made_by == session.record.name:
            # Made by this very run, which was interrupted before it could put the cost on record.
            session.ledger.inherit("evaluate", known.costs)
            return known.capability, None
        if known:
            session.progress.say(f"the starting policy's evaluation is reused: {shelf.key}")
            return known.capability, {"key": shelf.key, **known.costs}
        booked = session.ledger.by_phase().get("evaluate", {})
        base = measure_capability(session, session.policy, "base", other)
        now = session.ledger.by_phase().get("evaluate", {})
        costs = {name: (now.get(name) or 0.0) - (booked.get(name) or 0.0) for name in COSTS}
        start = session.curve[0].items()
        val = {name: value for name, value in start if value is not None and not name.startswith("spent/")}
        shelf.write(StartEvaluation(val, base, costs, session.record.name))
        return base, None


def gains(base: Capability, final: Capability) -> dict[str, Any]:
    """What the evaluations found, by `NAME_base` and `NAME_final`, and the differences between them."""
    found = {
        f"{name}_{stage}": value
        for stage, each in (("base", base), ("final", final))
        for name, value in each.numbers.items()
    }
    kept = found["accuracy_other_base"], found["accuracy_other_final"]
    return {
        **found,
        "gain": found["accuracy_final"] - found["accuracy_base"],
        "gain_tstar": found["accuracy_tstar_final"] - found["accuracy_tstar_base"],
        "forgotten": None if None in kept else kept[0] - kept[1],
    }
