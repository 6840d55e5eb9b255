"""What a policy can do, apart from how it is sampled: training may teach, or only sharpen what was there.

    accuracy        solved at temperature 1, the main number
    accuracy_greedy solved at temperature 0
    accuracy_tstar  solved at T*, the temperature at which this very policy solves most val problems
    pass_at_K       chance that one of K samples at temperature 1 solves the problem (Chen et al. 2021, 2107.03374)
    train_gap       solved on train problems minus solved on test, both at temperature 1
    accuracy_other  solved on another task's val problems at temperature 1, under that task's instructions

A gain at temperature 1 that is none at T* is what lowering the starting policy's temperature gives as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.running.evaluation import Evaluation, outcome_rows, sample_rows
from tasks.api import Task

if TYPE_CHECKING:
    from benchmarks.running.session import RunSession
    from policies.api import Rollout
    from policies.language_model import LanguageModel

KS = (1, 4, 8)


@dataclass(frozen=True, slots=True)
class Capability:
    """What one policy's evaluation found."""

    numbers: dict[str, Any]
    """By the names above, as JSON; null where something was not measured."""
    tables: dict[str, list[dict[str, Any]]]
    """Rows by the file of the record that they go into."""
    rollouts: list[Rollout] = field(default_factory=list)
    """One test episode per problem at temperature 1; none where this was read from a file."""

    def restaged(self, stage: str) -> Capability:
        """The same as another stage's: of a policy that did not change."""
        tables = {file: [{**row, "stage": stage} for row in rows] for file, rows in self.tables.items()}
        return Capability(self.numbers, tables)


def measure_capability(session: RunSession, policy: LanguageModel, stage: str, other: Task | None) -> Capability:
    """Evaluate a policy on test, and on what is needed of val, train and another task; the session books the cost.

    Args:
        session: of the run.
        policy: to be measured.
        stage: `base` or `final`, for the tables.
        other: the task on which forgetting is measured.
    """
    config, task = session.config.evaluate, session.task
    several = config.temperature_samples
    sampled = session.measure(policy, "test", samples=config.test_samples)
    greedy = session.measure(policy, "test", temperature=0.0) if config.greedy else None
    on_val = {}
    if len(config.temperatures) > 1:
        for temperature in config.temperatures:
            on_val[temperature] = session.measure(policy, "val", temperature=temperature, samples=several).solved
    tstar = best_temperature(on_val or dict.fromkeys(config.temperatures, 0.0))
    best = {1.0: sampled, 0.0: greedy}.get(tstar)
    best = best or session.measure(policy, "test", temperature=tstar, samples=several)
    train = None if config.train_problems == 0 else session.measure(policy, "train", samples=several)
    elsewhere = None
    if other is not None:
        with instructed(policy, other.instructions):
            elsewhere = session.measure(policy, "val", samples=several, task=other)
    solved = [
        sum(rollout.solved for rollout in sampled.rollouts[first : first + config.test_samples])
        for first in range(0, len(sampled.rollouts), config.test_samples)
    ]
    numbers = {
        "accuracy": sampled.solved,
        "accuracy_greedy": greedy and greedy.solved,
        "accuracy_tstar": best.solved,
        "tstar": tstar,
        "val_by_temperature": {f"{temperature:g}": share for temperature, share in on_val.items()},
        **{f"pass_at_{k}": pass_at(k, config.test_samples, solved) for k in KS},
        "train_gap": train and train.solved - sampled.solved,
        "accuracy_other": elsewhere and elsewhere.solved,
        "metrics": sampled.metrics,
        "greedy": greedy and greedy.metrics,
    }
    modes: dict[str, Evaluation | None] = {"sampled": sampled, "greedy": greedy, "tstar": best}
    tables = {
        "samples.parquet": sample_rows(task, sampled.rollouts, stage),
        "greedy.parquet": sample_rows(task, greedy.rollouts, stage) if greedy else [],
        "outcomes.parquet": [
            row
            for mode, found in modes.items()
            if found
            for row in outcome_rows(task, found.rollouts, stage, mode, found.temperature)
        ],
    }
    return Capability(numbers, tables, sampled.rollouts[:: config.test_samples])


def best_temperature(solved: Mapping[float, float]) -> float:
    """The temperature that solves most; of several the highest, which is the nearest to how policies are trained."""
    return max(solved, key=lambda temperature: (solved[temperature], temperature))


def pass_at(k: int, samples: int, solved: Sequence[int]) -> float | None:
    """Unbiased estimate of the chance that one of k samples solves a problem, averaged over problems.

    Per problem 1 - C(n - c, k) / C(n, k), with n samples of which c solve it (2107.03374, section 2.1).

    Args:
        k: samples that are drawn.
        samples: n.
        solved: c of each problem.

    Returns:
        None where there are fewer than k samples.
    """
    if samples < k:
        return None
    ways = math.comb(samples, k)
    return sum(1 - math.comb(samples - each, k) / ways for each in solved) / len(solved)


@contextmanager
def instructed(policy: LanguageModel, instructions: str) -> Iterator[None]:
    """A policy while it has other instructions."""
    own, policy.instructions = policy.instructions, instructions
    try:
        yield
    finally:
        policy.instructions = own


def action_logprobs(session: RunSession, policy: LanguageModel, rollouts: Sequence[Rollout]) -> list[float]:
    """Log-probability of every token that rollouts sampled, after the policy's own prompt and at its own temperature.

    Args:
        session: of the run, which books the cost.
        policy: under whose weights and instructions; not necessarily those that sampled.
        rollouts: of the session's task.

    Returns:
        One number per sampled token, in the rollouts' order.
    """
    from policies.branches import Branch, score_branches

    with session.ledger.phase("evaluate"):
        branches = []
        for rollout in rollouts:
            prompt = policy.chat.prompt(policy.instructions, session.task.start(rollout.problem).messages)
            branches.append([Branch(0, prompt, rollout.completion_ids)])
        scores, flops = score_branches(policy, [[] for _ in rollouts], branches, policy.temperature or 1.0)
        session.charge("evaluate", flops=flops)
        return [
            logprob
            for rollout, (score,) in zip(rollouts, scores, strict=True)
            for logprob, written in zip(score.tolist(), rollout.mask, strict=True)
            if written
        ]
