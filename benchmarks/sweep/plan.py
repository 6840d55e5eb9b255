"""What a run would cost, before it is run: `run --dry-run`.

The estimate is measured, not derived: two updates of the real algorithm are made on this device with a copy of the
policy, nothing is recorded, and what they took is extrapolated to the first limit of the budget. The first of them
warms up; the second alone says how long an update takes. Evaluation is extrapolated from the episodes played.

It takes all later updates for like the first two. Episodes that grow or shrink while a policy learns shift it;
tests/benchmarks/test_plan.py holds it to a factor of 1.5 in tokens, FLOPs and memory, and of 3 in CPU seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.config.schema import RunConfig
from benchmarks.running.ledger import Ledger
from benchmarks.running.preflight import asks_endpoint, memory_lines, refuse_unfit, refuse_unmeasurable
from benchmarks.running.rehearsal import rehearsal
from benchmarks.running.starting import equip, load_start
from benchmarks.wording import duration, memory, scientific
from tasks.api import Task

REHEARSED = 2
"""Updates that are made for the estimate and thrown away."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will take, evaluation apart; None where it cannot be measured here."""

    updates: float
    stopped_by: str
    spent: dict[str, float | None]
    """Under the names of the budget's limits."""
    cpu_s: float
    evaluation: dict[str, float]
    """episodes, tokens, flops, seconds."""
    peak_memory_bytes: float
    rehearsal_s: float


def plan(config: RunConfig) -> str:
    """The plan of a run with its estimate, as text.

    Raises:
        BadInput: something in the configuration cannot be.
    """
    task: Task = config.task_class(config.task)
    refuse_unmeasurable(config)
    source = config.source
    limits = ", ".join(f"{name} {limit:g}" for name, limit in config.budget.limits().items())
    refuse_unfit(config, source, task)
    lines = [
        f"plan: {config.algo.name} on {task.name} with {config.policy.name} ({source.label}), seed {config.seed}",
        f"record: {config.results.where}/{config.run_name(task.fingerprint())}",
        f"budget {config.budget.name}: {limits}; {config.budget.checkpoints} points of the curve after the first",
        *memory_lines(config, source, task),
        *warm_start_lines(config, task),
    ]
    if not config.algorithm_class.spends_budget:
        return "\n".join([*lines, f"{config.algo.name} spends nothing of its budget: only evaluation costs"])
    if asks_endpoint(config):
        return "\n".join([*lines, "no estimate: trying it out would already spend tokens of the endpoint"])
    return "\n".join([*lines, *_lines(config, estimate(config))])


def warm_start_lines(config: RunConfig, task: Task) -> list[str]:
    """What the plan says of a warm start, which the rehearsal goes without."""
    warm = config.warmstart
    if warm is None:
        return []
    weights = "all weights" if warm.lora_rank is None else f"an adapter of rank {warm.lora_rank}"
    charged = "charged to the algorithm" if warm.charge else "shown, not charged"
    return [
        f"warm start: {warm.transcripts:,} transcripts of {task.name}, {weights}; made once for all algorithms and "
        f"seeds, its cost {charged}; not rehearsed: the estimate below is that of the policy without it"
    ]


def estimate(config: RunConfig) -> Estimate:
    """Rehearse two updates and extrapolate."""
    task: Task = config.task_class(config.task)
    algorithm = config.algorithm_class(config.algo)
    ledger = Ledger(prices=config.budget.prices())
    with ledger.phase("load"):
        policy = load_start(config, config.source, task)
        equip(ledger, policy)
    updates = min(REHEARSED, config.budget.updates or REHEARSED)
    with rehearsal(config, policy, task, updates, ledger) as session:
        algorithm.check(policy, task, session)
        with ledger.phase("update"):
            algorithm.improve(policy, task, session)
    return extrapolate(config, ledger, task)


def extrapolate(config: RunConfig, ledger: Ledger, task: Task) -> Estimate:
    """From a rehearsal's ledger to the whole run."""
    done = len(ledger.rows)
    last = ledger.rows[-1]

    def of_last(name: str) -> float:
        return sum(last.get(f"{phase}/{name}") or 0.0 for phase in ("rollout", "score", "update", "reflect", "other"))

    each = {name: None if value is None else value / done for name, value in ledger.spent().items()}
    each["seconds"] = of_last("wall_s")
    if each["joules"] is not None:
        each["joules"] = of_last("energy_j")
    if each["dollars"] is not None:
        each["dollars"] = of_last("dollars")
    # A cost that did not arise in the rehearsal will not be the one that ends the run.
    rates = {name: value for name, value in each.items() if value}
    needed = {name: math.ceil(limit / rates[name]) for name, limit in config.budget.limits().items() if name in rates}
    stopped_by = min(needed, key=needed.__getitem__)
    updates = needed[stopped_by]
    episodes = config.evaluate.episodes(task, 1 + min(updates, config.budget.checkpoints))
    rollouts, rows = ledger.total("rollouts"), ledger.by_phase()
    share = episodes / rollouts if rollouts else 0.0
    play = rows.get("rollout", {})
    play_s = of_last("wall_s") - (last.get("update/wall_s") or 0.0)
    peaks = [last[name] for name in ("peak_device_bytes", "peak_host_bytes") if last[name] is not None]
    return Estimate(
        updates=updates,
        stopped_by=stopped_by,
        spent={name: None if value is None else value * updates for name, value in each.items()},
        cpu_s=of_last("cpu_s") * updates,
        evaluation={
            "episodes": float(episodes),
            "tokens": share * (play.get("generated_tokens") or 0.0),
            "flops": share * (play.get("flops") or 0.0),
            "seconds": episodes * play_s / (last.get("rollout/rollouts") or math.inf),
        },
        peak_memory_bytes=peaks[0] or 0.0,
        rehearsal_s=sum(ledger.phases().values()),
    )


def _lines(config: RunConfig, found: Estimate) -> list[str]:
    spent, evaluation = found.spent, found.evaluation
    joules = "energy unknown (no meter)" if spent["joules"] is None else f"{spent['joules']:,.0f} J"
    dollars = "price unknown" if spent["dollars"] is None else f"{spent['dollars']:.4f} dollars"
    return [
        f"improving: about {found.updates:,.0f} updates, until {found.stopped_by} is reached: "
        f"{spent['rollouts']:,.0f} rollouts, {spent['tokens']:,.0f} tokens, {scientific(spent['flops'] or 0.0)} FLOPs, "
        f"{duration(spent['seconds'] or 0.0)}, {joules}, {dollars}",
        f"evaluation, booked apart: {evaluation['episodes']:,.0f} episodes, {evaluation['tokens']:,.0f} tokens, "
        f"{scientific(evaluation['flops'])} FLOPs, {duration(evaluation['seconds'])}",
        f"memory: {memory(found.peak_memory_bytes)} at least, as rehearsed",
        f"estimated from {min(REHEARSED, config.budget.updates or REHEARSED)} updates that were made and thrown away, "
        f"{duration(found.rehearsal_s)} with loading; nothing was recorded",
    ]
