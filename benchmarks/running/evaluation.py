"""Measuring a policy on held-out problems: the same problems, samples and seeds for every algorithm."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.api import Problem, Split, Task
from tasks.errors import require

if TYPE_CHECKING:
    from policies.api import PlayCost, Rollout
    from policies.language_model import LanguageModel

EVALUATION_SEED = {"val": 20_000, "test": 30_000}


@dataclass(kw_only=True)
class EvaluateConfig:
    """conf/evaluate/NAME.yaml."""

    name: str = "default"
    val_problems: int | None = 64
    """Problems per point of the learning curve; None is all of them."""
    val_samples: int = 1
    """Episodes per val problem."""
    test_problems: int | None = None
    """Problems of the one test evaluation; None is all of them."""
    test_samples: int = 2
    """Episodes per test problem."""
    temperature: float = 1.0
    """Of the evaluation's sampling; 0 is greedy."""
    greedy: bool = True
    """Whether test problems are also played once each at temperature 0."""
    batch_size: int = 256
    """Episodes played side by side, while improving too: a matter of memory and speed."""

    def __post_init__(self) -> None:
        for name in ("val_problems", "val_samples", "test_problems", "test_samples", "batch_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"evaluate.{name}={value} must be at least 1")
        require(self.temperature >= 0, f"evaluate.temperature={self.temperature:g} must be 0 (greedy) or above")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation found and took."""

    rollouts: list[Rollout]
    metrics: dict[str, float]
    cost: PlayCost


def spread(problems: Sequence[Problem], count: int | None) -> list[Problem]:
    """`count` problems at even distances: a fixed choice that covers an ordered list."""
    if count is None or count >= len(problems):
        return list(problems)
    return [problems[index * len(problems) // count] for index in range(count)]


def evaluate(
    policy: LanguageModel,
    task: Task,
    split: Split,
    config: EvaluateConfig,
    *,
    greedy: bool = False,
) -> Evaluation:
    """Play held-out problems and average the task's metrics over episodes; greedily, once each, if asked."""
    from policies.api import Sampling

    wanted, samples = (
        (config.val_problems, config.val_samples) if split == "val" else (config.test_problems, config.test_samples)
    )
    problems = spread(task.problems(split), wanted)
    sampling = Sampling(temperature=0.0 if greedy else config.temperature, batch_size=config.batch_size)
    rollouts, cost = policy.play(task, problems, 1 if greedy else samples, sampling, EVALUATION_SEED[split])
    return Evaluation(rollouts, average(task, rollouts), cost)


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
