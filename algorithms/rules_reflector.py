"""The reflector `rules`: counts the faults that feedback names and adds the task's advice. Deterministic, offline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from algorithms.api import Session, State
from algorithms.reflector import Reflector, Refused, join
from policies.api import Rollout
from tasks.api import Task
from tasks.errors import require


@dataclass
class Rules(Reflector):
    """Adds the advice against the most frequent fault that the instructions do not speak to yet.

    Of several sentences the one whose outcome was proposed least often goes first: a proposal that failed by chance
    gets its second try after the others' first. Once nothing is left to add, one of the added sentences, drawn at
    random, is left out.
    """

    task: Task
    session: Session
    tried: Counter[str] = field(default_factory=Counter)
    """How often instructions were proposed."""

    def __post_init__(self) -> None:
        name = self.task.name
        require(bool(self.task.advice), f"algo.reflector=rules: task {name} has no advice; use policy or endpoint")

    def parts(self, instructions: str) -> dict[str, str]:
        """The instructions, and an empty part for each sentence of advice that they do not hold."""
        sentences = [sentence for sentence in self.task.sentences if sentence not in instructions]
        return {"instructions": instructions, **dict.fromkeys(sentences, "")}

    def state(self) -> State:
        return {"tried": self.tried}

    def restore(self, state: State) -> None:
        self.tried = Counter(state["tried"])

    def faults(self, failures: Sequence[Rollout]) -> Counter[str]:
        """How often the verdicts name a fault, by the sentence against it."""
        tops = {component.name: component.high for component in self.task.components}
        counts: Counter[str] = Counter()
        for verdict in (verdict for rollout in failures for verdict in rollout.verdicts):
            for fault, sentences in self.task.advice.items():
                named = verdict.rewards[fault] < tops[fault] if fault in tops else verdict.feedback.count(fault)
                counts.update(dict.fromkeys(sentences, int(named)))
        return counts

    def propose(self, parts: Mapping[str, str], failures: Sequence[Rollout]) -> dict[str, str]:
        counts, rng = self.faults(failures), self.session.rng
        changes = {sentence: {sentence: "" if text else sentence} for sentence, text in parts.items()}
        tries = {sentence: self.tried[join({**parts, **change})] for sentence, change in changes.items()}
        missing = [sentence for sentence, text in parts.items() if counts[sentence] and not text]
        added = [sentence for sentence, text in parts.items() if sentence in counts and text]
        if missing:
            chosen = min(missing, key=lambda sentence: (tries[sentence], -counts[sentence], rng.random()))
        elif added:
            chosen = min(added, key=lambda sentence: (tries[sentence], rng.random()))
        else:
            raise Refused("the feedback names no fault that the task has advice against")
        self.tried[join({**parts, **changes[chosen]})] += 1
        return changes[chosen]
