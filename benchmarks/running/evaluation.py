"""Measuring a policy on a split: the same problems, samples and seeds for every algorithm of a run's seed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.api import Problem, Split, Task
from tasks.errors import require

if TYPE_CHECKING:
    from policies.api import PlayCost, Rollout
    from policies.language_model import LanguageModel

FIRST_SEED: dict[Split, int] = {"train": 10_000, "val": 20_000, "test": 30_000}
SEEDS = 10_000
"""Runs whose seeds are equal modulo this one share evaluation noise. Evaluation seeds are below 40,000 and those of
`RunSession.play` above a million: no evaluation repeats the draws of training."""


@dataclass(kw_only=True)
class EvaluateConfig:
    """conf/evaluate/NAME.yaml."""

    name: str = "default"
    val_problems: int | None = 64
    """Val problems; None is all of them."""
    val_samples: int = 1
    """Episodes per val problem for a point of the learning curve."""
    test_problems: int | None = None
    """Test problems; None is all of them."""
    test_samples: int = 12
    """Episodes per test problem at temperature 1: the main number, pass@k, and the policy whose KL is estimated."""
    temperatures: list[float] = field(default_factory=lambda: [0.0, 0.3, 0.5, 0.7, 1.0])
    """Among which T* is chosen; a single one is T* without a measurement."""
    temperature_samples: int = 4
    """Episodes per problem at each temperature on val, at T* on test, and at temperature 1 on train problems and on the
    other task; one at temperature 0, where all are equal."""
    train_problems: int | None = None
    """Train problems for the train-test gap; None is as many as of val, 0 is no gap."""
    greedy: bool = True
    """Whether test problems are also played at temperature 0."""
    kl: bool = True
    """Whether the KL per token from the final policy to the starting one is estimated."""
    other_task: str | None = None
    """A task, with its default settings, on whose val problems forgetting is measured."""
    batch_size: int = 256
    """Episodes played side by side, in training too: a matter of memory and speed."""

    def __post_init__(self) -> None:
        for name in ("val_problems", "val_samples", "test_problems", "test_samples", "temperature_samples"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"evaluate.{name}={value} must be at least 1")
        require(self.batch_size >= 1, f"evaluate.batch_size={self.batch_size} must be at least 1")
        require(self.train_problems is None or self.train_problems >= 0, "evaluate.train_problems must be 0 or above")
        sound = self.temperatures and all(0 <= each < float("inf") for each in self.temperatures)
        require(bool(sound), f"evaluate.temperatures={self.temperatures}: give one or more numbers, 0 or above")

    def problems(self, task: Task, split: Split) -> list[Problem]:
        """The problems of a split that are played."""
        wanted = {"val": self.val_problems, "test": self.test_problems, "train": self.train_problems}[split]
        if split == "train" and wanted is None:
            wanted = len(self.problems(task, "val"))
        return spread(task.problems(split), wanted)

    def episodes(self, task: Task, points: int) -> int:
        """Episodes of a whole run's evaluations at most, with so many points of the learning curve."""
        val, test, train = (len(self.problems(task, split)) for split in ("val", "test", "train"))
        several, grid = self.temperature_samples, self.temperatures
        on_val = sum(several if each else 1 for each in grid) if len(grid) > 1 else 0
        at_tstar = several if any(each not in (0, 1) for each in grid) else 0
        stage = val * on_val + test * (self.test_samples + self.greedy + at_tstar) + train * several
        return points * val * self.val_samples + 2 * stage


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


def spread(problems: Sequence[Problem], count: int | None) -> list[Problem]:
    """`count` problems at even distances: a fixed choice that covers an ordered list."""
    if count is None or count >= len(problems):
        return list(problems)
    return [problems[index * len(problems) // count] for index in range(count)]


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
