"""How policies are evaluated: which problems, how many samples, at which temperatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.api import Problem, Split, Task
from tasks.errors import require


@dataclass(kw_only=True)
class EvaluateConfig:
    """How policies are evaluated; conf/evaluate/NAME.yaml."""

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


def spread(problems: Sequence[Problem], count: int | None) -> list[Problem]:
    """`count` problems at even distances: a fixed choice that covers an ordered list."""
    if count is None or count >= len(problems):
        return list(problems)
    return [problems[index * len(problems) // count] for index in range(count)]
