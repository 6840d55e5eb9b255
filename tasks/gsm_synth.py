"""gsm_synth: word problems from our own templates, in four levels; for offline use and for the embedded policy.

Every sentence pattern here was written for this project. Nothing is derived from GSM8K or from reasoning-gym, and a
result on gsm_synth is no result on GSM8K. A problem of level n needs n calculations, one after the other.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar

from tasks.api import FeedbackLevel, RewardMode, check_sizes, split_of
from tasks.errors import require
from tasks.gsm import GsmProblem, GsmTask

NAMES = ("Ada", "Ben", "Cleo", "Dev", "Eva", "Finn", "Gus", "Hana", "Ivo", "June", "Kofi", "Lena")
ITEMS = ("apples", "books", "coins", "cards", "eggs", "pens", "shells", "stamps", "stones", "tickets")
START = "{name} has {a} {item}."
EVENTS = {
    "+": ("{name} buys {b} more.", "{name} finds {b} more.", "A friend brings {b} more."),
    "-": ("{name} gives away {b}.", "{name} loses {b}.", "{name} sells {b}."),
    "*": ("Then the pile grows to {b} times its size.",),
    "/": ("{name} makes {b} equal parts and keeps one.",),
}
QUESTION = "How many {item} does {name} have now?"
LARGEST = 60


@dataclass(kw_only=True)
class GsmSynthConfig:
    """Settings of gsm_synth."""

    name: str = "gsm_synth"
    levels: list[int] = field(default_factory=lambda: [1, 2, 3, 4])
    """Which levels (number of calculations, 1 to 4) are asked."""
    problems_per_level: int = 600
    """Problems drawn per level, over all splits."""
    reward: RewardMode = RewardMode.shaped
    """How the components are weighted: outcome, shaped or equal."""
    feedback: FeedbackLevel = FeedbackLevel.diagnostic
    """How much the feedback tells: none, outcome, diagnostic, hint or solution."""
    max_action_tokens: int = 160
    """Tokens that the solution may use."""
    val: float = 0.1
    """Share of the problems kept for the learning curve."""
    test: float = 0.15
    """Share of the problems kept for the one test evaluation."""

    def __post_init__(self) -> None:
        levels = f"task.levels={list(self.levels)} must be some of 1, 2, 3, 4"
        require(bool(self.levels) and set(self.levels) <= {1, 2, 3, 4}, levels)
        require(self.problems_per_level >= 20, f"task.problems_per_level={self.problems_per_level} must be 20 or more")
        check_sizes(self.max_action_tokens, self.val, self.test)


def draw_problem(level: int, rng: random.Random) -> tuple[str, int, str]:
    """A question, its answer and its worked solution; all numbers are whole and in 0..LARGEST."""
    name, item = rng.choice(NAMES), rng.choice(ITEMS)
    value = rng.randint(2, 30)
    sentences = [START.format(name=name, a=value, item=item)]
    steps = []
    for _ in range(level):
        operation, operand = _draw_operation(value, rng)
        after = {"+": value + operand, "-": value - operand, "*": value * operand, "/": value // operand}[operation]
        sentences.append(rng.choice(EVENTS[operation]).format(name=name, b=operand))
        steps.append(f"{value}{operation}{operand}={after}")
        value = after
    sentences.append(QUESTION.format(item=item, name=name))
    return " ".join(sentences), value, "\n".join([*steps, f"#### {value}"])


def _draw_operation(value: int, rng: random.Random) -> tuple[str, int]:
    factors = [k for k in (2, 3) if value and value * k <= LARGEST]
    divisors = [k for k in (2, 3) if value and value % k == 0]
    kinds = ["+"] * (value < LARGEST) + ["-"] * (value > 1) + ["*"] * bool(factors) + ["/"] * bool(divisors)
    kind = rng.choice(kinds)
    if kind == "+":
        return kind, rng.randint(1, min(9, LARGEST - value))
    if kind == "-":
        return kind, rng.randint(1, min(9, value - 1))
    return kind, rng.choice(factors if kind == "*" else divisors)


def draw_problems(config: GsmSynthConfig) -> Iterator[GsmProblem]:
    """All problems of a configuration, level by level; a question that was drawn before is left out."""
    seen: set[str] = set()
    for level in sorted(set(config.levels)):
        for index in range(config.problems_per_level):
            seed = int.from_bytes(hashlib.sha256(f"gsm_synth {level} {index}".encode()).digest()[:8], "big")
            question, value, solution = draw_problem(level, random.Random(seed))
            if question in seen:
                continue
            seen.add(question)
            yield GsmProblem(
                id=f"gsm_synth/{level}/{index}",
                split=split_of(question, val=config.val, test=config.test),
                question=question,
                gold=Fraction(value),
                solution=solution,
            )


class GsmSynth(GsmTask):
    """Word problems of our own, solved in one action."""

    Config = GsmSynthConfig
    name: ClassVar[str] = "gsm_synth"
    version: ClassVar[str] = "2"
    instructions = "Solve the problem. End with #### and the answer."

    def __init__(self, config: GsmSynthConfig) -> None:
        super().__init__(list(draw_problems(config)), config.feedback, config.reward, config.max_action_tokens)
        self.config = config
