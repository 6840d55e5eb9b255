"""Several independent questions in one problem: what gsm_fields and gsm_turns share.

Questions are those of gsm_synth. Each belongs to one split by its own text, and a problem of a split holds only
questions of that split, so that no question is both trained on and tested.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from tasks.api import SPLITS, FeedbackLevel, Problem, Split, check_sizes, split_of
from tasks.errors import require
from tasks.gsm_synth import draw_problem

MOST = 12
"""Questions that a problem may hold."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its answer and worked equations."""

    text: str
    gold: Fraction
    equations: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionSet(Problem):
    """One problem."""

    questions: tuple[Question, ...]


@dataclass(kw_only=True)
class QuestionSetConfig:
    """What tasks made of several questions can be told."""

    levels: list[int] = field(default_factory=lambda: [1, 2])
    """Which levels (number of calculations, 1 to 4) are asked."""
    count: int = 1600
    """Problems, over all splits."""
    feedback: FeedbackLevel = FeedbackLevel.diagnostic
    """How much the feedback tells: none, outcome, diagnostic, hint or solution."""
    val: float = 0.1
    """Share of problems and questions kept for the learning curve."""
    test: float = 0.15
    """Share of problems and questions kept for the one test evaluation."""

    def __post_init__(self) -> None:
        levels = f"task.levels={list(self.levels)} must be some of 1, 2, 3, 4"
        require(bool(self.levels) and set(self.levels) <= {1, 2, 3, 4}, levels)
        require(self.count >= 20, f"task.count={self.count} must be 20 or more")


def check_set(config: QuestionSetConfig, key: str, size: int, max_action_tokens: int) -> None:
    """Refuse a number of questions, or sizes, that make no problems.

    Args:
        config: the task's.
        key: the key that `size` was given under.
        size: questions of a problem.
        max_action_tokens: what one action may use.

    Raises:
        BadInput: a size out of range.
    """
    require(1 <= size <= MOST, f"task.{key}={size} must be from 1 to {MOST}")
    check_sizes(max_action_tokens, config.val, config.test)
    for share in (config.val, config.test):
        require(share == 0 or share >= 0.01, "task.val and task.test must be 0 or at least 0.01")


def draw_sets(name: str, config: QuestionSetConfig, size: int) -> dict[Split, list[QuestionSet]]:
    """The problems of a task, by split; the same for the same configuration."""
    found: dict[Split, list[QuestionSet]] = {split: [] for split in SPLITS}
    for index in range(config.count):
        id_ = f"{name}/{size}/{index}"
        split = split_of(id_, val=config.val, test=config.test)
        seed = int.from_bytes(hashlib.sha256(id_.encode()).digest()[:8], "big")
        stream = questions(config, split, random.Random(seed))
        found[split].append(QuestionSet(id=id_, split=split, questions=tuple(next(stream) for _ in range(size))))
    return found


def questions(config: QuestionSetConfig, split: Split, rng: random.Random) -> Iterator[Question]:
    """Questions of one split without end."""
    while True:
        text, value, solution = draw_problem(rng.choice(config.levels), rng)
        if split_of(text, val=config.val, test=config.test) == split:
            yield Question(text, Fraction(value), tuple(solution.split("\n")[:-1]))


def share_right(right: Sequence[bool]) -> float:
    """Share of the questions that were answered rightly."""
    return sum(right) / len(right)
