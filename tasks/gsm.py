"""What the tasks of word problems share: a question with its gold answer, answered in one action."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tasks.api import Episode, FeedbackLevel, Message, Problem, RewardMode, Split, Task, Verdict, weighted
from tasks.solutions import SOLUTION_ADVICE, SOLUTION_COMPONENTS, judge


@dataclass(frozen=True, kw_only=True, slots=True)
class GsmProblem(Problem):
    """A question with its gold answer."""

    question: str
    gold: Fraction
    solution: str
    """A worked solution, for the oracle and for warm starts."""


class GsmEpisode(Episode):
    """One question, one action."""

    def __init__(self, problem: GsmProblem, feedback: FeedbackLevel) -> None:
        self._problem = problem
        self._feedback = feedback
        self._messages: list[Message] = [{"role": "user", "content": problem.question}]

    @property
    def messages(self) -> list[Message]:
        return list(self._messages)

    @property
    def done(self) -> bool:
        return len(self._messages) > 1

    def step(self, action: str) -> Verdict:
        if self.done:
            raise RuntimeError("the question was answered: start a new episode")
        self._messages.append({"role": "assistant", "content": action})
        return judge(action, self._problem.gold, self._feedback)

    def knowledge(self) -> Hashable:
        return self._problem.id


class GsmTask(Task):
    """Word problems, each solved in one action."""

    advice = SOLUTION_ADVICE
    max_turns = 1

    def __init__(
        self, problems: Sequence[GsmProblem], feedback: FeedbackLevel, reward: RewardMode, max_action_tokens: int
    ) -> None:
        self.components = weighted(SOLUTION_COMPONENTS, reward, "correct")
        self.max_action_tokens = max_action_tokens
        self._feedback = feedback
        self._problems: dict[Split, list[GsmProblem]] = {"train": [], "val": [], "test": []}
        for problem in problems:
            self._problems[problem.split].append(problem)

    def problems(self, split: Split) -> Sequence[GsmProblem]:
        return self._problems[split]

    def start(self, problem: Problem) -> GsmEpisode:
        assert isinstance(problem, GsmProblem)
        return GsmEpisode(problem, self._feedback)

    def oracle(self, problem: Problem) -> list[str]:
        assert isinstance(problem, GsmProblem)
        return [problem.solution]
