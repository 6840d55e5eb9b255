"""A small honest task, and versions of it with one planted fault each."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from tasks.api import Component, Episode, FeedbackLevel, Message, Problem, Split, Task, Verdict

WORDS = ("amber", "birch", "cedar", "dunes", "ember", "fjord", "grove", "heath", "islet", "jetty", "knoll", "ledge")
WAYS = tuple(f"{one} {other}" for one in WORDS for other in WORDS)


@dataclass(kw_only=True)
class EchoConfig:
    name: str = "echo"
    feedback: FeedbackLevel = FeedbackLevel.diagnostic


@dataclass(frozen=True, kw_only=True, slots=True)
class EchoProblem(Problem):
    words: str


class EchoEpisode(Episode):
    """Say two words backwards; two tries."""

    def __init__(self, task: Echo, problem: EchoProblem) -> None:
        self.task, self.answer = task, problem.words[::-1]
        self.chat: list[Message] = [{"role": "user", "content": f"Backwards: {problem.words}"}]
        self.tries = 0
        self.solved = False

    @property
    def messages(self) -> list[Message]:
        return list(self.chat)

    @property
    def done(self) -> bool:
        return self.solved or self.tries == self.task.max_turns

    def step(self, action: str) -> Verdict:
        if self.done:
            raise RuntimeError("over")
        self.tries += 1
        self.solved = self.right(action)
        self.chat.append({"role": "assistant", "content": action})
        if not self.done:
            self.chat.append({"role": "user", "content": "Not so."})
        return Verdict(rewards=self.rewards(action), feedback=self.feedback(), spans={}, solved=self.solved)

    def right(self, action: str) -> bool:
        return action.strip() == self.answer

    def rewards(self, action: str) -> dict[str, float]:
        return {"right": float(self.solved)}

    def feedback(self) -> str:
        return "solved" if self.solved else "these are not the words backwards"

    def knowledge(self) -> Hashable:
        return self.tries


class Echo(Task):
    Config = EchoConfig
    name: ClassVar[str] = "echo"
    version: ClassVar[str] = "1"
    components = (Component(name="right", weight=1.0, low=0, high=1, about="the words are said backwards"),)
    instructions = "Say it backwards."
    max_turns = 2
    max_action_tokens = 20
    episode: ClassVar[type[EchoEpisode]] = EchoEpisode

    def __init__(self, config: EchoConfig) -> None:
        self.config = config

    def problems(self, split: Split) -> Sequence[EchoProblem]:
        first = {"train": 0, "val": 100, "test": 120}[split]
        chosen = WAYS[first : {"train": 100, "val": 120, "test": 144}[split]]
        return [EchoProblem(id=f"echo/{words}", split=split, words=words) for words in chosen]

    def start(self, problem: Problem) -> Episode:
        assert isinstance(problem, EchoProblem)
        return self.episode(self, problem)

    def oracle(self, problem: Problem) -> list[str]:
        assert isinstance(problem, EchoProblem)
        return [problem.words[::-1]]


class WrongOracle(Echo):
    def oracle(self, problem: Problem) -> list[str]:
        assert isinstance(problem, EchoProblem)
        return [problem.words]


class TestProblemsInTrain(Echo):
    __test__ = False

    def problems(self, split: Split) -> Sequence[EchoProblem]:
        if split != "train":
            return super().problems(split)
        leaked = [replace(each, split=split, id=f"{each.id} again") for each in super().problems("test")[:3]]
        return [*super().problems(split), *leaked]


class ShuffledSplits(Echo):
    def problems(self, split: Split) -> Sequence[EchoProblem]:
        return random.sample(super().problems(split), len(super().problems(split)))


class SplitByHash(Echo):
    """hash() of a text is another one in every process."""

    def problems(self, split: Split) -> Sequence[EchoProblem]:
        return sorted(super().problems(split), key=lambda problem: hash(problem.words))


class BeyondItsRange(Echo):
    class episode(EchoEpisode):
        def rewards(self, action: str) -> dict[str, float]:
            return {"right": 2.0 * self.solved}


class MoodyReferee(Echo):
    class episode(EchoEpisode):
        def rewards(self, action: str) -> dict[str, float]:
            return {"right": 1.0 if self.solved else random.random() / 2}


class TellsTheAnswer(Echo):
    class episode(EchoEpisode):
        def feedback(self) -> str:
            return f"it would have been {self.answer}"


class ShowsFeedback(Echo):
    class episode(EchoEpisode):
        def step(self, action: str) -> Verdict:
            verdict = super().step(action)
            if not self.done:
                self.chat[-1] = {"role": "user", "content": verdict.feedback}
            return verdict


COSTLY = (Component(name="right", weight=1.0, low=-1, high=1, about="right, or minus a half for a wrong try"),)


class PaysForGivingUp(Echo):
    """The collapse of DESIGN.md: a wrong try costs, and nonsense ends the game for less."""

    components = COSTLY

    class episode(EchoEpisode):
        def rewards(self, action: str) -> dict[str, float]:
            if not re.fullmatch(r"[a-z]+ [a-z]+", action):
                self.tries = 2
                return {"right": -0.2}
            return {"right": 1.0 if self.solved else -0.5}


class PaysForDawdling(Echo):
    class episode(EchoEpisode):
        def rewards(self, action: str) -> dict[str, float]:
            return {"right": 1.0 if self.solved else 0.1}


class PaysForLosing(Echo):
    class episode(EchoEpisode):
        def rewards(self, action: str) -> dict[str, float]:
            return {"right": 1.0 if self.solved else 0.6}


class ChokesOnJunk(Echo):
    class episode(EchoEpisode):
        def right(self, action: str) -> bool:
            first, second = action.split(" ")
            return f"{first} {second}" == self.answer


class HangsOnJunk(Echo):
    class episode(EchoEpisode):
        def right(self, action: str) -> bool:
            if len(action) > 4000:
                time.sleep(2.1)
            return super().right(action)


class BlankSolves(Echo):
    class episode(EchoEpisode):
        def right(self, action: str) -> bool:
            return action.strip() in self.answer


class NeverEnds(Echo):
    class episode(EchoEpisode):
        @property
        def done(self) -> bool:
            return self.solved


class NamesNoComponent(Echo):
    components = ()


@dataclass(kw_only=True)
class ShapelessConfig(EchoConfig):
    hardness = 3


class ShapelessTask(Echo):
    Config = ShapelessConfig
