"""What a conformance check finds, and the rules that algorithms and tasks are held to."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
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
    "resumes": "if it says that it is resumable, a run that was broken off goes on to the same end",
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


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that is broken."""

    rule: str
    """A key of ALGORITHM_RULES or TASK_RULES."""
    problem: str
    """What was seen, in a sentence."""


class NotConforming(AssertionError):
    """Rules are broken; the text lists them."""

    def __init__(self, what: str, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join([f"{what} breaks:", *(f"  {each.rule}: {each.problem}" for each in findings)]))
        self.findings = tuple(findings)


class Notes:
    """Findings as they come in, each rule's first few."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def add(self, rule: str, problem: str) -> None:
        """Note a broken rule, unless it was noted three times already."""
        finding = Finding(rule, problem)
        if finding not in self.findings and sum(each.rule == rule for each in self.findings) < 3:
            self.findings.append(finding)


def config_findings(kind: Kind, found: Any) -> list[Finding]:
    """What is wrong with a plugin's class and its Config, without making an instance."""
    problem = problem_of(kind, found)
    if problem:
        return [Finding("config", problem)]
    schema = found.Config
    notes = Notes()
    hints: Mapping[str, Any] = typing.get_type_hints(schema)
    for each in schema.__mro__[:-1]:
        for key, value in vars(each).items():
            if not key.startswith("_") and key not in hints and not callable(value) and not _is_descriptor(value):
                notes.add("config", f"{each.__name__}.{key} has no type, so it is no setting: write {key}: TYPE = ...")
    for key in schema.__dataclass_fields__:
        if "Any" in str(hints[key]):
            notes.add("config", f"{schema.__name__}.{key} has the type Any, so no wrong value is ever refused")
    return notes.findings


def _is_descriptor(value: object) -> bool:
    return isinstance(value, property | classmethod | staticmethod)
