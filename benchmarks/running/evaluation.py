"""Measuring a policy on a split: the same problems, samples and seeds for every algorithm of a run's seed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.config.evaluate import EvaluateConfig
from tasks.api import Split, Task

if TYPE_CHECKING:
    from policies.api import PlayCost, Rollout
    from policies.language_model import LanguageModel

FIRST_SEED: dict[Split, int] = {"train": 10_000, "val": 20_000, "test": 30_000}
SEEDS = 10_000
"""Runs whose seeds are equal modulo this one share evaluation noise. Evaluation seeds are below 40,000 and those of
`RunSession.play` above a million: no evaluation repeats the draws of training."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation found and took."""

    rollouts: list[Rollout]
    metrics: dict[str, float]
    cost: PlayCost
    temperature: float = 1.0

    @property
    def solved(self) -> float:
        """Share of the episodes that were solved."""
        return self.metrics["solved"]


def evaluation_seed(split: Split, seed: int) -> int:
    """Of the draws on a split in a run with this seed: the same for every algorithm, another for every seed."""
    return FIRST_SEED[split] + seed % SEEDS


def evaluate(
    policy: LanguageModel,
    task: Task,
    split: Split,
    config: EvaluateConfig,
    seed: int,
    *,
    temperature: float = 1.0,
    samples: int = 1,
) -> Evaluation:
    """Play a split's problems and average the task's metrics over episodes.

    Args:
        policy: whose weights and instructions are measured.
        task: whose problems they are.
        split: which of them.
        config: how many of them, and how many side by side.
        seed: the run's.
        temperature: of the sampling; at 0 each problem is played once.
        samples: episodes per problem.
    """
    from policies.api import Sampling

    sampling = Sampling(temperature=temperature, batch_size=config.batch_size)
    problems = config.problems(task, split)
    rollouts, cost = policy.play(task, problems, samples if temperature else 1, sampling, evaluation_seed(split, seed))
    return Evaluation(rollouts, average(task, rollouts), cost, temperature)


def average(task: Task, rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Means over episodes of the task's metrics, of the scalar score, and of each reward component."""
    rows = []
    for rollout in rollouts:
        row = task.metrics(rollout.verdicts)
        row["score"] = sum(task.score(verdict) for verdict in rollout.verdicts)
        for component in task.components:
            row[f"reward/{component.name}"] = sum(verdict.rewards[component.name] for verdict in rollout.verdicts)
        rows.append(row)
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def outcome_rows(
    task: Task, rollouts: Sequence[Rollout], stage: str, mode: str, temperature: float
) -> list[dict[str, Any]]:
    """Rows of outcomes.parquet: what `sample_rows` says without texts, one row per episode.

    Args:
        task: whose problems were played.
        rollouts: of one evaluation.
        stage: `base` or `final`.
        mode: `sampled`, `greedy` or `tstar`.
        temperature: of the sampling.

    Returns:
        Columns stage, mode, temperature, problem, sample, solved, score, `reward/NAME` per component (its sum over the
        episode), and `metric/NAME` per task metric.
    """
    rows = []
    counts: Counter[str] = Counter()
    for rollout in rollouts:
        verdicts = rollout.verdicts
        rewards = {f"reward/{c.name}": float(sum(v.rewards[c.name] for v in verdicts)) for c in task.components}
        rows.append(
            {
                "stage": stage,
                "mode": mode,
                "temperature": temperature,
                "problem": rollout.problem.id,
                "sample": counts[rollout.problem.id],
                "solved": rollout.solved,
                "score": float(sum(task.score(verdict) for verdict in verdicts)),
                **rewards,
                **{f"metric/{name}": value for name, value in task.metrics(verdicts).items()},
            }
        )
        counts[rollout.problem.id] += 1
    return rows


def sample_rows(task: Task, rollouts: Sequence[Rollout], stage: str) -> list[dict[str, Any]]:
    """Rows of samples.parquet, and of greedy.parquet: one per episode.

    Columns: stage (`base` or `final`), problem, sample, solved, score, turns (JSON: per turn action, rewards, feedback,
    spans, solved), messages (JSON), and one column per task metric, `metric/NAME`.
    """
    rows = []
    counts: dict[str, int] = {}
    for rollout in rollouts:
        sample = counts.get(rollout.problem.id, 0)
        counts[rollout.problem.id] = sample + 1
        turns = [
            {
                "action": turn.action,
                "rewards": dict(turn.verdict.rewards),
                "feedback": turn.verdict.feedback,
                "spans": {name: list(span) for name, span in turn.verdict.spans.items()},
                "solved": turn.verdict.solved,
                "tokens": turn.end - turn.start,
            }
            for turn in rollout.turns
        ]
        metrics = {f"metric/{name}": value for name, value in task.metrics(rollout.verdicts).items()}
        rows.append(
            {
                "stage": stage,
                "problem": rollout.problem.id,
                "sample": sample,
                "solved": rollout.solved,
                "score": sum(task.score(verdict) for verdict in rollout.verdicts),
                "turns": json.dumps(turns),
                "messages": json.dumps(rollout.messages),
                **metrics,
            }
        )
    return rows
