"""The rules that plugins are held to, and what a check reports where one is broken."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.config.plugins import Kind, problem_of

ALGORITHM_RULES = {
    "config": "every setting has a name, a type and a default",
    "runs": "it runs from start to end of a small budget",
    "splits": "it touches train problems only",
    "budget": "it stops after the update in which the budget is spent",
    "costs": "what it samples and trains on is booked",
    "advantages": "credit gives one finite number per rollout, or per token",
    "finite": "the weights stay finite",
    "tokens": "it trains on the tokens that were sampled, never on text encoded again",
    "repeatable": "the same seed gives the same run, whatever the global generators hold",
    "resumes": "if it is resumable, an interrupted run ends as an uninterrupted one does",
    "isolation": "a run leaves nothing behind that changes another run, its policy or the task",
}
TASK_RULES = {
    "config": "every setting has a name, a type and a default",
    "shape": "limits and components are stated, and episodes keep to them",
    "oracle": "the oracle solves every problem",
    "splits": "no problem is in two splits, and no split is empty",
    "stable": "the same problems in the same order, in every process",
    "ranges": "rewards, spans and metrics stay in their ranges",
    "deterministic": "the same actions get the same verdicts",
    "feedback": "feedback never holds the answer and is never shown in the chat",
    "ending": "nothing scores like solving at once: not losing, not solving later, not ending sooner",
    "junk": "no text makes an episode fail, hang, or count as solved",
}
POLICY_RULES = {
    "repeatable": "the same seed gives the same actions",
    "tokens": "what is judged is what was sampled, token by token",
    "logprobs": "the sampler's probabilities are the model's own",
    "gradients": "an update has a gradient that is finite and not 0",
    "saves": "saved and loaded again, it is the same policy",
}
EACH = 3
"""Violations of one rule that are reported, at most."""


@dataclass(frozen=True, slots=True)
class RuleViolation:
    """A rule that is broken."""

    rule: str
    """A key of ALGORITHM_RULES, TASK_RULES or POLICY_RULES."""
    problem: str
    """What was seen, in a sentence."""


class NotConforming(AssertionError):
    """Rules are broken; the text lists them."""

    def __init__(self, what: str, violations: Sequence[RuleViolation]) -> None:
        super().__init__("\n".join([f"{what} breaks:", *(f"  {each.rule}: {each.problem}" for each in violations)]))
        self.violations = tuple(violations)


class Violations(list[RuleViolation]):
    """What a check has found so far: no sentence twice, and of each rule the first few."""

    def add(self, rule: str, problem: str) -> None:
        """Report a broken rule."""
        found = RuleViolation(rule, problem)
        if found not in self and sum(each.rule == rule for each in self) < EACH:
            self.append(found)


def config_violations(kind: Kind, found: Any) -> Violations:
    """What is wrong with a plugin's class and its Config, without making an instance."""
    violations = Violations()
    if problem := problem_of(kind, found):
        violations.add("config", problem)
        return violations
    schema = found.Config
    hints = typing.get_type_hints(schema)
    for each in schema.__mro__[:-1]:
        for key, value in vars(each).items():
            method = callable(value) or isinstance(value, property | classmethod | staticmethod)
            if not (method or key.startswith("_") or key in hints):
                problem = f"{each.__name__}.{key} has no type, so it is no setting: write {key}: TYPE = ..."
                violations.add("config", problem)
    for key in schema.__dataclass_fields__:
        if "Any" in str(hints[key]):
            violations.add("config", f"{schema.__name__}.{key} has the type Any, so no wrong value is ever refused")
    return violations
