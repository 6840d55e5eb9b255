"""gsm_turns: T independent questions as T turns of one episode. The dial of horizon and of delayed credit.

Nothing that is said depends on what was answered before, so a turn's reward is due to that turn's action alone. With
`task.delay` the same total comes at the last turn, and which turn earned it is for the algorithm to find out.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tasks.api import Component, Episode, Message, Problem, Split, Task, Verdict
from tasks.question_sets import QuestionSet, QuestionSetConfig, check_set, draw_sets
from tasks.solutions import SOLUTION_ADVICE, judge


@dataclass(kw_only=True)
class GsmTurnsConfig(QuestionSetConfig):
    """Settings of gsm_turns."""

    name: str = "gsm_turns"
    turns: int = 4
    """T: questions, one a turn."""
    delay: bool = False
    """Give the whole reward at the last turn."""
    max_action_tokens: int = 96
    """Tokens that one answer may use."""

    def __post_init__(self) -> None:
        QuestionSetConfig.__post_init__(self)
        check_set(self, "turns", self.turns, self.max_action_tokens)


class TurnsEpisode(Episode):
    """One question a turn."""

    def __init__(self, problem: QuestionSet, config: GsmTurnsConfig) -> None:
        self._problem, self._config = problem, config
        self._right: list[bool] = []
        self._messages: list[Message] = [{"role": "user", "content": problem.questions[0].text}]

    @property
    def messages(self) -> list[Message]:
        return list(self._messages)

    @property
    def done(self) -> bool:
        return len(self._right) == len(self._problem.questions)

    def knowledge(self) -> Hashable:
        return (self._problem.id, len(self._right))

    def step(self, action: str) -> Verdict:
        if self.done:
            raise RuntimeError("the questions were answered: start a new episode")
        questions, turn = self._problem.questions, len(self._right)
        verdict = judge(action, questions[turn].gold, self._config.feedback)
        self._right.append(verdict.solved)
        self._messages.append({"role": "assistant", "content": action})
        if not self.done:
            self._messages.append({"role": "user", "content": questions[turn + 1].text})
        right = float(verdict.solved)
        if self._config.delay:
            right = float(sum(self._right)) if self.done else 0.0
        return Verdict(
            rewards={"correct": right},
            feedback=verdict.feedback,
            spans={},
            solved=self.done and all(self._right),
            shown=verdict.shown,
            metrics={"share_right": float(verdict.solved), "format": verdict.metrics["format"]},
        )


class GsmTurns(Task):
    """T questions, T turns."""

    Config = GsmTurnsConfig
    name: ClassVar[str] = "gsm_turns"
    version: ClassVar[str] = "1"
    instructions = "Solve the problem. End with #### and the answer."
    advice = SOLUTION_ADVICE

    def __init__(self, config: GsmTurnsConfig) -> None:
        self.config = config
        self.max_turns, self.max_action_tokens = config.turns, config.max_action_tokens
        self.components = (
            Component(
                name="correct",
                weight=1 / config.turns,
                low=0,
                high=config.turns if config.delay else 1,
                about="answers that are right: of this turn, or with delay of all turns at the last one",
            ),
        )
        self._problems = draw_sets(self.name, config, config.turns)

    def problems(self, split: Split) -> Sequence[QuestionSet]:
        return self._problems[split]

    def start(self, problem: Problem) -> TurnsEpisode:
        assert isinstance(problem, QuestionSet)
        return TurnsEpisode(problem, self.config)

    def oracle(self, problem: Problem) -> list[str]:
        assert isinstance(problem, QuestionSet)
        return ["\n".join([*each.equations, f"#### {each.gold}"]) for each in problem.questions]
