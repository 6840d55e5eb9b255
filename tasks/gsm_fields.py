"""gsm_fields: K independent questions in one prompt, answered in K numbered lines. The dial of reward ambiguity.

One component and one span a line: field k is judged by its own answer and nothing else. A summed reward says how many
lines are right; the vector says which. With K=1 there is nothing to tell apart.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tasks.api import Component, Episode, FeedbackLevel, Mark, Message, Problem, Split, Task, Verdict
from tasks.question_sets import QuestionSet, QuestionSetConfig, check_set, draw_sets, share_right
from tasks.solutions import SOLUTION_ADVICE, at_level, equations, explain, number

LINE = re.compile(r"(?m)^(?P<label>\d{1,2})\. (?P<steps>[^\n#]{0,200}+)#### (?P<answer>-?\d{1,15})[ \t]{0,8}$")


@dataclass(kw_only=True)
class GsmFieldsConfig(QuestionSetConfig):
    """Settings of gsm_fields."""

    name: str = "gsm_fields"
    fields: int = 4
    """K: questions in a prompt, each a component of the reward with a span of its own."""
    max_action_tokens: int = 320
    """Tokens that all answers together may use."""

    def __post_init__(self) -> None:
        QuestionSetConfig.__post_init__(self)
        check_set(self, "fields", self.fields, self.max_action_tokens)


class FieldsEpisode(Episode):
    """All questions at once, one action."""

    def __init__(self, problem: QuestionSet, level: FeedbackLevel) -> None:
        self._problem, self._level = problem, level
        asked = [f"{place}. {question.text}" for place, question in enumerate(problem.questions, start=1)]
        self._messages: list[Message] = [{"role": "user", "content": "\n".join(asked)}]

    @property
    def messages(self) -> list[Message]:
        return list(self._messages)

    @property
    def done(self) -> bool:
        return len(self._messages) > 1

    def knowledge(self) -> Hashable:
        return self._problem.id

    def step(self, action: str) -> Verdict:
        if self.done:
            raise RuntimeError("the questions were answered: start a new episode")
        self._messages.append({"role": "assistant", "content": action})
        lines: dict[int, re.Match[str]] = {}
        for match in LINE.finditer(action):
            lines.setdefault(int(match["label"]), match)
        right, spans, faults = [], {}, []
        shown: list[tuple[str, Mark]] = []
        for place, question in enumerate(self._problem.questions, start=1):
            line = lines.get(place)
            right.append(line is not None and number(line["answer"]) == question.gold)
            if line is None:
                faults.append(f"{place}: no line '{place}. ... #### answer'")
                continue
            spans[f"field_{place}"] = line.span()
            shown.append((line.group(), "right" if right[-1] else "wrong"))
            if not right[-1]:
                found = equations(line["steps"])
                faults += [
                    f"{place}: {why}" for why in explain(found, number(line["answer"]), question.gold, self._level)
                ]
        solved = all(right)
        return Verdict(
            rewards={f"field_{place}": float(each) for place, each in enumerate(right, start=1)},
            feedback=at_level(self._level, solved, faults),
            spans=spans,
            solved=solved,
            shown=shown,
            metrics={"share_right": share_right(right), "format": len(spans) / len(right)},
        )


class GsmFields(Task):
    """K questions, K fields."""

    Config = GsmFieldsConfig
    name: ClassVar[str] = "gsm_fields"
    version: ClassVar[str] = "1"
    instructions = "Solve each problem in a line of its own: number, steps, #### and the answer."
    advice = SOLUTION_ADVICE
    max_turns = 1

    def __init__(self, config: GsmFieldsConfig) -> None:
        self.config = config
        self.max_action_tokens = config.max_action_tokens
        places = range(1, config.fields + 1)
        self.components = tuple(
            Component(
                name=f"field_{place}",
                weight=1 / config.fields,
                low=0,
                high=1,
                about=f"the answer in line {place} is right",
            )
            for place in places
        )
        self._problems = draw_sets(self.name, config, config.fields)

    def problems(self, split: Split) -> Sequence[QuestionSet]:
        return self._problems[split]

    def start(self, problem: Problem) -> FieldsEpisode:
        assert isinstance(problem, QuestionSet)
        return FieldsEpisode(problem, self.config.feedback)

    def oracle(self, problem: Problem) -> list[str]:
        assert isinstance(problem, QuestionSet)
        return [
            "\n".join(
                f"{place}. {', '.join(question.equations)} #### {question.gold}"
                for place, question in enumerate(problem.questions, start=1)
            )
        ]
