"""A session for tests: a fixed number of updates, nothing evaluated, everything remembered."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from algorithms.api import State
from policies.api import Rollout, Sampling
from policies.forks import play_forks
from policies.language_model import LanguageModel
from tasks.api import Problem, Task


class StubSession:
    """Open for `updates` updates; the n-th call of `play` has seed n."""

    def __init__(self, policy: LanguageModel, task: Task, scratch: Path, updates: int, seed: int = 0) -> None:
        self.policy, self.task, self.scratch, self.updates, self.seed = policy, task, scratch, updates, seed
        self.rng = random.Random(seed)
        self.steps: list[dict[str, float]] = []
        self.charges: list[tuple[str, dict[str, float]]] = []
        self.kept: dict[str, list[dict[str, Any]]] = {}
        self.log: list[Any] = []
        self.plays = 0

    def open(self) -> bool:
        return len(self.steps) < self.updates

    def problems(self) -> Iterator[Problem]:
        while True:
            yield from self.task.problems("train")[:40]

    def play(self, problems: Sequence[Problem], group_size: int, sampling: Sampling) -> list[Rollout]:
        self.plays += 1
        return self.policy.play(self.task, problems, group_size, sampling, self.plays)[0]

    def play_forks(self, problems: Sequence[Problem], forks: int, sampling: Sampling) -> list[Rollout]:
        self.plays += 1
        return play_forks(self.policy, self.task, problems, forks, sampling, self.plays)[0]

    def remaining(self) -> dict[str, float]:
        return {"updates": float(self.updates - len(self.steps))}

    def sample(self, contexts: Sequence[list[int]], sampling: Sampling) -> list[list[int]]:
        self.plays += 1
        return self.policy.sample(contexts, self.policy.action_limit(self.task), sampling, self.plays)[0]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        yield

    def charge(self, phase: str, **amounts: float) -> None:
        self.charges.append((phase, amounts))

    def step(self, metrics: Mapping[str, float]) -> None:
        self.steps.append(dict(metrics))

    def resumable(self, state: Callable[[], State | None], *, weights: bool = True) -> State | None:
        return None

    def keep(self, file: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.kept[file] = [dict(row) for row in rows]
